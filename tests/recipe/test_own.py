"""Code of one's own by name and by object: networks, objectives, priors, data, methods."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

import latentdc
from latentdc import config
from latentdc.data.dataset import random_images
from latentdc.distill import main as distill
from latentdc.errors import InputError
from latentdc.evaluate.__main__ import main as evaluate
from latentdc.evaluate.evaluate import score_sets
from latentdc.evaluate.setting import Setting
from latentdc.networks import build_network
from latentdc.networks.build import new_network, outline, try_network
from latentdc.preprocessing import Normalization
from latentdc.priors.load import load_prior
from latentdc.recipe import Data, ObjectiveSettings, PriorSettings, Recipe
from latentdc.recipe.own import name_of, own_names, resolve
from latentdc.synthetic import SyntheticSet
from latentdc.training import needs_two_images
from tests.priors import text_models

SIZES = {"num_classes": 3, "resolution": 8}

CODE = '''
import torch
from torch import nn

import latentdc


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(4 * 16 * 16, num_classes)

    def forward(self, images):
        return self.head(self.body(images))


def match_means(student, real, synthetic, label):
    real, synthetic = student.features(real).mean(0), student.features(synthetic).mean(0)
    return (real.detach() - synthetic).square().sum()


def splits(resolution):
    return latentdc.open_splits(latentdc.Data(resolution=resolution))


class Half:
    """Pixels at half of their size."""

    has_noise, class_names, identity = False, None, "half"

    def __init__(self, resolution):
        self.resolution, self.latent_shape = resolution, (3, resolution // 2, resolution // 2)

    def encode(self, images):
        return nn.functional.avg_pool2d(images, 2)

    def condition(self, labels):
        return None

    def decode(self, z, c, noise):
        return nn.functional.interpolate(z, scale_factor=2)
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module in the working folder; its name is not one of the installed packages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_test.py").write_text(CODE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "mine_for_test.py"
    sys.modules.pop("mine_for_test", None)


OWN = [
    "data.source=mine_for_test:splits",
    "objective.network=mine_for_test:Net",
    "objective.kind=mine_for_test:match_means",
    "prior.kind=mine_for_test:Half",
    "prior.weights=null",
    "prune.keep=1",
    "evaluate.students=[mine_for_test:Net]",
    *("evaluate.steps=1", "evaluate.seeds=1", "evaluate.rows=[distilled,random]"),
    *("distill.steps=2", "distill.lr_c=0", "threads=1"),
]


def test_a_recipe_names_data_network_objective_and_prior_of_ones_own(mine, capsys):
    distill(["digits_ipc1", *OWN])
    made = SyntheticSet.from_pretrained("runs/digits_ipc1")
    assert made.z.shape == (10, 3, 8, 8) and made.images.shape == (10, 3, 16, 16)
    facts = made.provenance
    assert facts["objective"] == name_of("mine_for_test:match_means")
    results = json.loads(Path("runs/digits_ipc1/results.json").read_text())
    assert name_of("mine_for_test:Net") in json.dumps(results)
    folder = str(mine.parent)
    assert folder in sys.path  # of `latentdc`, as it is of `python -m`

    distill(["digits_ipc1", *OWN])  # goes on, as nothing has changed
    mine.write_text(CODE + "# another edition\n")
    del sys.modules["mine_for_test"]
    with pytest.raises(SystemExit) as end:
        distill(["digits_ipc1", *OWN])
    assert end.value.code == 2
    assert "mine_for_test" in capsys.readouterr().err


SWITCHES = """
torch.set_default_dtype(torch.float64)
torch.set_float32_matmul_precision("medium")
"""


def test_what_a_module_switches_when_it_is_imported_moves_no_result(mine, monkeypatch):
    def made(folder):
        distill(["digits_ipc1", *OWN, f"output={folder}"])
        return SyntheticSet.from_pretrained(f"{folder}/synthetic").z

    wanted = made("plain")
    mine.write_text(CODE + SWITCHES)
    del sys.modules["mine_for_test"]
    try:
        assert made("switched").equal(wanted)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


def test_code_in_the_recipe_of_a_set_is_refused_and_not_imported(mine, capsys):
    distill(["digits_ipc1", *OWN])
    mine.write_text("raise SystemExit('imported')")
    del sys.modules["mine_for_test"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        evaluate(["runs/digits_ipc1"])
    told = capsys.readouterr().err
    assert "data.source=mine_for_test:splits#" in told and "is not imported" in told
    assert "mine_for_test" not in sys.modules
    recipe = config.load(Recipe, Path("runs/digits_ipc1/recipe.yaml"))
    changes = replace(recipe.evaluate, students=None, changes=["students=[mine_for_test:Net]"])
    recipe = replace(recipe, data=Data(), prior=PriorSettings(kind="pixel"), evaluate=changes)
    config.save(recipe, Path("runs/digits_ipc1/recipe.yaml"))
    with pytest.raises(SystemExit):
        evaluate(["runs/digits_ipc1"])
    assert "evaluate.changes in the recipe of" in capsys.readouterr().err
    assert "mine_for_test" not in sys.modules


def test_a_name_keeps_the_hash_of_its_source_without_an_import(mine):
    name = name_of("mine_for_test:Net")
    assert name.startswith("mine_for_test:Net#") and len(name) == len("mine_for_test:Net#") + 12
    assert "mine_for_test" not in sys.modules
    settings = ObjectiveSettings(network="mine_for_test:Net")
    assert settings.network == name and list(own_names(settings)) == [("network", name)]
    assert config.load(Recipe, _recipe(mine, settings)).objective.network == name
    mine.write_text(CODE + "\n")
    with pytest.raises(InputError, match="the source of mine_for_test has changed since"):
        resolve(name, "network")


def _recipe(mine, settings):
    path = mine.parent / "mine.yaml"
    path.write_text(config.dump({"objective": {"network": settings.network}}))
    return path


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "mine_for_test has no Net; it has"),
        ("def Net(", "cannot import mine_for_test .SyntaxError"),
        ("import no_such_module", "cannot import mine_for_test .ModuleNotFoundError: No module"),
        ("raise SystemExit(3)", "cannot import mine_for_test .SystemExit: 3"),
        (
            "Net = nn.Linear(2, 3)",
            "made already, and each training begins with new weights",
        ),
        ("Net = 3", "is a int, and a function or class is called"),
        ("def Net(width): ...", "wants width; it is called with num_classes, resolution"),
        ("def Net(num_classes): 1 / 0", "fails when it is called: ZeroDivisionError"),
        ("def Net(): return 3", "made a int; it makes an nn.Module"),
        ("Net = nn.Identity", "ends in an nn.Linear"),
        (
            "def Net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))",
            r"logits of shape \(2, 5\).*for 2 images and 3 classes",
        ),
        (
            "def Net(): return nn.Sequential(nn.Flatten(), nn.Linear(9, 3))",
            "fails on two images of 8 px in 3 classes: RuntimeError",
        ),
        (
            "class Nan(nn.Module):\n    forward = lambda self, x: x * float('nan')"
            "\ndef Net(): return nn.Sequential(nn.Flatten(), Nan(), nn.Linear(192, 3))",
            "not finite",
        ),
        (
            "SHARED = nn.Conv2d(3, 1, 1)"
            "\ndef Net(): return nn.Sequential(SHARED, nn.Flatten(), nn.Linear(64, 3))",
            r"share a weight \(0\.weight\).*make that anew in each call",
        ),
        (
            "ONE = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(64, 3))"
            "\ndef Net(): return ONE",
            r"share a weight \(0\.weight\).*make that anew in each call",
        ),
        (
            "def Net(): return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), "
            "nn.Linear(192, 3))",
            "changes the images that it is given",
        ),
    ],
)
def test_a_network_that_cannot_be_used_is_one_line(mine, code, told):
    mine.write_text(f"from torch import nn\n{code}")
    with pytest.raises(InputError, match=told) as refused:
        build_network(name_of("mine_for_test:Net"), **SIZES)
    assert "\n" not in str(refused.value)


def student(num_classes, resolution):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * resolution**2, num_classes),
    )


def squared(network, real, synthetic, label):
    return (network(real).mean(0) - network(synthetic).mean(0)).square().sum()


OTHERWISE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Flatten(), nn.Linear(192, 3)

    def forward(self, images):
        logits = self.head(self.body(images))
        return {} if self.training else logits
"""


