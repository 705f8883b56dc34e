"""Mosaics, RDED and selection by the command, on digits; and the sweep that compares them."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn
from torchvision import models

from latentdc import config
from latentdc.data.open import open_splits
from latentdc.distill import check, main
from latentdc.errors import InputError
from latentdc.evaluate.__main__ import main as evaluate
from latentdc.evaluate.loading import load_protocol
from latentdc.methods import find_method
from latentdc.methods.mosaics import decoded_pictures, shaped
from latentdc.preprocessing import Normalization
from latentdc.prune import scorer_training, scorers
from latentdc.prune.foreign import read_scores
from latentdc.recipe import Data, Evaluate, MethodSettings, Mosaic, Prune, Rded, Recipe, Scorer
from latentdc.results.result import load
from latentdc.run_parts import Parts, method_context
from latentdc.sweep.__main__ import main as sweep
from latentdc.synthetic import SyntheticSet
from tests.evaluate.toys import TEST
from tests.processes import run_two

FAST = ["prune.scorer.epochs=2", "prune.scorer.network=convnet3@8", "prune.scorer.batch=64"]
SMALL = ["evaluate.students=[convnet3@2]", "evaluate.seeds=1", "evaluate.steps=2", "threads=1"]
CALL = [*FAST, *SMALL, "evaluate.rows=[distilled,random]"]
SETS = {"P/whole": 1, "P+C/whole": 2, "P+C/one-cell": 2, "RDED/whole": 2, "RDED/one-cell": 2}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which the sweep of all variants ran once."""
    folder = tmp_path_factory.mktemp("pca") / "run"
    sweep(["sweeps/pca", *CALL, f"output={folder}"])
    return folder


@pytest.mark.smoke
def test_one_sweep_holds_the_ablation_rded_and_random_images(swept):
    grids = {place: SyntheticSet.from_pretrained(swept / place).grid for place in SETS}
    assert grids == SETS
    asked = [
        SyntheticSet.from_pretrained(swept / place).provenance.get("classifier") for place in SETS
    ]
    assert asked == [None] * 3 + ["convnet3@8"] * 2
    table = (swept / "table.md").read_text()
    assert all(name in table for name in ("P+C", "RDED", "random", "one cell"))
    own = [result for result in load(swept / "results.json") if result.set == "distilled"]
    assert own and all(result.seconds for result in own)  # of methods without steps too
    classifiers = list((swept / "classifiers").iterdir())
    assert len([path for path in classifiers if path.suffix == ".safetensors"]) == 1


