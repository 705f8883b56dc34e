import json
import shutil
from pathlib import Path

import pytest
import torch

from latentdc import checkpoint, cli
from latentdc.data.open import open_splits, plain_preprocessing
from latentdc.distill import main
from latentdc.evaluate.__main__ import main as evaluate
from latentdc.experts.__main__ import main as experts
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.metrics.__main__ import main as measure
from latentdc.objectives.build import build_objective
from latentdc.priors.pixel import VectorPrior
from latentdc.prune.__main__ import main as prune
from latentdc.recipe import Data, Loops, Matching, ObjectiveSettings, Trim
from latentdc.results.result import load
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.synthetic_set import set_hash
from tests.clusters import CLASSES, WIDTH, clusters, opened, write

RECIPE = """
data: {kind: vectors, source: moves}
prune: {scorer: {network: mlp@32, epochs: 5, lr: 0.05, batch: 16}}
prior: {kind: vector}
objective: {kind: dm, network: mlp@32, augment: null}
distill: {steps: 60, lr_z: 0.3, checkpoint_every: 30}
evaluate: {protocol: vectors, students: [linear, mlp@64], seeds: 2, steps: 150}
threads: 1
"""
RUN = Path("runs/moves")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "moves", per_class=40)
    (tmp_path / "moves.yaml").write_text(RECIPE)
    return "moves.yaml"


def made(train, folder=None, *, network="mlp@32", kind="dm", **options):
    standard = plain_preprocessing(Data(), train)
    objective = build_objective(
        ObjectiveSettings(
            kind=kind,
            network=network,
            batch=options.pop("batch", 16),
            augment=None,
            loops=Loops(outer=1, inner=1),
        ),
        num_classes=CLASSES,
        resolution=WIDTH,
        normalization=standard,
    )
    context = Context(ipc=options.pop("ipc", 1))
    settings = Matching(**{"steps": 10, "lr_z": 0.1, "checkpoint_every": 5, **options})
    context = context if folder is None else checkpoint.in_folder(folder, context)
    return match(train, VectorPrior(standard), objective, settings, context)