@pytest.mark.parametrize(
    ("code", "keys", "told"),
    [
        (OTHERWISE.format("(logits, logits)"), {}, "fails on two images.*TypeError"),
        (OTHERWISE.format("logits.log_softmax(1)"), {}, "goes on .* in training mode"),
        (
            "def Net(): return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 1, 1)), "
            "nn.Flatten(), nn.Linear(64, 3))",
            {"ema": 0.9, "ema_every": "update"},
            "cannot be copied, which a protocol with `ema` does: RuntimeError",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_a_student_that_cannot_be_trained_is_one_line_before_that(mine, code, keys, told):
    mine.write_text(f"from torch import nn\n{code}")
    levels = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    data = latentdc.Dataset.from_arrays(levels, [0, 1, 2] * 2)
    name = "mine_for_test:Net"
    protocol = latentdc.load_protocol("quick", students=[name], seeds=1, steps=1)
    with pytest.raises(InputError, match=told) as refused:
        latentdc.evaluate_sets(
            {"mine": SyntheticSet.from_real(data)},
            data,
            replace(protocol, **keys),
            normalization=Normalization(),
        )
    assert "\n" not in str(refused.value)


def test_weights_of_lazy_layers_are_drawn_by_key_as_others_are(mine):
    mine.write_text(
        "from torch import nn\ndef Net(): return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), "
        "nn.LazyLinear(3))"
    )

    def weights(seed):
        network = new_network(name_of("mine_for_test:Net"), "a", seed=seed, **SIZES)
        return network.linear.weight.detach()

    assert weights(0).equal(weights(0)) and not weights(0).equal(weights(1))


@pytest.mark.parametrize(
    "code",
    [
        "def Net(): return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)), "
        "nn.Dropout(), nn.Flatten(), nn.Linear(144, 3))",
        "FROZEN = nn.Conv2d(3, 4, 3).requires_grad_(False)"
        "\ndef Net(): return nn.Sequential(FROZEN, nn.Flatten(), nn.Linear(144, 3))",
        "SHARED = nn.BatchNorm2d(3, affine=False, track_running_stats=False)"
        "\ndef Net(): return nn.Sequential(SHARED, nn.Flatten(), nn.Linear(192, 3))",
    ],
)
def test_networks_that_keep_a_state_or_share_frozen_weights_are_trained(mine, code):
    mine.write_text(f"from torch import nn\n{code}")
    try_network(name_of("mine_for_test:Net"), **SIZES, trains=True)


def test_networks_that_share_a_state_which_training_moves_are_refused(mine):
    mine.write_text(
        "from torch import nn\nSHARED = nn.BatchNorm2d(3, affine=False)"
        "\ndef Net(): return nn.Sequential(SHARED, nn.Flatten(), nn.Linear(192, 3))"
    )
    name = name_of("mine_for_test:Net")
    with pytest.raises(InputError, match=r"networks that share 0\.running_mean.*in each call"):
        try_network(name, **SIZES, trains=True)
    try_network(name, **SIZES)  # as it is, no training moves it


def test_a_function_of_python_is_a_network_as_its_name_is():
    name = name_of(student)
    assert name.startswith("tests.recipe.test_own:student#")
    network = new_network(name, "student", **SIZES, seed=0)
    images = torch.zeros(2, 3, 8, 8)
    torch.testing.assert_close(network.linear(network.features(images)), network(images))
    assert {p.device.type for p in outline(name, **SIZES).parameters()} == {"meta"}
    assert not needs_two_images(name, 3, 8)
    again = new_network(name, "student", **SIZES, seed=0)
    assert torch.equal(again.linear.weight, network.linear.weight)


def test_a_lambda_is_known_to_its_process_alone_and_that_is_said(capsys):
    made = ObjectiveSettings(network=lambda num_classes: student(num_classes, 8))
    out, err = capsys.readouterr()
    assert "latentdc: note: lambda has no source file" in err and not out
    assert made.network.startswith("here:lambda#")
    assert build_network(made.network, **SIZES)(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
    again = ObjectiveSettings(network=lambda num_classes: student(num_classes, 8))
    assert again.network != made.network
    with pytest.raises(InputError, match="a process that has ended"):
        resolve("here:lambda#000000000000", "network")


def settings_of(kind):
    return ObjectiveSettings(kind=kind, network=student, augment=None, batch=4)


def accumulated(objective, images, labels, real):
    images = images.clone().requires_grad_()
    loss = objective.accumulate(0, images, labels, lambda step, label: real[label])
    return loss, images.grad


def test_an_objective_of_ones_own_is_the_sum_of_its_classes():
    objective = latentdc.build_objective(settings_of(squared), **SIZES)
    source = torch.Generator().manual_seed(0)
    images, real = torch.randn(6, 3, 8, 8, generator=source), torch.randn(3, 4, 3, 8, 8)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss, gradient = accumulated(objective, images, labels, real)
    network = objective.students.of(0, images, labels, lambda step, label: real[label])
    see = Normalization()
    leaf = images.clone().requires_grad_()
    expected = sum(
        squared(network, see(real[k]), see(leaf[2 * k : 2 * k + 2]), k) for k in range(3)
    )
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, leaf.grad)


def no_loss(network, real, synthetic, label):
    return network(synthetic)


def no_gradient(network, real, synthetic, label):
    return network(real).sum()


def infinite(network, real, synthetic, label):
    return network(synthetic).sum() / 0


def broken(network, real, synthetic, label):
    raise KeyError("two\nlines")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (no_loss, r"loss of shape \(\), got \(2, 3\)"),
        (no_gradient, "does not depend on the synthetic images"),
        (infinite, "is not finite"),
        (broken, "fails on random images: KeyError"),
        (nn.Flatten, "is a function"),
    ],
)
def test_an_objective_that_cannot_be_used_is_one_line(kind, told):
    with pytest.raises(InputError, match=told) as refused:
        latentdc.build_objective(settings_of(kind), **SIZES)
    assert "\n" not in str(refused.value)


def test_a_pipeline_of_diffusers_in_memory_is_the_prior_of_its_folder(tmp_path):
    pipeline = text_models.save_sd(tmp_path)
    names = {"resolution": 8, "class_names": ["cat", "dog"]}
    loaded, in_memory = (
        load_prior(PriorSettings(weights=weights, steps=2, prompt="{}"), **names)
        for weights in (str(tmp_path), pipeline)
    )
    z, noise = torch.randn(2, 1, *loaded.latent_shape)
    c = loaded.condition(torch.tensor([1]))
    torch.testing.assert_close(in_memory.decode(z, c, noise), loaded.decode(z, c, noise))


class Pixels:
    has_noise, class_names, identity = False, None, "pixels of mine"

    def __init__(self, resolution):
        self.resolution, self.latent_shape = resolution, (3, resolution, resolution)

    def encode(self, images):
        return images.clone()

    def condition(self, labels):
        return None

    def decode(self, z, c, noise):
        return z * 1.0


class Small(Pixels):
    def decode(self, z, c, noise):
        return z[..., 1:, 1:] * 1.0


class Nan(Pixels):
    def decode(self, z, c, noise):
        return z / 0


class NoWay(Pixels):
    encode = None


class Noisy(Pixels):
    has_noise = True

    def decode(self, z, c, noise):
        return z + noise


def test_a_prior_of_ones_own_is_tried_without_draws_from_the_callers_stream():
    before = torch.get_rng_state()
    assert load_prior(PriorSettings(kind=Noisy), resolution=8).has_noise
    assert torch.equal(before, torch.get_rng_state())


def test_a_prior_of_ones_own_is_tried_there_and_back():
    prior = load_prior(PriorSettings(kind=Pixels), resolution=8)
    assert isinstance(prior, Pixels) and prior.latent_shape == (3, 8, 8)
    assert load_prior(PriorSettings(kind=prior), resolution=8) is prior
    for kind, told in (
        (Small, r"decode gives \(2, 3, 7, 7\) of 2 images of 8 px"),
        (Nan, "finite values"),
        (NoWay, "fails on two random images: TypeError"),
        (dict, "has no resolution"),
    ):
        with pytest.raises(InputError, match=told):
            load_prior(PriorSettings(kind=kind), resolution=8)


def test_a_protocol_trains_a_student_of_ones_own_and_tells_of_its_steps():
    train, test = latentdc.open_splits(Data())
    protocol = latentdc.load_protocol("quick", students=[student], seeds=1, steps=3)
    told = []
    setting = Setting(
        test=test,
        normalization=Normalization(),
        accelerator=Accelerator(),
        on_step=lambda step: told.append((step["student"], step["seed"], step["step"])),
    )
    random = SyntheticSet.from_real(random_images(train, 1, 0))
    (result,) = score_sets({"random": random}, protocol, setting)
    assert result.student == name_of(student)
    assert told == [(name_of(student), 0, step) for step in range(3)]


def test_the_steps_of_a_scorer_are_told_and_what_is_raised_ends_it():
    train, _ = latentdc.open_splits(Data())
    told = []

    def stop(step):
        told.append((step["epoch"], step["step"]))
        assert step["loss"] > 0
        if len(told) == 7:
            raise KeyboardInterrupt

    scorer = latentdc.Scorer(network="convnet3@8", epochs=2)
    with pytest.raises(KeyboardInterrupt):
        latentdc.prune_dataset(train, latentdc.Prune(keep=0.5, scorer=scorer), on_step=stop)
    assert told == [*((0, step) for step in range(6)), (1, 6)]


def my_el2n(logits, labels):
    return (logits.softmax(1) - nn.functional.one_hot(labels, logits.shape[1])).norm(dim=1)


def lowest_hashes(hashes):
    return hashes.double().argsort().argsort().float()


def whole_numbers(labels):
    return torch.arange(len(labels))


def doubles(logits, labels):
    return logits.double().mean(dim=1)


def an_array(labels):
    return labels.numpy()


def first_ones(features, count):
    return torch.arange(count)


def one_score(logits, labels):
    return logits.mean()


def strange(pixels):
    return pixels


def pruned(score):
    train, _ = latentdc.open_splits(Data())
    scorer = latentdc.Scorer(network="convnet3@16", epochs=2, lr=0.05)
    return train, latentdc.prune_dataset(
        train, latentdc.Prune(score=score, keep=0.3, scorer=scorer)
    )


def test_a_rule_of_ones_own_scores_as_the_same_rule_here_does():
    train, _ = latentdc.open_splits(Data())
    scorer = latentdc.Scorer(network="convnet3@16", epochs=2, lr=0.05)
    table = latentdc.score_dataset(train, latentdc.Prune(score=my_el2n, scorer=scorer))
    mine, theirs = table.column(name_of(my_el2n)), table.column("el2n")
    torch.testing.assert_close(mine, theirs)


def test_a_rule_sees_what_its_arguments_are_called():
    train, mine = pruned(lowest_hashes)
    for label in range(10):
        hashes = train.hashes[train.labels == label].sort().values
        kept = mine.hashes[mine.labels == label].sort().values
        assert kept.tolist() == hashes[: len(kept)].tolist()
    for score in (whole_numbers, doubles):
        assert pruned(score)[1].scores.dtype == torch.float32
    _, chosen = pruned(first_ones)
    assert len(chosen) == len(mine)


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (one_score, r"a tensor of shape \(\d+,\), got Tensor"),
        (an_array, r"a tensor of shape \(\d+,\), got ndarray"),
        (strange, "takes pixels; a rule sees hashes, labels, seed; or"),
    ],
)
def test_a_rule_that_cannot_be_used_is_one_line(score, told):
    with pytest.raises(InputError, match=told):
        pruned(score)


def test_timm_has_students(monkeypatch):
    timm = pytest.importorskip("timm")
    network = build_network("timm/resnet10t", num_classes=3, resolution=32)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert timm.is_model("resnet10t")
    with pytest.raises(InputError, match=r"no model 'resnet10x'; did you mean 'resnet10t'"):
        build_network("timm/resnet10x", num_classes=3, resolution=32)


def test_without_timm_its_students_say_how_to_install_it(monkeypatch):
    monkeypatch.setattr("latentdc.recipe.networks.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "latentdc\[timm\]"'):
        build_network("timm/resnet10t", num_classes=3, resolution=32)
