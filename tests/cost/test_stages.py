"""Every stage of a run against its work written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from latentdc.cost import Hardware, stages
from latentdc.cost.networks import evaluating_rows
from latentdc.cost.stages import Sizes, classifier, published_student, student, works
from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.loading import load_protocol
from latentdc.networks.build import outline
from latentdc.preprocessing import Normalization
from latentdc.priors.memory import kept_bytes
from latentdc.prune.dynamics import Workspace
from latentdc.prune.features import FEATURES
from latentdc.prune.prune import prune_dataset
from latentdc.recipe import (
    Data,
    Denoising,
    Evaluate,
    Experts,
    Matching,
    ObjectiveSettings,
    PriorSettings,
    Prune,
    Rded,
    Recipe,
    Sampling,
    Scorer,
    Select,
    Selection,
)
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.recipe.methods import MethodSettings
from latentdc.recipe.networks import input_shape
from latentdc.recipe.sampling import InfluenceSettings
from latentdc.run import run
from tests.priors import small

TRAIN, TEST, CLASSES = 1437, 360, 10  # of digits
# Three convolutions of width 8 at 8, 4 and 2 px, and a linear layer of 8 values of 1 px.
CONVNET = 9 * 3 * 8 * 64 + 9 * 8 * 8 * (16 + 4) + 8 * 10
STEP = 3 * CONVNET - 9 * 3 * 8 * 64  # forward and back, without a gradient of the image
WEIGHTS = 9 * 3 * 8 + 2 * 9 * 8 * 8 + 3 * 8 + 3 * 2 * 8 + 8 * 10 + 10
PIXEL = Recipe(
    data=Data(resolution=8),
    prior=PriorSettings(kind="pixel"),
    objective=ObjectiveSettings(network="convnet3@8", batch=20),
    distill=Matching(steps=7, lr_z=1.0),
    evaluate=Evaluate(students=["convnet3@8"], seeds=2, steps=10, rows=["distilled", "random"]),
    ipc=3,
)


def of(recipe: Recipe, **hardware) -> dict:
    return {stage.name: stage for stage in stages(recipe, Hardware(**hardware))}


def test_each_seed_of_each_row_is_trained_and_tested():
    found = of(PIXEL)["evaluating convnet3@8"]
    assert found.work == 2 * 2 * (10 * 30 * STEP + TEST * CONVNET)
    full = replace(PIXEL, evaluate=replace(PIXEL.evaluate, rows=["random", "full"]))
    batch = 64  # of the protocol, beyond the 30 images of a set
    assert of(full)["evaluating convnet3@8"].work == (
        2 * (10 * (30 + batch) * STEP + 2 * TEST * CONVNET)
    )


def test_seeds_side_by_side_take_the_memory_of_all_of_them():
    name = "evaluating convnet3@8"
    alone = of(PIXEL)[name]
    both = of(replace(PIXEL, evaluate=replace(PIXEL.evaluate, together=5)))[name]  # of 2 seeds
    assert both.memory == 2 * alone.memory and both.work == alone.work
    assert "2 seeds side by side" in both.told and "side by side" not in alone.told


def test_an_evaluation_of_nothing_is_no_stage():
    nothing = replace(PIXEL, evaluate=Evaluate(rows=[]))
    assert not [name for name in of(nothing) if name.startswith("evaluating")]


def test_teachers_are_trained_and_asked_for_every_view():
    labels = "{source: online, loss: kl, teachers: [{network: convnet3@8, epochs: 4}]}"
    changes = [f"labels={labels}", "augment=null", "views.flip=true"]
    found = of(replace(PIXEL, evaluate=replace(PIXEL.evaluate, changes=changes)))
    assert found["teachers"].work == 4 * TRAIN * STEP + TEST * CONVNET
    assert found["teachers"].disk == {"teachers": 4 * WEIGHTS}
    hard = 2 * 2 * (10 * 30 * STEP + TEST * CONVNET)
    assert found["evaluating convnet3@8"].work == hard + 2 * 2 * 10 * 30 * CONVNET
    assert found["labelling"].work == 2 * 17 * 30 * CONVNET  # compared, some 500 of each row


def test_stored_labels_are_made_once_for_each_set_and_take_disk():
    labels = "{source: stored, loss: kl, epochs: 5, teachers: [{network: convnet3@8, epochs: 4}]}"
    changes = [f"labels={labels}", "augment=null", "views.flip=true"]
    found = of(replace(PIXEL, evaluate=replace(PIXEL.evaluate, changes=changes)))
    views = (1 + 2) * 5 * 30  # one distilled set, and a random one for each seed
    compared = 2 * 17 * 30
    assert found["labelling"].work == (views + compared) * CONVNET
    assert found["labelling"].disk == {"soft labels": views * CLASSES * 2}
    assert found["evaluating convnet3@8"].work == 2 * 2 * (10 * 30 * STEP + TEST * CONVNET)


@pytest.mark.parametrize("changes", [True, False])
@pytest.mark.parametrize("source", ["stored", "online", "fixed"])
def test_an_evaluation_with_soft_labels_takes_what_was_counted(source, changes, tmp_path):
    teachers = [Teacher(network="convnet3@8", epochs=2, lr=0.2, batch=64)]
    protocol = replace(
        load_protocol("quick"),
        labels=Labels(source=source, loss="kl", teachers=teachers),
        **{"augment": None, "students": ["convnet3@8"], "seeds": 2, "steps": 3, "batch": 16},
        views=Views(flip=changes),
    )
    train, test = open_splits(Data(resolution=8))
    sets = {"some": train.select(torch.arange(0, 1437, 48)), "full": train}
    sizes = Sizes(TRAIN, TEST, CLASSES, kept=TRAIN, side=8, values=192)
    counts = {name: len(one) for name, one in sets.items()}
    found, _ = evaluating_rows(protocol, counts["some"], counts, sizes, Hardware())
    with FlopCounterMode(display=False) as counter:
        evaluate_sets(
            sets, test, protocol, train=train, normalization=Normalization(), trainings=tmp_path
        )
    # Networks are tried on an image first.
    assert sum(one.work for one in found) == pytest.approx(counter.get_total_flops() / 2, rel=1e-3)


def test_a_scorer_is_trained_and_looks_at_every_image_in_each_epoch():
    scorer = Scorer(network="convnet3@8", epochs=4, runs=2)
    found = of(replace(PIXEL, prune=Prune(keep=0.5, scorer=scorer)))["scoring"]
    assert found.work == 2 * (4 * TRAIN * STEP + (4 * TRAIN + TEST) * CONVNET)
    windowed = Prune(keep=0.5, scorer=scorer, window=(2, 3))
    assert of(replace(PIXEL, prune=windowed))["scoring"].work == (
        2 * (3 * TRAIN * STEP + (2 * TRAIN + TEST) * CONVNET)
    )
    assert of(PIXEL)["scoring"].work == 0  # which keeps all
    assert of(replace(PIXEL, prune=Prune(keep=0.5, score="random")))["scoring"].work == 0


PUBLISHED = {"weights": "torchvision"}
FIRST = {"inception_v3": {"init_weights": False}}
UNASKED = {
    "vectors": ({"score": "random"}, {}),
    "too small for our alexnet": ({"score": "random"}, {"network": "alexnet", **PUBLISHED}),
    "no student": ({"score": "random"}, {"network": "inception_v3", **PUBLISHED}),
    "all are kept": ({"keep": 1.0}, {"network": "vit_h_14", **PUBLISHED}),
}


@pytest.mark.parametrize("case", UNASKED)
def test_a_scorer_that_nothing_asks_need_not_fit_the_data(case, tmp_path):
    prune, scorer = UNASKED[case]
    data, prior, network = Data(resolution=32), PriorSettings(kind="pixel"), "convnet3@8"
    if case == "vectors":
        few = np.ones((18, 4), dtype="float32")
        for split in ("train", "test"):
            np.save(tmp_path / f"{split}.npy", few)
            np.save(tmp_path / f"{split}_labels.npy", np.arange(18) % 2)
        data = Data(kind="vectors", source=str(tmp_path))
        prior, network = PriorSettings(kind="vector"), "mlp@8"
    prune = Prune(**{"keep": 0.5, **prune}, scorer=Scorer(**scorer))
    objective = ObjectiveSettings(network=network, batch=20)
    recipe = Recipe(
        data=data, prior=prior, objective=objective, prune=prune, evaluate=Evaluate(rows=[])
    )
    found = of(recipe)
    assert found["scoring"].work == 0 and "classifying" not in found


@pytest.mark.parametrize(
    ("name", "size"), [("vit_b_32", 224), ("inception_v3", 299), ("alexnet", 224)]
)
def test_weights_of_torchvision_see_images_of_their_own_size(name, size):
    recipe = replace(
        PIXEL,
        data=Data(resolution=32),
        prune=Prune(keep=0.5, scorer=Scorer(network=name, **PUBLISHED)),
    )
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = models.get_model(name, weights=None, **FIRST.get(name, {})).eval()
        network(torch.zeros(1, 3, size, size))
    assert of(recipe)["scoring"].work == (TRAIN + TEST) * counter.get_total_flops() / 2
    asks = replace(recipe, method=MethodSettings(kind="rded"), rded=Rded(pool=30))
    with pytest.raises(
        InputError, match=f"{name} with weights of torchvision fails on images of 32 px"
    ):
        of(asks)  # whole images


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("convnet3@8", 8), ("convnet3-bn@8", 8), ("resnet18@8", 16), ("alexnet@8", 32)),
        *(("vgg11@8", 32), ("vit@8", 16), ("mlp@8", 4), ("torchvision/resnet18", 64)),
    ],
)
def test_a_training_step_is_what_torch_counts_forward_and_back(name, size):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = outline(name, num_classes=CLASSES, resolution=size).train()
        network(torch.zeros(2, *input_shape(name, size))).sum().backward()
    # Versions of torch differ in what attention takes on the way back.
    counted = pytest.approx(counter.get_total_flops() / 2 / 2, rel=0.02 * ("vit" in name))
    assert student(name, CLASSES, size).step == counted


class Strided(nn.Module):
    """A layer that is told by keywords what it sees and how."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(8, 3, 3, 3))

    def forward(self, images, *, stride):
        return nn.functional.conv2d(images, self.kernel, stride=stride)


