"""Seeds of a student that are trained side by side learn what each learns alone."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from latentdc.errors import InputError, RunError
from latentdc.evaluate import evaluate
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.loading import load_protocol, recipe_protocol
from latentdc.evaluate.soft_labels import Fixed
from latentdc.evaluate.steps import joined_images
from latentdc.evaluate.training import train_student, train_together
from latentdc.images import from_uint8
from latentdc.networks import new_network
from latentdc.networks.stacked import Stacked
from latentdc.preprocessing import Normalization, Standardization
from latentdc.recipe import Evaluate
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.recipe.networks import LIMITS
from latentdc.synthetic import SyntheticSet
from tests.evaluate.toys import TEST, protocol, setting, stripes
from tests.processes import run_two

SEEDS = (0, 1, 2)
STACKED = [name for name, limits in LIMITS.items() if limits.stacks]
OPTIONS = {"normalization": Normalization()}


def both_ways(sets, network, chosen, soft=(None,) * 3, see=None):
    """The students of three seeds, trained together and each alone."""
    common = setting(normalization=see or Normalization())
    together = train_together(sets, network, chosen, common, seeds=SEEDS, soft=soft)
    alone = [
        train_student(one, network, chosen, common, seed=seed, soft=labels)
        for one, seed, labels in zip(sets, SEEDS, soft, strict=True)
    ]
    return together, alone


def assert_alike(together, alone, tolerance):
    for one, other in zip(together, alone, strict=True):
        expected = other.state_dict()
        assert one.state_dict().keys() == expected.keys() and not one.training
        for key, value in one.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=tolerance, atol=tolerance)


def drawn(seed, resolution=8):
    return SyntheticSet.from_real(stripes(12, seed=10 + seed, resolution=resolution))


@pytest.mark.parametrize("name", STACKED)
def test_a_step_of_every_student_is_that_of_each_seed_alone(name):
    limits = LIMITS[name]
    narrow = f"{name}@{4 * limits.width_multiple}" if limits.widths else name
    settings = {"students": [narrow], "steps": 1, "lr": 0.001, "batch": 9}
    if limits.kind == "vectors":
        source = torch.Generator().manual_seed(0)
        values, labels = torch.randn(12, 5, generator=source), torch.arange(12) % 3
        sets = [SyntheticSet(values, labels, ("a", "b", "c"))] * 3
        chosen, see = protocol(**settings), Standardization(torch.zeros(5), torch.ones(5), "")
    else:
        sets = [drawn(seed, max(16, limits.smallest)) for seed in SEEDS]
        chosen, see = protocol(augment="color_crop_flip", **settings), Normalization()
    together, alone = both_ways(sets, narrow, chosen, see=see)
    assert_alike(together, alone, 1e-5 if name == "resnet56" else 1e-6)  # 55 layers of rounding
    size = {"num_classes": 3, "resolution": sets[0].images.shape[-1]}
    for seed, one, other in zip(SEEDS, together, alone, strict=True):
        begun = new_network(narrow, "student", seed=seed, **size)
        moved = [p - q for p, q in zip(other.parameters(), begun.parameters(), strict=True)]
        apart = [p - q for p, q in zip(other.parameters(), one.parameters(), strict=True)]
        assert length(apart) < (1e-2 if name == "resnet56" else 1e-3) * length(moved)


@pytest.mark.parametrize("name", STACKED)
def test_stacked_networks_are_the_same_functions_in_float64(name):
    limits = LIMITS[name]
    narrow = f"{name}@{2 * limits.width_multiple}" if limits.widths else name
    side = max(16, limits.smallest)
    size = {"num_classes": 3, "resolution": side}
    alone = [new_network(narrow, seed=seed, **size).double() for seed in SEEDS]
    stacked = Stacked(alone)
    shape = (side,) if limits.kind == "vectors" else (3, side, side)
    source = torch.Generator().manual_seed(0)
    images = torch.randn(3, 4, *shape, generator=source, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    for one, seen in zip(alone, images, strict=True):
        F.cross_entropy(one(seen), labels).backward()
    joined = stacked(images.flatten(0, 1))
    (3 * F.cross_entropy(joined, labels.repeat(3))).backward()
    for key, weight in stacked.trunk.named_parameters():
        expected = torch.cat([one.get_parameter(key).grad for one in alone])
        torch.testing.assert_close(weight.grad, expected, rtol=1e-7, atol=1e-9)


def length(parts):
    return float(torch.cat([part.detach().flatten() for part in parts]).norm())


MIXED = Views(pad=1, flip=True, mix="cutmix")


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9},
        {"ema": 0.9, "ema_every": "step", "update_every": 2},
        {"momentum": 0.0, "decay": "matrices", "weight_decay": 0.1},
        {"views": MIXED},
        {"subset": 0.5, "batch": 4},
        {"batch": 5, "augment": "color+crop+cutout"},
        {"schedule": "linear", "nesterov": True, "labels": Labels(smoothing=0.1)},
    ],
    ids=lambda changes: "-".join(changes),
)
@pytest.mark.parametrize("network", ["convnet3@4", "resnet20@2"])
def test_steps_under_every_setting_are_those_of_each_seed_alone(changes, network):
    chosen = protocol(**{"steps": 3, "lr": 0.01, **changes})
    together, alone = both_ways([drawn(seed) for seed in SEEDS], network, chosen)
    assert_alike(together, alone, 2e-5)
    weights = [one.linear.weight for one in together]
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


def test_students_of_adamw_give_the_same_logits():
    """Not the same weights: it makes whole steps of gradients that are rounding alone."""
    chosen = protocol(steps=3, lr=0.001, optimizer="adamw")
    together, alone = both_ways([drawn(seed) for seed in SEEDS], "convnet3@4", chosen)
    images = Normalization()(from_uint8(TEST.images))
    with torch.no_grad():
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one(images), other(images), rtol=1e-3, atol=1e-4)


def test_weights_and_soft_labels_are_those_of_the_seeds_sets():
    own = Labels(source="fixed", loss="kl", temperature=4, hard_weight=0.5, teachers=[Teacher()])
    source = torch.Generator().manual_seed(0)
    tables = [Fixed(torch.randn(12, 3, generator=source), own) for _ in SEEDS]
    sets = [replace(drawn(seed), weights=torch.rand(12, generator=source) + 0.1) for seed in SEEDS]
    chosen = protocol(steps=3, lr=0.01, batch=5, views=MIXED, labels=own)
    assert_alike(*both_ways(sets, "convnet3@4", chosen, tables), 1e-5)


def test_seeds_of_one_set_share_its_images_in_memory():
    one = drawn(0)
    images = joined_images([one] * 3, torch.device("cpu"))
    assert len(images) == 36 and images.source is one.images
    chosen = protocol(steps=3, lr=0.01)
    assert_alike(*both_ways([one] * 3, "convnet3@4", chosen), 1e-5)


SLOW = protocol(seeds=4, steps=80, batch=12, lr=0.02, students=["convnet3@8"])
MANY = stripes(600, seed=1)


@pytest.mark.parametrize("sets", [stripes(12), drawn], ids=["one set", "a set for each seed"])
def test_a_whole_evaluation_gives_the_same_but_for_the_drift_of_rounding(sets):
    alone = evaluate_sets({"mine": sets}, MANY, SLOW, **OPTIONS)
    together = evaluate_sets({"mine": sets}, MANY, replace(SLOW, together=3), **OPTIONS)
    for one, other in zip(together, alone, strict=True):
        assert one.accuracies == pytest.approx(other.accuracies, abs=0.05)
        assert one.mean == pytest.approx(other.mean, abs=0.02)
        assert min(one.accuracies) > 0.5
        assert replace(one, accuracies=other.accuracies) == other


def test_together_is_a_setting_without_a_say_in_hash_or_name():
    plain = load_protocol("dm")
    changed = load_protocol("dm", changes=["together=5"])
    assert changed == replace(plain, together=5) == load_protocol("dm", together=5)
    assert changed.hash == plain.hash
    assert recipe_protocol(Evaluate(protocol="dm", together=5)) == changed
    other = load_protocol("dm", changes=["together=5", "lr=0.02"])
    assert other.name == "dm with other lr" and other.hash != plain.hash


def test_only_missing_seeds_are_trained_and_files_of_either_way_are_taken(tmp_path, monkeypatch):
    train, asked = evaluate.train_together, []

    def counted(*others, seeds, **options):
        asked.append(list(seeds))
        return train(*others, seeds=seeds, **options)

    monkeypatch.setattr(evaluate, "train_together", counted)
    five = protocol(seeds=5, together=3)
    call = {"trainings": tmp_path, **OPTIONS}
    first = evaluate_sets(stripes(12), TEST, five, **call)
    assert asked == [[0, 1, 2], [3, 4]]
    for seed in (1, 2, 4):
        next(tmp_path.glob(f"*-{seed}.json")).unlink()
    again = evaluate_sets(stripes(12), TEST, five, **call)
    assert asked[2:] == [[1, 2, 4]]
    assert again == first
    (alone,) = evaluate_sets(stripes(12), TEST, replace(five, together=1), **call)
    assert alone.accuracies == first[0].accuracies and len(asked) == 3


def test_what_was_killed_in_the_midst_of_a_group_is_done_again(tmp_path):
    told = []

    def kill(measures):
        told.append(measures)
        if len(told) == 8:  # the first two seeds have 3 steps each
            raise KeyboardInterrupt

    four = protocol(seeds=4, together=2)
    call = {"trainings": tmp_path, **OPTIONS}
    with pytest.raises(KeyboardInterrupt):
        evaluate_sets(stripes(12), TEST, four, on_step=kill, **call)
    assert sorted(path.stem[-1] for path in tmp_path.glob("*.json")) == ["0", "1"]
    seen = [(one["seed"], one["step"]) for one in told[:6]]
    assert seen == [(seed, step) for step in range(3) for seed in (0, 1)]
    killed = evaluate_sets(stripes(12), TEST, four, **call)
    assert killed == evaluate_sets(stripes(12), TEST, four, **OPTIONS)


def test_two_processes_share_out_groups_of_seeds_and_say_that_none_is_divided(tmp_path, capfd):
    run_two("tests.evaluate.two_together", tmp_path)
    told = "evaluate.together=2 leaves the seeds of convnet3@4 to one process for each set"
    assert capfd.readouterr().err.count(told) == 1  # once the trainings are fewer, and long
    one, other = (json.loads((tmp_path / f"{rank}.txt").read_text()) for rank in (0, 1))
    assert one["accuracies"] == other["accuracies"]
    assert sorted(one["groups"] + other["groups"]) == [[0, 1], [2, 3]]
    options = {**OPTIONS, "accelerator": Accelerator()}
    (alone,) = evaluate_sets(stripes(12), TEST, protocol(seeds=4, together=2), **options)
    assert list(alone.accuracies) == one["accuracies"]


def test_each_seed_is_told_its_own_loss():
    told = {1: [], 2: []}
    for together, losses in told.items():
        chosen = protocol(steps=2, together=together)
        evaluate_sets(stripes(12), TEST, chosen, on_step=losses.append, **OPTIONS)
    by_seed = [sorted(losses, key=lambda one: one["seed"]) for losses in told.values()]
    for one, other in zip(*by_seed, strict=True):
        assert one == {**other, "loss": pytest.approx(other["loss"], rel=1e-4)}


def test_a_seed_that_diverges_is_named():
    sets = [drawn(0), drawn(1)]
    spoiled = from_uint8(sets[1].images)
    sets = [replace(one, images=from_uint8(one.images)) for one in sets]
    object.__setattr__(sets[1], "images", spoiled.fill_(torch.nan))
    both = {"seeds": (0, 1), "soft": (None, None)}
    with pytest.raises(RunError, match="convnet3@4 with seed 1 ended with a loss of nan"):
        train_together(sets, "convnet3@4", protocol(), setting(), **both)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"students": ["vit@8"]}, "together=2 trains seeds of convnet, .* and vit@8 is none of"),
        ({"students": ["torchvision/resnet18"]}, "and torchvision/resnet18 is none of these"),
        ({"infobatch": 0.5}, "together: each seed then has steps of its own; take 1"),
        ({"together": 0}, "together is at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        protocol(**{"together": 2, **changes})


def test_sets_and_precisions_that_do_not_fit_are_refused_before_any_training(monkeypatch):
    monkeypatch.setattr(evaluate, "train_together", lambda *_, **__: pytest.fail("trained"))
    two = protocol(together=2)
    sets = {"mine": stripes(9), "random": lambda seed: stripes(9 + 3 * seed)}
    with pytest.raises(InputError, match=r"random has another number of images, .*together=1"):
        evaluate_sets(sets, TEST, two, **OPTIONS)
    half = Accelerator()
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    with pytest.raises(InputError, match=r"evaluate\.together=2 and fp16 exclude each other"):
        evaluate_sets(stripes(9), TEST, two, accelerator=half, **OPTIONS)
    with pytest.raises(InputError, match=r"evaluate\.together is at least 1, got 0"):
        Evaluate(together=0)
