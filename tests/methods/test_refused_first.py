"""What a method cannot do is refused before anything is scored, trained or sampled."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdc import run, run_parts
from latentdc.data.open import open_splits
from latentdc.distill import main
from latentdc.errors import InputError
from latentdc.methods import sampled
from latentdc.methods.context import Context
from latentdc.methods.sampling import sampling
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import prune_dataset
from latentdc.recipe import Data, Prune, Sampling
from latentdc.recipe.prior import Flow
from latentdc.synthetic import SyntheticSet
from tests.methods import setup
from tests.methods.command import fails, refused, write_recipe
from tests.priors import small
from tests.priors.test_flow import SIT, flow_prior

SAMPLING = [
    *("method.kind=sampling", "prior={kind: diffusion, weights: digits, steps: 4}"),
    *("data.resolution=16", "prune={score: el2n, keep: 0.2}"),
]
CENTRES = "sampling.anchors.kind=centres"
SELECTION = ["method.kind=selection", "data.resolution=16", "prune={score: el2n, keep: 0.2}"]
MODE = "{scale: 1, window: [0, 2]}}"
INFOBATCH = ["evaluate.rows=[distilled,random]", "evaluate.changes=[infobatch=0.5]"]
KIND = "selection.select.kind=confidence"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    write_recipe(tmp_path)
    for module, name in (
        (run, "prune_dataset"),
        (run_parts, "real_classifier"),
        (run_parts, "trained_as_long"),
        (run_parts, "training_snapshots"),
        (DiffusionPrior, "sample"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it had begun"))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([CENTRES, "ipc=30"], "30 anchors are made of 30 or more different images of each class"),
        (["method.kind=refine", CENTRES, "ipc=30"], "and '0' has 28; lower ipc or sampling.anch"),
        (
            ["sampling.start=anchors", "sampling.anchors.kind=gaussian", "prune.keep=0.001"],
            "a deviation is taken of 2 or more different images of each class, and '0' has 1; "
            "lower sampling.anchors.outliers, or keep more (prune.keep).",
        ),
        (
            [CENTRES, "sampling.weights=true", "evaluate.changes=[infobatch=0.5]"],
            "sampling.weights=true weighs the images, and infobatch has weights of its own",
        ),
        (["sampling.own=[{kind: math:sqrt}]"], "sampling.own.0.kind"),
        (["sampling.learnability={scale: 1, start: ./nowhere}"], "no synthetic set './nowhere'"),
        (
            ["sampling.influence={scale: 1, network: nothing:network}"],
            "network=nothing:network: cannot import nothing",
        ),
    ],
)
def test_what_a_class_or_a_file_lacks(capsys, overrides, told):
    assert told in refused(capsys, *SAMPLING, *overrides)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ["sampling.select.kind=random"],
            "10,000,000 candidates (sampling.select.groups=1",
        ),
        (
            [
                *("sampling.select.kind=moments", "sampling.anchors.kind=gaussian"),
                "sampling.start=anchors",
            ],
            "moments compare 1,000,000 groups of ",
        ),
    ],
)
def test_more_candidates_than_memory_holds_or_than_hours_compare(
    capsys, monkeypatch, settings, told
):
    monkeypatch.setattr(sampled, "free_bytes", lambda device: 10**9)
    monkeypatch.setattr(sampled, "COMPARED", 10**7)
    line = refused(capsys, *SAMPLING, *settings, "sampling.select.groups=1000000")
    assert told in line and "lower sampling.select.groups to " in line


def test_all_processes_refuse_candidates_that_one_of_them_has_no_memory_for(capsys, monkeypatch):
    monkeypatch.setattr(sampled, "gather_object", lambda free: [*free, 1])  # and another's
    line = refused(capsys, *SAMPLING, "sampling.select={kind: centroids, groups: 2}")
    assert "20 candidates (sampling.select.groups=2) stay until the choice" in line


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ("{weights: gone.safetensors}", "prune.scorer.weights: there is no file gone.safetensors"),
        ("{network: convnett3}", "unknown network 'convnett3'; did you mean 'convnet3'?"),
    ],
)
def test_a_classifier_that_only_the_method_asks_is_looked_for_first(capsys, scorer, told):
    kept = ["prune.score=random", f"prune.scorer={scorer}"]
    assert told in refused(capsys, *SAMPLING, *kept, "sampling.select.kind=confidence")


def test_the_main_process_alone_looks_whether_the_set_is_there(capsys, monkeypatch):
    """What is checked has work of all processes, and a folder may be seen late on another node."""
    seen = run.runtime.broadcast
    monkeypatch.setattr(run, "is_set", lambda folder: True)
    of_main = (False, False, False)
    monkeypatch.setattr(
        run.runtime,
        "broadcast",
        lambda value: of_main if isinstance(value, tuple) else seen(value),
    )
    assert "30 anchors are made" in refused(capsys, *SAMPLING, CENTRES, "ipc=30")


LACKING = [
    (
        ["sampling={start: anchors, strength: 0.5, anchors: {kind: centres}, mode: " + MODE],
        "sampling.mode.window=[0, 2] ends before step 2",
    ),
    ([CENTRES, "sampling.mode={scale: 1, window: [3, 4]}"], "step 3, the last, adds none"),
    (["prior.guidance=0"], "is not told the classes at prior.guidance=0, and nothing else"),
    (
        ["prior.guidance=0", CENTRES, "sampling.text_mode.scale=1"],
        "text_mode pulls the conditional branch, and this prior is not told the classes",
    ),
    (
        ["prior.guidance=0", "sampling.features.scale=1", "sampling.semantic.scale=1"],
        "semantic mixes conditions of two classes, and this prior is not told the classes",
    ),
    (["prior.compile=true", "sampling.features.scale=1"], "not compiled; set prior.compile=false"),
    (["data.classes=['1']"], "data.classes keeps the single class ['1']"),
]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(("overrides", "told"), LACKING)
def test_what_a_prior_lacks_is_refused_by_the_dry_run_too(capsys, overrides, told, dry):
    assert told in refused(capsys, *SAMPLING, *overrides, *dry)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([KIND, "ipc=30"], "the core set has 28 candidates of class '0', and 30 of ipc=30"),
        ([KIND, "selection.pool=./nowhere"], "no synthetic set './nowhere'"),
        (["selection.start=./nowhere"], "no synthetic set './nowhere'"),
        (["selection.pool=made", "ipc=3"], "the pool has 2 candidates of class '0', and 3 of"),
        ([KIND, "selection.pool=made", "ipc=3"], "the pool has 2 candidates of class '0'"),
        (["selection.start=made", KIND, "ipc=2"], "selection.start has 2 of each class, and"),
        (["selection.start=made", KIND, "ipc=31"], "the core set has 28 candidates"),
        (["selection.start=soft", KIND, "ipc=3"], "the set in selection.start has soft labels"),
        (["selection.pool=soft", *INFOBATCH], "soft set has soft labels, and infobatch judges"),
        (
            ["method.kind=rded", "ipc=8"],
            "RDED chooses 32 crops of different images of class '0', and its pool has 28",
        ),
    ],
)
def test_pools_that_are_too_small_or_not_there(capsys, overrides, told):
    images = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).repeat(1, 3, 16, 16)
    labels = torch.arange(10).repeat_interleave(2)
    names = tuple(map(str, range(10)))
    SyntheticSet(images, labels, names).save_pretrained("made")
    soft = 4 * torch.eye(10)[labels]
    SyntheticSet(images, labels, names, soft_labels=soft).save_pretrained("soft")
    assert told in refused(capsys, *SELECTION, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [*SAMPLING, CENTRES],
        [*SELECTION, KIND],
        [*SELECTION, "method.kind=rded"],
        ["distill.init=real", "prune.keep=0.2"],
    ],
)
def test_a_dry_run_knows_about_how_many_images_there_are(capsys, overrides):
    told = fails(capsys, 2, *overrides, "ipc=60", "--dry-run")
    each = 240 if "method.kind=rded" in overrides else 60
    assert f"ipc=60 takes {each} different images of each class, and the core set has" in told
    assert told.endswith("; lower ipc, or keep more (prune.keep).")
    main(["quick.yaml", *overrides, "ipc=2", "--dry-run"])


def give_core_set(count: int) -> None:
    """`given.parquet`, of so many digits."""
    train, _ = open_splits(Data(resolution=8))
    prune_dataset(train.select(range(count)), Prune()).save("given.parquet")


def test_a_dry_run_counts_a_core_set_that_is_given(capsys):
    give_core_set(720)
    words = [*SELECTION, KIND, "prune.coreset=given.parquet"]
    main(["quick.yaml", *words, "ipc=60", "--dry-run"])
    assert re.search(r"^core set: +720 images$", capsys.readouterr().out, re.M)
    told = fails(capsys, 2, *words, "ipc=100", "--dry-run")
    assert told.endswith("and the core set has about 72; lower ipc.")
    Path("damaged.parquet").touch()
    told = fails(capsys, 2, *words, "prune.coreset=damaged.parquet", "--dry-run")
    assert "cannot read the core set damaged.parquet" in told


def test_a_dry_run_counts_the_smallest_class_of_a_folder(capsys, tmp_path):
    draw = np.random.default_rng(0)
    for name, count in (("cats", 9), ("dogs", 9), ("owls", 3)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            levels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(levels).save(tmp_path / "pets" / name / f"{number}.png")
    words = ["quick.yaml", "data.source=pets", "data.resolution=16", "data.test_share=0.34"]
    rows = "evaluate.rows=[distilled,random]"
    told = fails(capsys, 2, *words[1:], rows, "distill.init=noise", "ipc=3", "--dry-run")
    assert "ipc=3 takes 3 different images of each class, and the smallest class has" in told
    assert told.endswith("choose a smaller ipc.")  # keeping more than all is none
    kept = ["prune.keep=0.5", "evaluate.rows=[distilled,random,coreset]"]
    told = fails(capsys, 2, *words[1:], *kept, "ipc=2", "--dry-run")
    assert (
        "and the smallest class of the core set has at most 1; choose a smaller ipc, or keep"
        in told
    )
    give_core_set(12)
    main([*words, *kept, "prune.coreset=given.parquet", "ipc=2", "--dry-run"])
    main([*words, rows, "ipc=2", "evaluate.seeds=1", "--dry-run"])
    assert "1 seed of 2 rows, each trained on" in capsys.readouterr().out


def test_a_dry_run_tells_which_sets_are_not_here(capsys):
    main(["quick.yaml", *SELECTION, "selection.pool=owner/name", "--dry-run"])
    told = capsys.readouterr().out
    assert "owner/name: not here, and taken for an id on the Hub" in told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "whose steps add no noise, and sampling.eta is 1; write sampling.eta=0"),
        ({"eta": 0.0, "influence": {"scale": 1}}, "influence is a formula of a diffusion's alpha"),
        ({"eta": 0.0, "diversity": {"scale": 1, "window": [1, 2]}}, "diversity is a formula"),
    ],
)
def test_what_a_flow_cannot_do(tmp_path, settings, told):
    flow, data = Flow(**SIT), setup.dataset()
    prior = small.load(flow_prior(tmp_path), steps=4, class_names=small.CLASSES, flow=flow)
    with pytest.raises(InputError, match=told):
        sampling(Coreset.whole(data, "easy"), prior, Sampling(**settings), Context(train=data))