def test_a_layer_that_takes_keywords_is_counted():
    with torch.device("meta"):
        first, second = Strided(), nn.Conv2d(8, 4, 1)
        images = torch.zeros(1, 3, 9, 9)
        network = nn.Sequential(first, second)
        for call in (lambda: first(images, stride=2), lambda: first(images=images, stride=2)):
            layers = 9 * 3 * 8 * 4 * 4, 8 * 4 * 4 * 4
            counted = works(network, lambda call=call: second(call()))
            assert counted == (sum(layers), 2 * layers[0] + 3 * layers[1])


def test_a_training_step_of_grouped_convolutions_is_no_more_than_three_passes():
    """Torch's counter takes their gradients for those of whole ones."""
    one = student("torchvision/mobilenet_v2", CLASSES, 64)
    assert one.step == 3 * one.forward - 9 * 3 * 32 * 32**2


def test_a_network_that_computes_how_wide_it_is_is_counted():
    name = "regnet_y_400mf"
    own, published = student(f"torchvision/{name}", 1000, 224), published_student(name, 224)
    assert own.forward == published.forward > 4e8 and own.weights == published.weights


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"network": "resnet81", **PUBLISHED}, "torchvision has no classifier 'resnet81'"),
        ({"network": "resnet18", "weights": "torchvision/V7"}, "has no weights 'V7' of resnet18"),
    ],
)
def test_weights_that_torchvision_lacks_are_refused(scorer, told):
    with pytest.raises(InputError, match=told):
        of(replace(PIXEL, prune=Prune(keep=0.5, scorer=Scorer(**scorer))))