def refused(capsys, command, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        command(list(arguments))
    told = capsys.readouterr().err
    begun = tuple(f"latentdc: {word}: " for word in ("note", "distill", "evaluate", "prune"))
    lines = [line for line in told.splitlines() if not line.startswith(begun)]
    assert stop.value.code == 2 and len(lines) == 1, told
    return told


def test_under_the_identity_the_only_vector_of_a_class_becomes_its_mean(tmp_path):
    train, _ = opened(tmp_path / "set")
    ours = made(train, network="linear", batch=1000, steps=40, lr_z=0.3)
    means = torch.stack([train.images[train.labels == c].mean(0) for c in range(CLASSES)])
    torch.testing.assert_close(ours.images, means, rtol=1e-3, atol=1e-3)


def test_of_several_vectors_the_identity_matches_the_mean_alone(tmp_path):
    train, _ = opened(tmp_path / "set")
    ours = made(train, network="linear", batch=1000, steps=80, lr_z=0.3, ipc=3)
    start = made(train, network="linear", batch=1000, steps=0, ipc=3)
    groups = ours.images.view(CLASSES, 3, WIDTH), start.images.view(CLASSES, 3, WIDTH)
    means = torch.stack([train.images[train.labels == c].mean(0) for c in range(CLASSES)])
    torch.testing.assert_close(groups[0].mean(1), means, rtol=1e-3, atol=1e-3)
    moved, before = (group - group.mean(1, keepdim=True) for group in groups)
    torch.testing.assert_close(moved, before, rtol=1e-3, atol=2e-2)


def test_steps_do_not_depend_on_the_units_of_the_values(tmp_path):
    train, _ = opened(tmp_path / "set")
    other = train.images * 64
    again, _ = opened(tmp_path / "other", train=other.numpy())
    torch.testing.assert_close(made(again).images, made(train).images * 64, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("options", [{}, {"kind": "dc"}, {"trim": Trim(share=0.4, refresh=2)}])
def test_a_continued_run_ends_bitwise_as_an_uninterrupted_one(tmp_path, options):
    train, _ = opened(tmp_path / "set", per_class=10)
    whole = made(train, tmp_path / "whole", ipc=2, **options)
    made(train, tmp_path / "parts", ipc=2, steps=5, **options)
    parts = made(train, tmp_path / "parts", ipc=2, **options)
    assert torch.equal(whole.images, parts.images) and torch.equal(whole.z, parts.z)
    start = made(train, ipc=2, steps=0, **options)
    assert not torch.equal(start.images, whole.images)


def test_one_distilled_vector_per_class_beats_random_ones_by_far(recipe, capsys):
    main([recipe])
    assert "distilled" in capsys.readouterr().out
    rows = json.loads((RUN / "results.json").read_text())["results"]
    means = {(row["set"], row["student"]): row["mean"] for row in rows}
    for student in ("linear", "mlp@64"):
        assert means["distilled", student] > means["random", student] + 0.1
        assert means["full", student] > means["random", student] + 0.1
    saved = SyntheticSet.from_pretrained(RUN)
    assert saved.provenance["values"] == WIDTH and saved.provenance["prior"] == "vector"
    assert saved.provenance["weights"] is None
    assert "resolution" not in saved.provenance and not (RUN / "grid.png").exists()


def test_pruned_and_distilled_vectors_are_evaluated_in_one_table(recipe, tmp_path, capsys):
    prune([recipe, "prune.score=herding", "prune.count=1", "output=runs/herding"])
    assert "kept 4 of 160 images (herding)" in capsys.readouterr().out
    main([recipe, "evaluate.rows=[]", "prune.keep=0.5"])
    assert "right on moves test" in capsys.readouterr().err  # scored by a training on the spot
    shutil.move(RUN / "synthetic", tmp_path / "shared")
    words = ["evaluate.students=[linear]", "evaluate.rows=[distilled,random]"]
    evaluate(["shared", "runs/herding/coreset.parquet", *words, "--output", "both"])
    sets = [row["set"] for row in json.loads(Path("both/evaluation.json").read_text())["results"]]
    assert sets == ["shared", "herding", "random"]


def test_a_dry_run_counts_vectors(recipe, capsys):
    main([recipe, "--dry-run"])
    printed = capsys.readouterr().out
    assert "moves, vectors of 16 values" in printed and "160 of 4 classes" in printed
    assert "z (16,) per image" in printed and not RUN.exists()


def test_a_selection_of_vectors_needs_no_space_to_match_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    narrow = {
        split: clusters(40, seed)[0][:, :6].numpy() for split, seed in (("train", 1), ("test", 2))
    }
    write(tmp_path / "six", **narrow)
    (tmp_path / "six.yaml").write_text(
        "data: {kind: vectors, source: six}\nprune: {score: random}\nipc: 3\n"
        "method: {kind: selection}\nevaluate: {protocol: vectors, rows: []}\nthreads: 1\n"
    )
    main(["six.yaml"])
    made = SyntheticSet.from_pretrained("runs/six")
    assert made.provenance["values"] == 6 and made.images.shape == (3 * CLASSES, 6)


def half(coreset, prior: None, settings, context) -> SyntheticSet:
    """A method of one's own: the first two real vectors of each class, as they are."""
    return SyntheticSet.from_real(context.core_images(coreset)).first_of_each(2)


@pytest.mark.parametrize("method", ["selection", "tests.methods.test_vectors:half"])
def test_a_set_of_real_vectors_in_half_precision_can_be_verified(method, tmp_path, monkeypatch):
    """Such a set was scored under another hash than that of what was stored of it."""
    monkeypatch.chdir(tmp_path)
    some, other = (clusters(20, seed)[0].div(1000).half().numpy() for seed in (1, 2))
    write(tmp_path / "half", per_class=20, train=some, test=other)
    Path("half.yaml").write_text(
        f"data: {{kind: vectors, source: half}}\nprune: {{score: random}}\nipc: 2\n"
        f"method: {{kind: '{method}'}}\nthreads: 1\n"
        "evaluate: {protocol: vectors, students: [linear], seeds: 3, steps: 5}\n"
    )
    main(["half.yaml"])
    stored = SyntheticSet.from_pretrained("runs/half")
    results = {one.set: one for one in load(Path("runs/half/results.json"))}
    assert {*results["distilled"].hashes} == {set_hash(stored)}
    cli.main(["verify", "runs/half", "--recipe", "half.yaml"])
    real, _ = open_splits(Data(kind="vectors", source="half"))
    assert real.images.dtype == torch.float16
    assert SyntheticSet.from_real(real).storage()["vectors/float32"] == 4 * real.images.numel()


REFUSED = {
    "prior.kind=pixel": "makes images, and data.kind is vectors; write prior: {kind: vector}",
    "objective.augment=color": "objective.augment=color is about images",
    "objective.kind=mtt": "follows experts that are trained on images",
    "objective.network=convnet3": "convnet3 is a network of images, and the data set has vectors",
    "distill.grid_every=5": "draws images",
    "evaluate.protocol=quick": "protocol quick: its augment is about images",
    "evaluate.protocol=rdc-hard": "its views is about images",
    "evaluate.students=[convnet3]": "convnet3 is a network of images",
    "data.zca=true": "data.zca=True is about images",
    "data.kind=images": "the space of feature vectors, and data.kind is images",
    "data.source=nowhere": "no folder or file nowhere",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_about_images_is_refused_and_nothing_written(recipe, capsys, override):
    assert REFUSED[override] in refused(capsys, main, recipe, override)
    assert not Path("runs").exists()


def test_networks_of_vectors_are_refused_for_images(recipe, capsys):
    images = ["data.kind=images", "data.source=digits", "prior.kind=pixel"]
    told = refused(capsys, main, recipe, *images, "evaluate.protocol=quick")
    assert "mlp@32 is a network of vectors, and the data set has images" in told


def test_scorers_and_commands_of_images_are_refused(recipe, capsys):
    keep = "prune.keep=0.5"
    told = refused(capsys, prune, recipe, keep, "prune.scorer.network=resnet20")
    assert "resnet20 is a network of images" in told
    told = refused(capsys, prune, recipe, keep, "prune.scorer.resolution=8")
    assert "prune.scorer.resolution=8 is about images" in told
    told = refused(capsys, prune, recipe, keep, "prune.scorer.weights=torchvision")
    assert "weights=torchvision classifies images, and data.kind is vectors" in told
    told = refused(capsys, main, recipe, "method.kind=mosaic")
    assert "method.kind=mosaic works on images" in told
    told = refused(capsys, experts, recipe, "objective.kind=mtt")
    assert "latentdc experts works on images" in told


def test_a_set_of_images_is_not_scored_on_vectors(recipe, capsys, tmp_path):
    main([recipe, "distill.steps=0", "evaluate.rows=[]"])
    capsys.readouterr()
    assert "latentdc measure works on images" in refused(capsys, measure, str(RUN))
    shape = (CLASSES, 3, 8, 8)
    names = SyntheticSet.from_pretrained(RUN).class_names
    images = SyntheticSet(torch.zeros(shape, dtype=torch.uint8), torch.arange(CLASSES), names)
    images.save_pretrained(tmp_path / "images", recipe=RECIPE)
    told = refused(capsys, evaluate, "images")
    assert "the distilled set holds images, and the test set vectors" in told.splitlines()[-1]