def test_the_mosaics_hold_the_easiest_images_of_each_class_whole(swept):
    train, _ = open_splits(Data(resolution=16))
    mosaics = SyntheticSet.from_pretrained(swept / "P+C/whole")
    assert mosaics.grid == 2 and mosaics.provenance["settings"]["fit"] == "squash"
    (path,) = swept.glob("scores/*/scores.parquet")
    scores = read_scores(path, train, "el2n").fitted(train).column("el2n")
    picture = decoded_pictures(train)
    for label, image in zip(mosaics.labels.tolist(), mosaics.images, strict=True):
        members = train.members(label)
        easiest = members[scores[members].argsort(stable=True)[:4]].tolist()
        cells = [image[:, y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]
        for row, cell in zip(easiest, cells, strict=True):
            whole = shaped(picture(row), (8, 8), "squash")
            shown = Image.fromarray(cell.permute(1, 2, 0).contiguous().numpy())
            assert shown.tobytes() == whole.tobytes()
    pruned = SyntheticSet.from_pretrained(swept / "P/whole")
    first = [train.members(k)[scores[train.members(k)].argmin()] for k in range(10)]
    assert pruned.grid == 1 and torch.equal(pruned.images, train.images[torch.stack(first)])


def test_started_again_a_set_is_not_made_again(swept, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in swept.glob("*/*/synthetic/*")}
    monkeypatch.setattr("latentdc.methods.mosaics.mosaic", lambda *_: pytest.fail("made"))
    (swept / "P+C/whole/cell.json").unlink()
    rows = {path: path.stat().st_mtime_ns for path in (swept / "trainings").iterdir()}
    sweep(["sweeps/pca", *CALL, f"output={swept}"])
    assert {path: path.stat().st_mtime_ns for path in (swept / "trainings").iterdir()} == rows
    images = [path for path in before if path.suffix == ".parquet"]
    assert [path.stat().st_mtime_ns for path in images] == [before[path] for path in images]


def test_single_crops_of_rded_are_no_mosaics(tmp_path):
    call = ["pca_digits", *CALL, "method.kind=rded", "rded.grid=1", f"output={tmp_path}"]
    main(call)
    made = SyntheticSet.from_pretrained(tmp_path)
    assert made.grid == 1 and made.provenance["teacher_accuracy_on_crops"] > 0.1
    facts = {key: value for key, value in made.provenance.items() if key != "classifier"}
    recipe = (tmp_path / "synthetic/recipe.yaml").read_text()
    shutil.rmtree(tmp_path / "synthetic")  # and put there as earlier versions did
    replace(made, provenance=facts).save_pretrained(tmp_path / "synthetic", recipe=recipe)
    main(call)
    assert SyntheticSet.from_pretrained(tmp_path).provenance == facts
    assert not any(row.unseen for row in load(tmp_path / "results.json"))


@pytest.mark.slow
def test_two_processes_make_the_same_sets_and_rows_as_one(tmp_path):
    def calls(place):
        return {
            kind: ["pca_digits", *CALL, f"method.kind={kind}", f"output={tmp_path / place / kind}"]
            for kind in ("mosaic", "rded", "selection")
        }

    def rows(folder):
        """By file what was trained; on how many processes, a file tells too."""
        told = {p.name: json.loads(p.read_text()) for p in (folder / "trainings").glob("*.json")}
        own = {"machine", "checksum"}
        return {name: {k: v for k, v in one.items() if k not in own} for name, one in told.items()}

    run_two("tests.methods.two_runs", json.dumps([*calls("two").values()]))
    for kind, words in calls("one").items():
        main(words)
        one, two = tmp_path / "one" / kind, tmp_path / "two" / kind
        alone, both = SyntheticSet.from_pretrained(one), SyntheticSet.from_pretrained(two)
        assert torch.equal(alone.images, both.images)
        made = alone.provenance["made"]  # when, and by which command
        assert alone.provenance == {**both.provenance, "made": made}
        assert rows(one) == rows(two) and len(rows(one)) == 2


def test_the_sets_can_be_evaluated_and_no_other_grid_is_taken(swept, tmp_path, capsys):
    made = str(swept / "RDED/whole")
    call = [made, *SMALL, "evaluate.rows=[distilled,random]", "protocol=pca"]
    evaluate([*call, "--output", str(tmp_path)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        evaluate([*call, "protocol.views.cells=3", "--output", str(tmp_path)])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert "mosaics of 2 x 2 and the protocol crops in cells of 3 x 3" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mosaic.gird=2"], "did you mean 'mosaic.grid'"),
        (["ipc=40"], "prune.count keeps 160 images of each class"),
        (["method.kind=mosiac"], "got 'mosiac'; did you mean 'mosaic'"),
        (["method.kind=json:nothing"], "method.kind=json:nothing: json has no nothing; it has"),
        (["method.kind=:it"], "or package.module:attribute, got ':it'"),
        (["method.kind=.relative:it"], "or package.module:attribute, got '.relative:it'"),
        (["method.kind=math:pi"], "prior, settings, context) -> SyntheticSet, got 3.14"),
        (["rded.pool=2", "method.kind=rded"], "its pool has 2"),
        (["rded.grid=9", "method.kind=rded"], "leaves cells of 1 px in a grid of 9"),
        (["mosaic.grid=3"], "write evaluate.changes=[views.cells=3]"),
        (["method.options={a: b}"], "mosaic is set in mosaic"),
        (["evaluate.learned_lr=true"], "method.kind=mosaic learns none"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(["pca_digits", *CALL, *arguments, f"output={tmp_path / 'run'}"])
    assert end.value.code == 2 and message in capsys.readouterr().err


MOSAICS = MethodSettings(kind="mosaic")


def test_mosaics_take_grid_squared_images_for_each_and_a_selection_one():
    assert Recipe(ipc=3, method=MOSAICS).prune.count == 12
    recipe = Recipe(ipc=2, method=MOSAICS, mosaic=Mosaic(grid=3), prune=Prune(times_ipc=9))
    assert recipe.prune.count == 18
    assert Recipe(ipc=3, method=MethodSettings(kind="selection")).prune.count == 3


def test_without_cells_pca_is_the_hard_protocol_of_the_benchmark():
    pca, hard = load_protocol("pca"), load_protocol("rdc-hard")
    assert load_protocol("pca", changes=["views.cells=null"]).hash == hard.hash
    assert load_protocol("rdc-hard", changes=["views.cells=2"]).hash == pca.hash
    check(
        Recipe(
            data=Data(resolution=64),
            method=MOSAICS,
            mosaic=Mosaic(grid=3),
            evaluate=Evaluate(protocol="pca", changes=["views.cells=3"]),
        )
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(method=MOSAICS, prune=Prune(keep=0.5)), "take exactly 4 images of each"),
        (lambda: Recipe(method=MOSAICS, prune=Prune(count=5)), "take exactly 4 images of each"),
        (lambda: Recipe(method=MOSAICS, mosaic=Mosaic(grid=9)), "leaves cells of 1 px"),
        (lambda: Mosaic(grid=1), "from 2 to 16, got 1"),
        (lambda: Rded(grid=0), "from 1 to 16, got 0"),
        (lambda: Rded(pool=0), r"rded\.pool is at least 1, got 0"),
        (lambda: Rded(scale=(0.5, 0.2)), r"rded\.scale is a range of shares"),
        (lambda: find_method("nowhere.at.all:it"), "No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("path", sorted(config.shipped_folder("recipes").glob("pca_*.yaml")))
def test_a_shipped_recipe_of_mosaics_is_taken_and_says_how_to_run_it(path):
    recipe = config.load(Recipe, path)
    check(recipe)
    assert load_protocol(recipe.evaluate.protocol).views.cells == recipe.mosaic.grid
    assert recipe.prune.score == "el2n" and recipe.prune.order == "easy"
    assert f"latentdc.distill recipes/{path.name}" in path.read_text()


def own_method(coreset, prior: None, settings, context):
    """A method of someone's own: black images."""
    assert prior is None
    shape = (10 * context.ipc, 3, 16, 16)
    return SyntheticSet(
        torch.zeros(shape, dtype=torch.uint8),
        torch.arange(10).repeat_interleave(context.ipc),
        context.train.class_names,
        provenance={"colour": settings["colour"]},
    )


def test_a_method_of_ones_own_is_named_by_its_module(tmp_path):
    kind = f"method={{kind: '{__name__}:own_method', options: {{colour: black}}}}"
    words = ["prune.keep=1", "evaluate.rows=[]", "threads=1", f"output={tmp_path}"]
    main(["digits_ipc1", kind, *words])
    made = SyntheticSet.from_pretrained(tmp_path)
    assert made.images.max() == 0 and made.provenance["colour"] == "black"
    assert "prior" not in made.provenance


def no_set(coreset, prior: None, settings, context):
    return 3


def two_of_each(coreset, prior: None, settings, context):
    return own_method(coreset, prior, {"colour": ""}, replace(context, ipc=2 * context.ipc))


def other_names(coreset, prior: None, settings, context):
    made = own_method(coreset, prior, {"colour": ""}, context)
    return replace(made, class_names=tuple("abcdefghij"))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (no_set, "no_set returned is a SyntheticSet, got 3"),
        (two_of_each, "two_of_each returned has 2 of each class, and ipc is 1"),
        (other_names, "other_names returned has not the classes of the data set"),
    ],
)
def test_what_a_method_of_ones_own_returns_is_checked(tmp_path, capsys, method, message):
    words = ["prune.score=random", f"output={tmp_path}", *SMALL]
    with pytest.raises(SystemExit) as end:
        main(["digits_ipc1", f"method.kind={__name__}:{method.__name__}", *words])
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "synthetic").exists()


def test_a_picture_that_was_deleted_is_drawn_again(tmp_path):
    words = ["prune.score=random", "evaluate.rows=[]", "threads=1", f"output={tmp_path}"]
    main(["pca_digits", *words])
    picture = tmp_path / "synthetic" / "grid.png"
    before = picture.read_bytes()
    for path in (picture, tmp_path / "grid.png"):
        path.unlink()
        main(["pca_digits", *words])
        assert picture.read_bytes() == (tmp_path / "grid.png").read_bytes() == before


def test_too_small_a_class_is_found_before_a_classifier_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "latentdc.run_parts.real_classifier", lambda *_, **__: pytest.fail("trained")
    )
    with pytest.raises(SystemExit):
        main(["pca_digits", *CALL, "method.kind=rded", "ipc=40", f"output={tmp_path}"])
    assert "RDED chooses 160 crops" in capsys.readouterr().err


def test_a_damaged_classifier_is_trained_again(tmp_path, capsys):
    call = ["pca_digits", *CALL, "method.kind=rded", "evaluate.rows=[]", f"output={tmp_path}"]
    main(call)
    (path,) = (tmp_path / "classifiers").glob("*.safetensors")
    before = path.read_bytes()
    path.write_bytes(before[:-9])
    shutil.rmtree(tmp_path / "synthetic")
    main(call)
    told = capsys.readouterr().err
    assert f"{path} is damaged" in told and "made again" in told
    assert path.read_bytes() == before


def test_a_given_classifier_sees_what_its_weights_expect(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(scorers, "given_scorer", lambda _, __, plain: seen.append(plain) or Blank())
    monkeypatch.setattr(scorers, "real_accuracy", lambda *_: 1.0)
    scorer = Scorer(weights=str(tmp_path), mean=(0.25,) * 3, std=(0.125,) * 3)
    recipe = Recipe(prune=Prune(scorer=scorer))
    opened = Parts(
        recipe, "", find_method("rded"), None, TEST, lambda: TEST, None, None, None, None
    )
    method_context(opened, tmp_path, tmp_path, Accelerator()).real_classifier()
    assert (seen[0].mean, seen[0].std) == (scorer.mean, scorer.std)


class Blank(nn.Module):
    """Notes what it sees."""

    def forward(self, images):
        self.seen = images
        return torch.zeros(len(images), 1000)


def test_a_torchvision_classifier_sees_whole_images_at_their_size(monkeypatch, tmp_path):
    """Its own preparation would enlarge them and crop the centre, and so cut a canvas."""
    network = Blank()
    monkeypatch.setattr(models, "get_model", lambda *_, **__: network)
    monkeypatch.setattr(scorers, "real_accuracy", lambda *_: 1.0)
    names = {"class_names": ("tench", "parachute", "chain saw"), "resolution": 8, "kind": "images"}
    scorer = Scorer(network="resnet18", weights="torchvision", mean=(0.5,) * 3, std=(0.5,) * 3)
    train, normalization = SimpleNamespace(**names), Normalization(scorer.mean, scorer.std)
    given = {"seed": 0, "folder": tmp_path, "accelerator": Accelerator()}
    classifier, _ = scorer_training.real_classifier(
        scorer, train, lambda: TEST, normalization=normalization, **given
    )
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    classifier(images)
    torch.testing.assert_close(network.seen, images)