def test_the_files_of_a_scoring_are_counted(tmp_path, monkeypatch):
    """Scores, features that a rule needs, and the records of each epoch while it lasts."""
    monkeypatch.setattr(Workspace, "clear", lambda self: None)
    scorer = Scorer(network="convnet3@8", epochs=3, lr=0.1, runs=2)
    prune = Prune(score="prototypes", keep=0.5, scorer=scorer, window=(2, 3))
    counted = of(replace(PIXEL, prune=prune))["scoring"].disk
    train, test = open_splits(PIXEL.data)
    prune_dataset(train, prune, test, folder=tmp_path)
    sizes = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    found = {
        "scores": sizes[tmp_path / "scores.parquet"],
        "features": sizes[tmp_path / FEATURES],
        "records until all is scored": sum(n for f, n in sizes.items() if "epoch-" in f.name),
    }
    assert list(counted) == list(found)
    for what, size in found.items():
        assert counted[what] == pytest.approx(size, rel=0.2), what


def test_matching_pixels_costs_its_students_alone():
    found = of(PIXEL)["distilling"]
    assert found.work == 7 * (CLASSES * 20 + 2 * 30) * CONVNET
    latents, pixels = 4 * 30 * 192, 30 * 192
    assert found.disk == {
        "2 checkpoints and the next one": 3 * 2 * latents,  # with momentum
        "the set and the next one": 2 * (latents + pixels),
    }


