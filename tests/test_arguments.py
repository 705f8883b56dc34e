"""Nonsense as arguments of the public functions: one line, before anything is computed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import latentdc
from latentdc.errors import InputError
from latentdc.preprocessing import Normalization
from latentdc.priors.pixel import PixelPrior
from latentdc.prune.coreset import Coreset
from latentdc.recipe import (
    Data,
    Loops,
    Matching,
    Mosaic,
    ObjectiveSettings,
    Prune,
    Rded,
    Sampling,
    Scorer,
    Select,
    Selection,
    Trajectory,
    Trim,
)
from tests.evaluate.toys import stripes
from tests.experts.toys import Wanderers
from tests.methods import setup
from tests.priors import small
from tests.prune.toys import colours
from tests.results.toys import result

NAN, INF = float("nan"), float("inf")


def refused(call, *told: str) -> str:
    with pytest.raises(InputError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line and len(line) < 900, line
    assert all(part in line for part in told), line
    return line


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    small.save(folder)
    return str(folder)


PRIOR = [
    ({"kind": "difusion"}, "prior.kind takes one of 'pixel', 'autoencoder'"),
    ({"kind": None}, "prior.kind takes one of"),
    ({"kind": "vector"}, "normalization is a Standardization, got null"),
    ({"weights": None}, "prior.kind diffusion needs prior.weights"),
    ({"weights": 5}, "prior.weights takes text"),
    ({"weights": ""}, "weights is a path"),
    ({"resolution": 0}, "resolution is a whole number of at least 1, got 0"),
    ({"resolution": -8}, "at least 1, got -8"),
    ({"resolution": 8.5}, "resolution is a whole number of at least 1, got 8.5"),
    ({"resolution": "8"}, "resolution is a whole number of at least 1, got '8'"),
    ({"resolution": None}, "resolution is a whole number of at least 1, got null"),
    ({"resolution": (8, 8)}, "resolution is a whole number of at least 1"),
    ({"steps": 1}, "prior.steps is between 2 and 1000 with prior.skip=x0, got 1"),
    ({"steps": 0, "skip": "none"}, "prior.steps is between 1 and 1000"),
    ({"steps": 1001}, "prior.steps is between 2 and 1000"),
    ({"steps": 2.5}, "prior.steps takes a whole number, got 2.5"),
    ({"steps": "ten"}, "prior.steps takes a whole number"),
    ({"steps": True}, "prior.steps takes a whole number"),
    ({"guidance": -1}, "prior.guidance is at least 0"),
    ({"guidance": NAN}, "prior.guidance is a finite number"),
    ({"guidance": INF}, "prior.guidance is a finite number"),
    ({"guidance": "3"}, "prior.guidance takes a number"),
    ({"skip": "x1"}, "prior.skip takes one of"),
    ({"skip": None}, "prior.skip takes one of"),
    ({"memory": "least"}, "prior.memory takes one of"),
    ({"chunk": 0}, "prior.chunk is at least 1 image, got 0"),
    ({"chunk": None}, "prior.chunk takes a whole number"),
    ({"autoencoder": "x", "kind": "autoencoder"}, "prior.autoencoder takes the place"),
    ({"denoiser": "random", "seed": -1}, "seed is at least 0 and below 2^63, got -1"),
    ({"seed": "a"}, "seed takes a whole number"),
    ({"denoiser": "random", "kind": "pixel"}, "prior.denoiser=random is for prior.kind=diffusion"),
    ({"class_names": "cat"}, "class_names is a list of texts, got 'cat'; write ['cat']"),
    ({"class_names": [3]}, "class_names is a list of texts, got [3]"),
    ({"class_names": len}, "class_names is a list of texts, got <built-in function len>."),
    ({"class_names": ["cat", "cat"]}, "class names are all different, got 'cat' twice"),
    (
        {"class_names": ["cat"], "names": {"car": "x"}},
        "the data set has no class 'car'",
    ),
    (
        {"normalization": 3, "kind": "pixel"},
        "is a Normalization or a Whitening, got 3",
    ),
    ({"precision": "fp16"}, "precision is one of ('no', 'bf16', 'float32'), got 'fp16'"),
    ({"precision": None}, "precision is one of"),
    ({"channels_last": "yes"}, "prior.channels_last takes true or false"),
    ({"compile": 1}, "prior.compile takes true or false"),
    ({"clamp": None}, "prior.clamp takes true or false"),
    ({"revision": 3}, "prior.revision takes text"),
    ({"device": "gpu"}, "device='gpu' cannot be used here"),
    ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
    ({"device": 3.5}, "device=3.5 cannot be used here"),
]


@pytest.mark.parametrize(("options", "told"), PRIOR)
def test_load_prior_has_the_checks_of_a_recipe(weights, options, told):
    refused(lambda: small.load(**{"weights": weights, **options}), told)


def test_a_folder_of_weights_may_be_a_path(weights):
    assert small.load(Path(weights)).resolution == 8


OBJECTIVE = [
    (
        {"kind": "cafe"},
        "'dm', 'dc', 'mtt', 'denoise' or package.module:attribute, got 'cafe'",
    ),
    ({"kind": 3}, "objective.kind takes one of"),
    ({"num_classes": 0}, "num_classes is a whole number of at least 1, got 0"),
    ({"num_classes": "3"}, "num_classes is a whole number of at least 1, got '3'"),
    ({"num_classes": 2.0}, "num_classes is a whole number"),
    ({"num_classes": None}, "num_classes is a whole number"),
    ({"resolution": -1}, "resolution is a whole number of at least 1, got -1"),
    ({"resolution": 4}, "takes images of 8 px or more"),
    ({"network": "convnet33"}, "unknown network 'convnet33'"),
    ({"network": None}, "objective.network takes text"),
    ({"network": "convnet3@0"}, "the base width after '@'"),
    ({"batch": 0}, "objective.batch is at least 1 image, got 0"),
    ({"batch": None}, "objective.batch takes a whole number"),
    ({"distance": "l2"}, "objective.distance takes one of"),
    ({"augment": "blur"}, "'blur' in 'blur' is unknown"),
    ({"augment": 3}, "objective.augment takes text"),
    ({"loops": 3}, "objective.loops takes a mapping"),
    ({"kind": "dc", "loops": Loops()}, "the loops of dc have both numbers"),
    ({"trajectory": "long"}, "objective.trajectory takes a mapping"),
    ({"normalization": (0.5, 0.5)}, "normalization is a Normalization, got a tuple"),
    ({"normalization": Normalization}, "normalization is a Normalization, got the class"),
    ({"seed": -1}, "seed is at least 0"),
    ({"seed": 0.5}, "seed takes a whole number"),
    ({"kind": "mtt"}, "mtt follows experts"),
]


@pytest.mark.parametrize(("options", "told"), OBJECTIVE)
def test_build_objective_has_the_checks_of_a_recipe(options, told):
    facts = ("num_classes", "resolution", "normalization", "seed")
    data = {key: value for key, value in options.items() if key in facts}
    settings = {key: value for key, value in options.items() if key not in facts}

    def build():
        chosen = ObjectiveSettings(**{"network": "convnet3@8", **settings})
        latentdc.build_objective(chosen, **{"num_classes": 3, "resolution": 8, **data})

    refused(build, told)


def test_build_objective_takes_settings():
    refused(
        lambda: latentdc.build_objective("dm", num_classes=3, resolution=8),
        "settings is an ObjectiveSettings, got 'dm'; such as latentdc.ObjectiveSettings(kind=",
    )


MATCH = [
    ({"ipc": 0}, "ipc is a whole number of at least 1, got 0"),
    ({"ipc": "2"}, "ipc is a whole number"),
    ({"ipc": 1.5}, "ipc is a whole number"),
    ({"ipc": 7}, "is above the smallest class"),
    ({"steps": -1}, "distill.steps is at least 0"),
    ({"steps": 1e3}, "distill.steps takes a whole number"),
    ({"lr_z": NAN}, "distill.lr_z is a finite number"),
    ({"lr_z": -0.1}, "distill.lr_z is between 0"),
    ({"lr_c": "0.1"}, "distill.lr_c takes a number"),
    ({"momentum": 1.0}, "distill.momentum is in [0, 1), got 1.0"),
    ({"classes_per_step": 0}, "distill.classes_per_step is at least 1"),
    ({"classes_per_step": 4}, "distill.classes_per_step=4 is between"),
    ({"trim": 0.2}, "distill.trim takes a mapping"),
    ({"seed": -1}, "seed is at least 0 and below 2^63, got -1"),
    ({"seed": None}, "seed takes a whole number, got null"),
    ({"checkpoint_every": 0}, "distill.checkpoint_every is at least 1 step"),
    ({"grid_every": -1}, "distill.grid_every is at least 0"),
    ({"settings": {"steps": 3}}, "settings is a Matching, got a dict"),
    ({"context": 3}, "context is a Context, got 3"),
    ({"accelerator": "cpu"}, "accelerator is an Accelerator, got 'cpu'"),
    ({"coreset": None}, "coreset is a Dataset, got null"),
    ({"coreset": torch.zeros(3, 3, 8, 8)}, "coreset is a Dataset, got a Tensor"),
    ({"coreset": (1, 2)}, "coreset is a Dataset, got a tuple"),
    ({"prior": "digits"}, "prior is what load_prior makes, got 'digits'"),
    ({"prior": PixelPrior}, "prior is what load_prior makes, got the class PixelPrior"),
    ({"prior": PixelPrior(16)}, "load it with resolution=8"),
    ({"objective": "dm"}, "objective is what build_objective makes, got 'dm'"),
]


@pytest.mark.parametrize(("options", "told"), MATCH)
def test_match_has_the_checks_of_a_recipe(options, told):
    def run():
        of_context = ("ipc", "seed", "accelerator")
        of_match = ("coreset", "prior", "objective", "settings", "context")
        rest = {k: v for k, v in options.items() if k not in (*of_context, *of_match)}
        given = {
            "coreset": setup.dataset(),
            "prior": PixelPrior(8),
            "objective": setup.objective(),
            "settings": latentdc.Matching(**{"steps": 1, **rest}),
            "context": latentdc.Context(**{k: v for k, v in options.items() if k in of_context}),
            **{k: v for k, v in options.items() if k in of_match},
        }
        latentdc.match(**given)

    refused(run, told)


@pytest.mark.parametrize("kind", ["dm", "dc", "mtt"])
@pytest.mark.parametrize("other", [{"num_classes": 4}, {"resolution": 16}])
def test_an_objective_for_other_samples_is_refused(kind, other):
    objective = latentdc.build_objective(
        ObjectiveSettings(
            kind=kind,
            network="convnet3@8",
            loops=Loops(outer=1, inner=1),
            trajectory=Trajectory(syn_steps=1),
        ),
        **{"num_classes": 3, "resolution": 8, **other},
        experts=Wanderers() if kind == "mtt" else None,
    )
    [(name, value)] = other.items()
    refused(
        lambda: latentdc.match(setup.dataset(), PixelPrior(8), objective),
        f"the objective was built with {name}={value}, and the core set has",
    )


def test_real_images_are_those_of_a_data_set():
    refused(lambda: latentdc.SyntheticSet.from_real(None), "dataset is a Dataset, got null")


PROTOCOL = latentdc.load_protocol("quick", students=["convnet3@2"], seeds=1, steps=1)
EVALUATE = [
    ({"sets": None}, "sets is a Dataset or a SyntheticSet, got null"),
    ({"sets": "runs/x"}, "sets is a Dataset or a SyntheticSet, got 'runs/x'"),
    ({"sets": {1: stripes(8)}}, "names of sets is a list of texts, got [1]"),
    ({"sets": {"mine": lambda seed: seed}}, "dataset is a Dataset, got 0"),
    ({"test": 3}, "test is a Dataset, got 3; such as the second of open_splits"),
    (
        {"test": latentdc.SyntheticSet.from_real(stripes(8))},
        "test is a Dataset, got a SyntheticSet",
    ),
    ({"on_step": 3}, "on_step is a function, got 3"),
    ({"train": [1]}, "train is a Dataset or a SyntheticSet, got a list"),
    ({"protocol": "quick"}, "protocol is an EvalProtocol, got 'quick'; such as load_protocol"),
    ({"protocol": None}, "protocol is an EvalProtocol, got null"),
    ({"normalization": None}, "normalization is a Normalization, got null"),
    ({"normalization": "imagenet"}, "normalization is a Normalization, got 'imagenet'"),
    ({"trainings": 3}, "trainings is a path, got 3"),
    ({"sets": {}}, "there is no set to evaluate"),
    ({"accelerator": 1}, "accelerator is an Accelerator, got 1"),
]


@pytest.mark.parametrize(("options", "told"), EVALUATE)
def test_evaluation_refuses_other_things(options, told):
    data = stripes(8)
    given = {"sets": data, "test": data, "protocol": PROTOCOL, "normalization": Normalization()}
    refused(lambda: latentdc.evaluate_sets(**{**given, **options}), told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ipc": 0}, "ipc is a whole number of at least 1"),
        ({"ipc": "1"}, "ipc is a whole number"),
        ({"rows": ["randm"]}, "no row 'randm'; did you mean 'random'?"),
        ({"rows": "random"}, "rows is a list of texts, got 'random'"),
        ({"rows": len}, "rows is a list of texts, got <built-in function len>."),
        ({"rows": []}, "none of the rows [] has images"),
        ({"ipc": [1.0, 1.0, 1.0]}, "ipc of a class is a whole number of at least 0, got 1.0"),
        ({"coreset": 3}, "coreset is a Dataset or a SyntheticSet, got 3"),
        ({"sets": {"mine": 3}}, "mine is a Dataset or a SyntheticSet, got 3"),
    ],
)
def test_baselines_that_are_none_are_refused(options, told):
    data = stripes(8)
    given = {"sets": {"mine": data}, "rows": ["distilled"], "ipc": 1, "train": data, **options}
    refused(lambda: latentdc.with_baselines(**given), told)


METHOD = [
    ({"coreset": None}, "is a Coreset, got null; such as prune_dataset(train, Prune())"),
    ({"coreset": colours()}, "coreset is a Coreset, got a Dataset"),
    ({"settings": {"ipc": 1}}, "got a dict"),
    ({"settings": None}, "got null"),
    ({"context": None}, "context is a Context, got null; such as Context(ipc=10, train=train)"),
    ({"context": {"ipc": 1}}, "context is a Context, got a dict"),
]
SETTINGS = {
    "sampling": Sampling(),
    "selection": Selection(),
    "mosaic": Mosaic(),
    "rded": Rded(),
    "refine": (Sampling(), Matching()),
}


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize(("options", "told"), METHOD)
def test_methods_refuse_arguments_of_another_kind(method, options, told):
    given = {
        "coreset": Coreset.whole(colours(), "easy"),
        "prior": PixelPrior(resolution=8),
        "settings": SETTINGS[method],
        "context": latentdc.Context(train=colours(), objective=object()),
        **options,
    }
    if method == "refine" and "settings" in options:
        told = "settings of refine are (Sampling(), Matching())"
    refused(lambda: getattr(latentdc, method)(**given), told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ipc": 0}, "ipc is a whole number of at least 1"),
        ({"seed": -1}, "seed is at least 0 and below 2^63, got -1"),
        ({"train": "digits"}, "train is a Dataset, got 'digits'"),
        ({"classifier": 5}, "classifier of a Context is a function, got 5"),
        ({"classifier": torch.nn.Linear(2, 2)}, "classifier of a Context is a function, got Lin"),
        ({"student": "convnet3"}, "student of a Context is a function, got 'convnet3'"),
        ({"open_set": {}}, "open_set of a Context is a function"),
        ({"on_step": []}, "on_step of a Context is a function"),
        ({"mean": (125, 120, 110)}, "mean is of images in [0, 1], got (125.0, 120.0, 110.0)"),
        ({"mean": 0.5}, "mean takes a list of 3 numbers, got 0.5"),
    ],
)
def test_a_context_refuses_other_things(options, told):
    refused(lambda: latentdc.Context(**options), told)


def test_a_folder_of_a_context_is_a_place_that_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = latentdc.in_folder("~/begun", latentdc.Context())
    settings = Matching(steps=1, lr_z=0.1, checkpoint_every=1)
    latentdc.match(setup.dataset(), PixelPrior(8), setup.objective(), settings, kept)
    assert (tmp_path / "begun/checkpoints").is_dir()
    (tmp_path / "file").write_text("")
    refused(lambda: latentdc.in_folder(tmp_path / "file", kept), "cannot write to", "folder=...")
    refused(lambda: latentdc.in_folder(tmp_path / ("a" * 300), kept), "cannot write to")
    refused(lambda: latentdc.in_folder(None, kept), "folder is a path, got null")
    refused(
        lambda: latentdc.in_folder("~nobody-here/x", kept),
        "folder is '~nobody-here/x'",
        "home; write",
    )
    assert latentdc.Context(mean=np.array([0.5, 0.25, 1])).mean == (0.5, 0.25, 1)
    refused(lambda: latentdc.in_folder("x", {}), "context is a Context, got a dict")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (torch.nn.Linear(2, 2), "makes a network and tells its accuracy"),
        (("convnet3", 0.9), "what classifier of a Context makes is a Module, got 'convnet3'"),
        ((torch.nn.Flatten(), 0.9), "has no linear layer whose input could"),
    ],
)
def test_a_classifier_that_is_none_is_refused(made, told):
    data, select = colours(), Select(kind="confidence")
    context = latentdc.Context(train=data, classifier=lambda: made)
    coreset = Coreset.whole(data, "easy")
    refused(lambda: latentdc.selection(coreset, None, Selection(select=select), context), told)


def test_any_network_with_a_linear_layer_classifies():
    data, select = colours(), Select(kind="nearest")
    size = data.images[0].numel()
    head = torch.nn.Linear(size, data.num_classes)
    network = torch.nn.Sequential(torch.nn.Flatten(), head)
    context = latentdc.Context(train=data, classifier=lambda: (network, 0.9))
    coreset = Coreset.whole(data, "easy")
    made = latentdc.selection(coreset, None, Selection(select=select), context)
    for label in range(data.num_classes):
        own = data.images[data.members(label)].float()
        nearest = (own - own.mean(dim=0)).flatten(1).norm(dim=1).argmin()
        assert made.images[label].equal(own[nearest].to(torch.uint8))


PRUNE = [
    ({"train": None}, "train is a Dataset, got null"),
    ({"train": "digits"}, "train is a Dataset, got 'digits'"),
    ({"test": 3}, "test is a Dataset, got 3"),
    ({"prune": None}, "prune is a Prune, got null; such as Prune(score='loss', keep=0.2)"),
    ({"prune": colours()}, "prune is a Prune, got a Dataset"),
    ({"prune": Prune(times_ipc=2)}, "prune.times_ipc is a multiple of a recipe's ipc"),
    ({"normalization": 1}, "normalization is a Normalization, got 1"),
    ({"seed": -3}, "seed is at least 0"),
    ({"seed": "a"}, "seed takes a whole number"),
    ({"folder": 1}, "folder is a path, got 1"),
    ({"accelerator": []}, "accelerator is an Accelerator, got a list"),
]


@pytest.mark.parametrize("function", ["prune_dataset", "score_dataset"])
@pytest.mark.parametrize(("options", "told"), PRUNE)
def test_pruning_refuses_arguments_of_another_kind(function, options, told):
    given = {"train": colours(), "prune": Prune(keep=0.5), **options}
    refused(lambda: getattr(latentdc, function)(**given), told)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"score": "los"}, "did you mean 'loss'?"),
        ({"score": None}, "prune.score takes text"),
        ({"order": "easiest"}, "prune.order takes one of"),
        ({"keep": 0}, "prune.keep is a share in (0, 1]"),
        ({"keep": 20}, "prune.keep is a share in (0, 1], got 20"),
        ({"keep": NAN}, "prune.keep is a finite number"),
        ({"keep": 1.0, "count": 0}, "prune.count is at least 1"),
        ({"keep": 1.0, "count": 2.5}, "prune.count takes a whole number"),
        ({"scope": "all"}, "prune.scope takes one of"),
        ({"scorer": "convnet3"}, "prune.scorer takes a mapping"),
        ({"window": 3}, "prune.window takes a list of 2 whole numbers"),
        ({"window": (5, 1)}, "prune.window is the first and the last"),
        ({"columns": "loss"}, "prune.columns takes a list"),
        ({"columns": [3]}, "prune.columns takes a list of texts"),
        ({"columns": refused}, " Write [refused]."),
        ({"columns": ["lss"]}, "lss"),
        ({"scores": 5}, "prune.scores takes text"),
        ({"rules": 5}, "prune.rules takes a mapping"),
    ],
)
def test_settings_of_pruning_are_checked_where_they_are_made(keys, told):
    refused(lambda: latentdc.Prune(**keys), told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"table": None}, "table is a ScoreTable, got null"),
        ({"table": "scores.parquet"}, "table is a ScoreTable"),
        ({"train": None}, "train is a Dataset, got null"),
        ({"prune": "loss"}, "prune is a Prune, got 'loss'"),
        ({"seed": 1.5}, "seed takes a whole number"),
    ],
)
def test_choosing_refuses_arguments_of_another_kind(options, told):
    data = colours(32)
    table = latentdc.score_dataset(data, Prune(score="random"))
    given = {"table": table, "train": data, "prune": Prune(keep=0.5), **options}
    refused(lambda: latentdc.choose_coreset(**given), told)


@pytest.mark.parametrize("given", [None, "digits", {"source": "digits"}, 3, Data])
def test_data_are_opened_by_their_settings(given):
    refused(lambda: latentdc.open_splits(given), "data is a Data, got")
    refused(lambda: latentdc.open_dataset(given, "train"), "data is a Data, got")


def test_a_function_is_no_element_of_a_list_of_names_of_classes():
    told = "data.classes takes a list of texts or null, got <built-in function len>."
    assert refused(lambda: Data(classes=len)) == told


@pytest.mark.parametrize("split", ["valid", None, 3, ["train"], "Train"])
def test_a_split_is_one_of_two(split):
    refused(lambda: latentdc.open_dataset(Data(), split), "split is 'train' or 'test', got")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (None, {}, "a protocol is named"),
        (3, {}, "a protocol is named"),
        ("quik", {}, "did you mean 'quick'?"),
        ("quick", {"students": "convnet3"}, "students is a list of texts, got 'convnet3'"),
        ("quick", {"students": PixelPrior}, "; write [PixelPrior]."),
        ("quick", {"students": []}, "trains no student"),
        ("quick", {"students": [3]}, "students is a list of texts"),
        ("quick", {"students": ["convnet99"]}, "unknown network 'convnet99'"),
        ("quick", {"seeds": 0}, "seeds is at least 1"),
        ("quick", {"seeds": "3"}, "seeds takes a whole number"),
        ("quick", {"steps": -5}, "steps is at least 1"),
        ("quick", {"steps": 2.5}, "steps takes a whole number"),
        ("quick", {"changes": "lr=1"}, "changes is a list of texts"),
        ("quick", {"changes": PixelPrior}, "PixelPrior'>."),
        ("quick", {"changes": ["lr"]}, "an override is key=value"),
        ("quick", {"changes": ["lrr=1"]}, "unknown key 'lrr'"),
    ],
)
def test_load_protocol_refuses_nonsense(name, options, told):
    refused(lambda: latentdc.load_protocol(name, **options), told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"std": (0.0, 1.0, 1.0)}, "Normalization.std must be positive"),
        ({"std": (0.2, 0.2)}, "Normalization.std takes a list of 3 numbers"),
        ({"mean": 0.5}, "Normalization.mean takes a list of 3 numbers"),
        ({"mean": ("a", "b", "c")}, "Normalization.mean takes a list of 3 numbers"),
        ({"mean": (NAN, 0.0, 0.0)}, "Normalization.mean is a finite number"),
        ({"mean": (125.3, 123.0, 113.9)}, "Normalization.mean is of images in [0, 1]"),
        ({"std": (63.0, 62.1, 66.7)}, "Normalization.std is of images in [0, 1]"),
        ({"mean": None}, "Normalization.mean takes a list of 3 numbers"),
        ({"std": torch.ones(3)}, "Normalization.std takes a list of 3 numbers"),
    ],
)
def test_a_normalization_has_three_numbers_each(given, told):
    refused(lambda: Normalization(**given), told)
    assert Normalization([0.5] * 3, [0.5] * 3) == Normalization((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Trim(share="a"),
        lambda: Scorer(epochs="5"),
        lambda: Data(resolution="16"),
        lambda: Trajectory(form="short"),
        lambda: Loops(outer="1"),
        lambda: latentdc.EvalProtocol(name="x", students="convnet3", steps=1),
        lambda: latentdc.SyntheticSet([1], torch.zeros(1, dtype=torch.int64), ("a",)),
        lambda: latentdc.SyntheticSet(torch.zeros(1, 3, 8, 8), [0], ("a",)),
        lambda: latentdc.SyntheticSet(None, None, ()),
    ],
)
def test_settings_and_sets_are_checked_where_they_are_made(make):
    refused(make)


def toy_set(**parts) -> latentdc.SyntheticSet:
    whole = {
        "images": torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        "labels": torch.arange(3),
        "class_names": ("a", "b", "c"),
    }
    return latentdc.SyntheticSet(**whole | parts)


def toy_data(**parts) -> latentdc.Dataset:
    whole = {
        "images": torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        "labels": torch.arange(3),
        "class_names": ("a", "b", "c"),
        "hashes": torch.arange(3),
        "name": "toy",
    }
    return latentdc.Dataset(**whole | parts)


@pytest.mark.parametrize("make", [toy_set, toy_data])
def test_class_names_are_different_texts_in_any_sequence(make):
    array = np.array(["a", "b", "c"])
    for names in (["a", "b", "c"], tuple(array), array):
        given = make(class_names=names).class_names
        assert given == ("a", "b", "c") and {*map(type, given)} == {str}
    for names in ("abc", (0, 1, 2), None):
        refused(lambda names=names: make(class_names=names), "class_names is a list of texts")
    refused(lambda: make(class_names=("a", "b", "a")), "all different, got 'a' twice")
    refused(lambda: make(class_names=("\xe9", "b", "e\u0301")), "all different, got '\xe9' twice")
    refused(lambda: make(class_names=("a", "b", "\udc80")), r"class name '\udc80' is no UTF-8")


@pytest.mark.parametrize("make", [toy_set, toy_data])
def test_class_names_are_equal_in_whichever_form_unicode_writes_them(make):
    assert make(class_names=("cafe\u0301", "b", "c")).class_names[0] == "caf\xe9"


def test_qualities_of_jpeg_are_a_list_of_numbers():
    for some in (
        (100, np.int64(5)),
        np.array([100, 5]),
        torch.tensor([5, 100]),
        {100, 5},
        iter([5, 100]),
    ):
        assert toy_set().storage(some).keys() >= {"images/jpeg100", "images/jpeg5"}
    for one in (95, np.array(95)):
        refused(lambda one=one: toy_set().storage(one), "qualities is an Iterable, got 95")
    for wrong in ([101], [-1], [9.5], "95"):
        refused(lambda wrong=wrong: toy_set().storage(wrong), "a quality of JPEG is a whole number")


@pytest.mark.parametrize("settings", [{"keep": 0.5}, {"count": 1}, {"keep": 1.0}])
def test_a_data_set_without_samples_is_not_pruned(settings):
    empty, prune = toy_data().select([]), Prune(score="random", **settings)
    refused(lambda: latentdc.prune_dataset(empty, prune), "toy holds no samples to choose from")


def test_hashes_that_cannot_tell_samples_apart_are_refused():
    refused(lambda: toy_data(hashes=torch.arange(3.0)), "hashes are int64", "got torch.float32")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"images": torch.zeros(3, 3, 8, 6)}, "images are (N, 3, H, H)"),
        ({"images": torch.zeros(3, 3, 0, 0)}, "images are (N, 3, H, H)"),
        ({"images": torch.full((3, 3, 8, 8), NAN)}, "images has values that are not finite"),
        ({"z": torch.full((3, 2), INF)}, "z has values that are not finite"),
        ({"grid": 1.5}, "grid is the number of pictures along a side of an image, got 1.5"),
        ({"grid": True}, "got True"),
        ({"learned_lr": "0.1"}, "learned_lr is a positive number, got '0.1'"),
        ({"learned_lr": True}, "learned_lr is a positive number, got True"),
        ({"whitening": 3}, "whitening is a Whitening, got 3"),
        ({"provenance": None}, "provenance maps texts to what JSON holds, got null"),
        ({"provenance": {"seeds": {1, 2}}}, "provenance maps texts to what JSON holds"),
        ({"provenance": {"path": Path("x")}}, "provenance maps texts to what JSON holds"),
        ({"provenance": {"loss": NAN}}, "provenance maps texts to what JSON holds"),
    ],
)
def test_parts_of_a_set_that_could_not_be_written_or_scored_are_refused(parts, told):
    refused(lambda: toy_set(**parts), told)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda one: one.rows(torch.tensor([3])), "the set: rows are whole numbers (M,) of its 3"),
        (lambda one: one.rows([0.5]), "such as torch.tensor([0, 2]), got [0.5]"),
        (lambda one: one.rows(1), "got 1"),
        (lambda one: one.rows([True]), "got [True]"),
        (lambda one: one.first_of_each(0), "ipc is a whole number of at least 1, got 0"),
        (lambda one: one.first_of_each(True), "ipc is a whole number of at least 1, got True"),
        (lambda one: one.to_torch(3), "preprocessing is a Normalization, got 3"),
    ],
)
def test_parts_that_a_set_does_not_have_are_refused(call, told):
    refused(lambda: call(toy_set()), told)
    assert toy_set().rows([2, 0]).labels.tolist() == [2, 0]
    assert toy_set().rows([True, False, True]).labels.tolist() == [0, 2]


@pytest.mark.filterwarnings("error")
def test_rows_are_whole_numbers_of_any_width():
    for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
        array = np.array([0, 2, 2], kind)
        for rows in (array, torch.from_numpy(array)):
            assert toy_set().rows(rows).labels.tolist() == [0, 2, 2]
            assert toy_data().select(rows).labels.tolist() == toy_data().labels[[0, 2, 2]].tolist()
    assert toy_set().rows((2, 0)).labels.tolist() == [2, 0]
    for none in ([], ()):
        refused(lambda none=none: toy_set().rows(none), "holds at least one image, got none")
    for bad in (np.array([3], "u2"), torch.zeros(3), torch.zeros(1, device="meta").long()):
        refused(lambda bad=bad: toy_set().rows(bad), "rows are whole numbers (M,)")
        refused(lambda bad=bad: toy_data().select(bad), "indices are whole numbers (M,)")


def test_a_set_lets_go_of_the_graph_that_made_its_parts():
    made = toy_set(
        images=torch.zeros(3, 3, 8, 8, requires_grad=True),
        weights=torch.ones(3, requires_grad=True) * 2,
        z=torch.ones(3, 1, requires_grad=True),
    )
    assert not any(part.requires_grad for part in (made.images, made.weights, made.z))


def test_a_set_is_written_to_a_folder_and_with_what_json_holds(tmp_path, monkeypatch):
    made = toy_set()
    for folder in (None, 3, b"x"):
        refused(lambda folder=folder: made.save_pretrained(folder), "folder is a path, got")
        refused(lambda name=folder: latentdc.SyntheticSet.from_pretrained(name), "is a path, got")
    refused(lambda: made.save_pretrained(tmp_path / "x", results={"a": {1}}), "results maps texts")
    refused(lambda: made.save_pretrained(tmp_path / "x", recipe=b"x"), "recipe is text")
    assert not (tmp_path / "x").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    made.save_pretrained("~/mine")
    assert (tmp_path / "mine").is_dir()
    assert latentdc.SyntheticSet.from_pretrained("~/mine").images.equal(made.images)


def test_seeds_of_numpy_are_seeds(tmp_path):
    data, prune = colours(), Prune(score="random", keep=0.5)
    chosen = [
        latentdc.prune_dataset(data, prune, seed=seed, folder=tmp_path) for seed in (3, np.int64(3))
    ]
    assert chosen[0].hashes.equal(chosen[1].hashes)
    assert type(latentdc.Context(seed=np.uint8(3)).seed) is int
    refused(lambda: latentdc.Context(seed=2**64), "seed is at least 0 and below 2^63")
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        refused(
            lambda folder=folder: latentdc.prune_dataset(data, prune, folder=folder),
            f"cannot write to {folder}; name another folder with folder=...",
        )


def test_numbers_of_numpy_are_numbers(tmp_path):
    number = np.int64
    data = setup.dataset()
    options = {"steps": 2, "batch": 2, "checkpoint_every": 1, "classes_per_step": 2}
    plain = setup.run(tmp_path / "plain", **options, seed=3, ipc=2)
    numpys = {name: number(value) for name, value in options.items()}
    again = setup.run(tmp_path / "numpy", **numpys, seed=number(3), ipc=number(2))
    assert plain.images.equal(again.images) and plain.z.equal(again.z)
    prior = small.load(None, "pixel", resolution=number(data.resolution))
    assert {*map(type, prior.latent_shape)} == {int}


FRAME = latentdc.compare(latentdc.Results([result()])).frame
NONSENSE = [
    (lambda: latentdc.Results([1]), "each of Results is a Result, got 1; such as those of eval"),
    (lambda: latentdc.Results(3), "Results are made of a list of Result, got 3"),
    (lambda: replace(result(), ipc="1"), "ipc of a Result is int, got '1'"),
    (lambda: replace(result(), unseen=0), "unseen of a Result is bool, got 0"),
    (lambda: replace(result(), run=3), "run of a Result is str | None, got 3"),
    (lambda: replace(result(), hashes=3), "hashes of a Result is a list of texts, got 3"),
    (lambda: replace(result(), settings=[1]), "settings of a Result is Mapping, got a list"),
    (lambda: latentdc.compare([result()], top5="no"), "top5 is True or False, got 'no'"),
    (lambda: latentdc.compare([result()], against=[1]), "against is the name of a set, or None"),
    (lambda: latentdc.compare(n for n in "ab"), "compare takes folders of runs or results of"),
    (lambda: latentdc.compare([result()]).to(np.zeros((2, 2))), "a comparison is written as text"),
    (lambda: latentdc.Comparison(3, None, "accuracy"), "frame is a DataFrame, got 3"),
    (lambda: latentdc.Comparison(FRAME, None, "top-5"), "the columns name and 'top-5'"),
    (lambda: latentdc.load_protocol("quick", changes=None), "changes is a list of texts, got null"),
    (lambda: latentdc.load_protocol("quick", students=(n for n in "ab")), "students is a list of"),
    (lambda: PROTOCOL.resolve("ten", 2), "images and classes are whole numbers, got 'ten'"),
    (lambda: PROTOCOL.resolve(10, NAN), "images and classes are whole numbers, got nan"),
    (lambda: PROTOCOL.lr_for(3), "a network is named, such as 'convnet3@32', got '3'"),
    (lambda: replace(Coreset.whole(colours(), "easy"), rule=[1]), "rule of a Coreset is str, got"),
    (lambda: replace(Coreset.whole(colours(), "easy"), keep="all"), "keep of a Coreset is float |"),
    (lambda: latentdc.score_dataset(colours(), Prune(score="random", keep=0.5), on_step=3),
     "on_step is a function, got 3"),
    (lambda: latentdc.score_dataset(colours(), Prune(score="random"), folder="a\0b"),
     "folder is a path, and 'a\\x00b' holds a character of none"),
    (lambda: latentdc.open_dataset(Data(source="digits"), np.zeros((2, 2))), "split is 'train' or"),
    (lambda: latentdc.Context(inputs=[1]), "inputs of a Context is Mapping, got a list"),
    (lambda: latentdc.Context(ipc=10**30), "ipc is at most 1,000,000,000, got 1000"),
    (lambda: small.load("x", precision=np.zeros((2, 2))), "precision is one of ("),
    (lambda: latentdc.SyntheticSet(**SET, learned_lr=np.zeros((2, 2))), "learned_lr is a positive"),
]  # fmt: skip
SET = {"images": stripes(3).images, "labels": stripes(3).labels, "class_names": ["a", "b", "c"]}


@pytest.mark.parametrize(("call", "told"), NONSENSE)
def test_nonsense_is_told_in_one_line(call, told):
    refused(call, told)