def test_trials_of_rates_move_a_copy_of_the_latents():
    given, tried = (
        of(replace(PIXEL, distill=Matching(steps=7, lr_z=rate)))["distilling"].memory
        for rate in (1.0, "auto")
    )
    assert tried - given == 4 * 30 * 192


def test_denoising_costs_one_call_there_and_back_and_the_decoder_at_the_end(tmp_path):
    small.save(tmp_path)
    recipe = replace(
        PIXEL,
        prior=PriorSettings(weights=str(tmp_path), steps=8, guidance=2.0),
        objective=ObjectiveSettings(kind="denoise", denoise=Denoising(share=0.5)),
        distill=Matching(steps=7, lr_z=1.0, lr_c=0.0, init="real"),
    )
    images = CLASSES * recipe.ipc
    prior = small.load(str(tmp_path), resolution=8, steps=8, guidance=2.0, device="meta")
    z, image = (torch.zeros(1, *n, device="meta") for n in (prior.latent_shape, (3, 8, 8)))
    time, label = (torch.zeros(n, dtype=torch.long, device="meta") for n in ((), (1,)))
    condition = prior.condition(label)

    def multiply_adds(network, *inputs):
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
        return counter.get_total_flops() / 2

    call = multiply_adds(prior.denoiser, z, time, condition)
    decoder = multiply_adds(prior.autoencoder.decode, z, None, None)
    encoder = multiply_adds(prior.autoencoder.encode, image)
    for memory in ("auto", "fast", "low"):
        prior_settings = replace(recipe.prior, memory=memory)
        found = of(replace(recipe, prior=prior_settings), memory=1e9)["distilling"]
        assert found.work == images * (7 * 2 * call + decoder + encoder) > 0
    latents, pixels = 4 * images * z.numel(), 192 * images
    for optimizer, moments in (("sgd", 1), ("adam", 2)):
        settings = replace(recipe.distill, optimizer=optimizer, lr_z=0.1)
        assert of(replace(recipe, distill=settings))["distilling"].disk == {
            "2 checkpoints and the next one": 3 * (1 + moments) * latents,
            "the set and the next one": 2 * (latents + pixels),  # without noise
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    "guide",
    [
        {"features": {"scale": 1.0, "real": 4}},
        {"transport": {"scale": 0.2, "clusters": 3}},
        {"diversity": {"scale": 0.05, "mean_scale": 0.2}},
    ],
)
def test_guided_sampling_takes_what_was_counted(guide, tmp_path):
    recipe = replace(
        PIXEL,
        data=Data(resolution=16),
        prune=Prune(score="random", keep=0.1),
        prior=PriorSettings(weights="digits", steps=2, guidance=2.0),
        method=MethodSettings(kind="sampling"),
        sampling=Sampling(**guide),
        evaluate=Evaluate(rows=[]),
        ipc=1,
    )
    with FlopCounterMode(display=False) as counter:
        run(recipe, "sampled", tmp_path / "run")
    counted = sum(stage.work for stage in stages(recipe))
    # A run tries the prior once, to see what a step keeps in memory.
    assert counted == pytest.approx(counter.get_total_flops() / 2, rel=0.05)


def test_whitening_is_counted():
    values = 3 * 8 * 8
    found = of(replace(PIXEL, data=Data(resolution=8, zca=True)))["opening"]
    assert found.work == TRAIN * values**2 + values**3
    assert found.disk == {"decoded images": (TRAIN + TEST) * values}


def test_experts_are_counted_though_another_command_trains_them():
    objective = replace(PIXEL.objective, kind="mtt")
    found = of(replace(PIXEL, objective=objective, experts=Experts(count=5, epochs=20)))["experts"]
    assert found.work == 5 * 20 * TRAIN * STEP


def test_the_classifier_that_a_method_asks_is_trained_and_sees_its_crops():
    scorer = Scorer(network="convnet3@8", epochs=2)
    recipe = replace(
        PIXEL,
        method=MethodSettings(kind="rded"),
        rded=Rded(pool=30, crops=5),
        prune=Prune(scorer=scorer),
    )
    found = of(recipe)
    crops = CLASSES * 30 * 5
    assert found["classifier"].work == 2 * TRAIN * STEP + TEST * CONVNET
    assert found["classifier"].disk == {"classifiers": 4 * WEIGHTS}
    assert found["classifying"].work == crops * CONVNET
    assert found["distilling"].work == 0


@pytest.mark.parametrize(
    "kind, pool, asked",
    [("confidence", None, 2), ("learnability", None, 3), ("confidence", "a set", 1)],
)
def test_what_a_selection_asks_is_counted_with_the_student_of_its_start(kind, pool, asked):
    select = Select(kind=kind)
    start = "a set" if kind == "learnability" else None
    scorer = Scorer(network="convnet3@8", epochs=2)
    recipe = replace(
        PIXEL,
        method=MethodSettings(kind="selection"),
        selection=Selection(select=select, pool=pool, start=start),
        prune=Prune(scorer=scorer),
    )
    student = 2 * TRAIN * STEP * (kind == "learnability")
    assert of(recipe)["classifying"].work == student + asked * TRAIN * CONVNET
    assert of(recipe)["classifier"].work == 2 * TRAIN * STEP + TEST * CONVNET


def test_a_student_of_a_scorer_with_weights_is_the_network_without_them():
    """Latentdc's of that name, in the classes of the data."""
    scorer = Scorer(network="resnet18", weights="torchvision", epochs=2)
    select = Select(kind="learnability")
    recipe = replace(
        PIXEL,
        data=Data(resolution=32),
        method=MethodSettings(kind="selection"),
        selection=Selection(select=select, start="a set"),
        prune=Prune(scorer=scorer),
    )
    own, published = student("resnet18", CLASSES, 32), classifier(scorer, CLASSES, 32)
    found = of(recipe)["classifying"]
    assert found.work == 2 * TRAIN * own.step + 3 * TRAIN * published.forward
    assert own.forward > 10 * published.forward and found.memory == own.trained(scorer.batch)


def test_the_student_that_samples_are_chosen_by_is_trained():
    settings = Sampling(
        select=Select(kind="learnability", groups=2), learnability={"start": "a set"}
    )
    scorer = Scorer(network="convnet3@8", epochs=2)
    recipe = replace(
        PIXEL,
        method=MethodSettings(kind="sampling"),
        sampling=settings,
        prior=PriorSettings(weights="nobody/nothing"),
        prune=Prune(scorer=scorer),
    )
    assert of(recipe)["classifying"].work == 2 * TRAIN * STEP


def test_what_a_method_of_ones_own_takes_is_not_known():
    own = replace(PIXEL, method=MethodSettings(kind="tests.cost.test_stages:own"))
    assert of(own)["distilling"].work is None


def own(coreset, prior: None, settings, context):
    raise AssertionError("a dry run makes no set")


@pytest.mark.parametrize("memory", [None, 1e9])
def test_memory_is_that_of_the_dearest_stage(memory):
    found = of(PIXEL, memory=memory)
    assert found["evaluating convnet3@8"].memory > 16 * WEIGHTS  # adamw


LONG = Scorer(network="convnet3@64", epochs=2, resolution=64, batch=512)  # a step of 50 GMAC
FOUR = Hardware(processes=4)


def timed(recipe: Recipe, name: str, hardware: Hardware = FOUR) -> float:
    """Work of the busiest process, in parts of all."""
    (stage,) = (stage for stage in stages(recipe, hardware) if stage.name == name)
    return round(stage.of_one(hardware.processes) / stage.work, 9)


def test_processes_divide_long_trainings_and_wait_for_short_ones():
    long, short = (
        replace(PIXEL, prune=Prune(keep=0.5, scorer=scorer))
        for scorer in (LONG, replace(LONG, batch=16))
    )
    assert timed(long, "scoring") == pytest.approx(1 / 4)
    network = student(LONG.network, CLASSES, 64)
    looked, training = (2 * TRAIN + TEST) * network.forward, 2 * TRAIN * network.step
    whole = (training + looked / 4) / (training + looked)
    assert timed(short, "scoring") == pytest.approx(whole)
    assert "4 processes divide each batch of 512" in of(long, processes=4)["scoring"].told
    assert "too short to divide" in of(short, processes=4)["scoring"].told
    assert "divide" not in of(long)["scoring"].told
    again = replace(long, prune=replace(long.prune, scorer=replace(LONG, infobatch=0.5)))
    assert timed(again, "scoring") == pytest.approx(whole)  # which needs all losses
    alone, shared = (of(long, processes=n)["scoring"].memory for n in (1, 4))
    assert alone / 4 < shared < alone / 3


def test_teachers_experts_and_the_classifier_of_a_method_are_divided_alike():
    teachers = f"[{{network: {LONG.network}, epochs: 4, batch: 512, resolution: 64}}]"
    labels = f"labels={{source: online, loss: kl, teachers: {teachers}}}"
    evaluate = Evaluate(
        students=["convnet3@8"], seeds=2, steps=10, changes=[labels, "augment=null"]
    )
    wide = replace(PIXEL, data=Data(resolution=64), evaluate=evaluate)
    asking = replace(PIXEL, method=MethodSettings(kind="rded"), prune=Prune(scorer=LONG))
    matched = replace(PIXEL.objective, kind="mtt", network="convnet3@64")
    experts = Experts(count=2, epochs=20, batch=512)
    assert 0.25 < timed(wide, "teachers") < 0.3 and 0.25 < timed(asking, "classifier") < 0.3
    assert timed(asking, "classifying") == 1  # all ask for all
    following = replace(wide, objective=matched, experts=experts)
    assert timed(following, "experts") == 1 / 4
    assert timed(replace(following, experts=replace(experts, batch=8)), "experts") == 1 / 2
    assert timed(replace(following, experts=replace(experts, count=5)), "experts") == 2 / 5


SMALL = InfluenceSettings(scale=1.0, network="convnet3@8", epochs=[0, 3])


def test_one_process_trains_what_influence_asks_unless_its_steps_are_long():
    guide = replace(SMALL, network="convnet3@64")
    recipe = replace(
        PIXEL,
        data=Data(resolution=64),
        method=MethodSettings(kind="sampling"),
        sampling=Sampling(influence=guide),
        prior=PriorSettings(weights="nobody/nothing"),
        experts=Experts(batch=8, epochs=50),
    )
    short, long = (replace(recipe, experts=replace(recipe.experts, batch=n)) for n in (8, 512))
    assert timed(short, "snapshots") == 1  # the others wait
    assert timed(long, "snapshots") == 1 / 4
    assert "4 processes divide each batch of 512" in of(long, processes=4)["snapshots"].told
    small = replace(recipe, data=Data(resolution=8), sampling=Sampling(influence=SMALL))
    found = of(small)["snapshots"]
    assert found.work == 3 * TRAIN * STEP
    assert found.disk == {"snapshots": 4 * 4 * WEIGHTS}  # before, and after each epoch
    assert "snapshots" not in of(replace(recipe, sampling=Sampling()))


def test_students_wait_in_a_queue_or_are_divided_where_they_are_few():
    name, two = "evaluating convnet3@8", replace(PIXEL.evaluate, rows=["random"], seeds=2)
    assert timed(replace(PIXEL, evaluate=two), name) == 1 / 2
    assert timed(replace(PIXEL, evaluate=replace(PIXEL.evaluate, seeds=3)), name) == pytest.approx(
        2 / 6
    )

    def few(**options) -> tuple[float, str]:
        options = {"seeds": 2, "batch": 512, "steps": 10, "students": ["convnet3@64"], **options}
        protocol = replace(load_protocol("quick"), **options)
        sizes = Sizes(TRAIN, TEST, CLASSES, kept=TRAIN, side=64, values=3 * 64**2)
        (stage,), _ = evaluating_rows(protocol, TRAIN, {"full": TRAIN}, sizes, FOUR)
        return round(stage.of_one(4) / stage.work, 9), stage.told

    assert few()[0] == 1 / 4 and "4 processes divide the batches" in few()[1]
    assert few(together=2)[0] == 1  # one group, which is not divided
    assert few(seeds=4)[0] == 1 / 4 and "divide" not in few(seeds=4)[1]  # one for each
    assert few(batch=16)[0] == 1 / 2  # short ones


def test_processes_share_what_is_a_sum_over_classes():
    assert timed(PIXEL, "distilling") == 3 / 10
    whole = replace(PIXEL, objective=replace(PIXEL.objective, network="convnet3-bn@8"))
    assert timed(whole, "distilling") == pytest.approx(1, rel=1e-3)  # but for encoding


def test_denoising_holds_one_call_of_a_few_latents(tmp_path):
    small.save(tmp_path)
    recipe = replace(
        PIXEL,
        prior=PriorSettings(weights=str(tmp_path), steps=8, guidance=2.0),
        objective=ObjectiveSettings(kind="denoise", denoise=Denoising(share=0.5)),
        ipc=20,
    )
    prior = small.load(str(tmp_path), resolution=8, steps=8, guidance=2.0)
    z = torch.zeros(1, *prior.latent_shape, requires_grad=True)
    c = prior.condition(torch.zeros(1, dtype=torch.long)).detach().requires_grad_()
    one = kept_bytes(lambda: prior.noise_in(z, 0, c))

    def held(memory: str, **options) -> float:
        changed = replace(recipe, prior=replace(recipe.prior, memory=memory, **options))
        return of(changed)["distilling"].memory

    parts = {n: held("low", chunk=n) for n in (1, 16)}
    assert parts[16] - parts[1] == pytest.approx(15 * one, rel=0.05)
    assert held("auto") == parts[16]  # DENOISED
    assert held("fast") - parts[16] == pytest.approx((200 - 16) * one, rel=0.05)
