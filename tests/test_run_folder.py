import os
from dataclasses import replace
from pathlib import Path

import pytest

from latentdc import cli, config, run_folder
from latentdc.distill import main as distill
from latentdc.errors import InputError
from latentdc.recipe import Data, Evaluate, Matching, PriorSettings, Prune, Recipe
from latentdc.results.result import save
from tests.results.toys import result

RECIPE = Recipe(prior=PriorSettings(kind="pixel"), prune=Prune(keep=0.5))


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has its core set and has saved no latents."""
    folder = tmp_path / "runs" / "mine"
    run_folder.claim_folder(RECIPE, folder)
    (folder / run_folder.CORESET).write_bytes(b"hashes")
    return folder


def begun(folder):
    (folder / "checkpoints" / "step-00000005").mkdir(parents=True)
    return folder


def test_checking_writes_nothing(tmp_path):
    run_folder.check_folder(RECIPE, tmp_path / "runs" / "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [
        replace(RECIPE, distill=Matching(lr_z=0.1)),
        replace(RECIPE, prior=PriorSettings(weights="digits")),
        replace(RECIPE, ipc=5),
    ],
)
def test_a_corrected_recipe_takes_over_a_run_that_saved_no_latents(run, changed):
    run_folder.check_folder(changed, run)
    run_folder.claim_folder(changed, run)
    with pytest.raises(InputError, match="another recipe"):
        run_folder.check_folder(RECIPE, begun(run))
    run_folder.check_folder(changed, run)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        (replace(RECIPE, prune=Prune(keep=0.25)), r"prune\.keep is 0\.25 and was 0\.5"),
        (replace(RECIPE, seed=1), "seed is 1 and was 0"),
    ],
)
def test_a_core_set_is_not_lost_to_a_recipe_that_would_choose_another(run, changed, key):
    with pytest.raises(InputError, match=key):
        run_folder.check_folder(changed, run)


def test_half_a_checkpoint_does_not_count(run):
    (run / "checkpoints" / "step-00000005.part").mkdir(parents=True)
    run_folder.check_folder(replace(RECIPE, distill=Matching(lr_z=0.1)), run)


@pytest.mark.parametrize("saved", ["checkpoints/step-00000005", "synthetic"])
def test_saved_latents_belong_to_their_recipe(run, saved):
    (run / saved).mkdir(parents=True)
    with pytest.raises(InputError, match=r"distill\.lr_z is 0\.1 and was 'auto'"):
        run_folder.check_folder(replace(RECIPE, distill=Matching(lr_z=0.1)), run)


def test_what_does_not_touch_the_set_may_change_when_a_run_goes_on(run):
    changed = replace(
        RECIPE,
        evaluate=Evaluate(seeds=9),
        distill=Matching(checkpoint_every=7),
        threads=2,
        output=str(run),
    )
    run_folder.check_folder(changed, begun(run))


def test_files_of_a_run_without_their_recipe_are_refused(run):
    (run / "recipe.yaml").unlink()
    with pytest.raises(InputError, match=r"holds coreset\.parquet but no recipe\.yaml"):
        run_folder.check_folder(RECIPE, run)


def test_a_recipe_of_the_users_own_is_not_overwritten(tmp_path):
    mine = "ipc: 1  # my notes\n"
    (tmp_path / "recipe.yaml").write_text(mine)
    with pytest.raises(InputError, match="was written by hand"):
        run_folder.check_folder(RECIPE, tmp_path)
    assert (tmp_path / "recipe.yaml").read_text() == mine


def test_a_recipe_by_hand_is_not_overwritten_by_the_run_that_it_begins(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    mine = (
        "# my notes\n{data: {source: digits, resolution: 8}, prior: {kind: pixel}, ipc: 1,\n"
        "prune: {score: random}, method: {kind: selection}, evaluate: {rows: []},\n"
        "output: .}\n"
    )
    Path("recipe.yaml").write_text(mine)
    with pytest.raises(SystemExit) as stop:
        distill(["recipe.yaml"])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "recipe.yaml was written by hand" in told
    assert Path("recipe.yaml").read_text() == mine and "rename it, or" in told
    Path("recipe.yaml").write_text(config.dump(config.read(Path("recipe.yaml"))))
    with pytest.raises(SystemExit):  # as we write it, but a part of one
        distill(["recipe.yaml"])
    assert "recipe.yaml was written by hand" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # nor by that of another recipe
        distill(["digits_ipc1", "output=."])
    assert "recipe.yaml was written by hand" in capsys.readouterr().err
    run_folder.claim_folder(RECIPE, Path("one"))
    run_folder.check_folder(RECIPE, Path("one"))  # a resolved recipe is not by hand
    resolved = begun(Path("one")) / "recipe.yaml"
    resolved.write_text(f"{resolved.read_text()}# seen\n")
    run_folder.check_folder(RECIPE, Path("one"))


SOME = {"test_share": 0.2, "classes": ["a", "b"]}


@pytest.mark.parametrize("place", ["file", "file/run", "circle/run"])
def test_a_place_that_cannot_hold_a_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match=r"cannot write to .*output="):
        run_folder.check_folder(RECIPE, tmp_path / place)


def test_a_link_in_a_circle_beside_folders_of_images_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pets/train/cat").mkdir(parents=True)
    Path("circle").symlink_to("circle")
    with pytest.raises(SystemExit) as stop:
        distill(["digits_ipc1", "data.source=pets", "output=circle"])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "circle is a link to circle, which does not exist" in told


@pytest.mark.parametrize(
    ("files", "keys", "inside", "apart"),
    [
        (["train/cat/1.png", "y/coreset.parquet"], {}, ["train/x", "test/cat/x"], ["x", "data/x"]),
        (["a/train/cat/1.png", "val/cat/1.png"], {"train": "a/train"}, ["val/x"], ["a/x", "x"]),
        (["train/cat/1.png"], {"test_share": 0.2}, ["train/x"], ["test/x"]),
        (["cat/1.png", "dog/1.png"], {"test_share": 0.2}, ["runs/x", "cat/x", "."], ["../x"]),
        (["cat/1.png", "dog/1.png"], {"test_share": 0.2}, ["runs/x"], [".runs/x", "cat/.a/x"]),
        (["a/1.png", "b/1.png"], SOME, ["a/x"], ["runs/x"]),
        (["a/1.png", "b/1.png", "c/1.png"], {**SOME, "train": "."}, ["a/x"], ["c/x", "runs/x"]),
        (["train/a/1.png", "train/c/1.png"], {"classes": ["a", "b"]}, ["test/a/x"], ["test/c/x"]),
        (["n1/1.png", "n2/1.png"], {"test_share": 0.2, "classes": ["0", "1"]}, ["n1/x"], ["../x"]),
        (["0/1.png", "1/1.png"], {**SOME, "class_names": "imagenet"}, ["0/x", "runs/x"], ["../x"]),
        (["train/cat/1.png", "train/dog/1.tar"], {}, ["train/cat/x"], ["runs/x", "train/.x/x"]),
        (["data/train-0.parquet"], {}, ["runs/x", "x"], ["../x", ".cache/x"]),
        (["train/0.tar", "test/0.tar"], {}, ["runs/x"], ["../x"]),
        (["cifar-10-batches-bin/test_batch.bin"], {}, [], ["runs/x"]),
        (["dataset_dict.json", "train/data-0.arrow"], {}, [], ["runs/x"]),
    ],
)
def test_a_folder_among_the_images_of_the_data_set_is_refused(
    tmp_path, monkeypatch, files, keys, inside, apart
):
    monkeypatch.chdir(tmp_path)
    for file in files:
        (tmp_path / "pets" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / file).write_bytes(b"")
    (tmp_path / "link").symlink_to("pets")
    for source in (Path("pets"), tmp_path / "link"):
        recipe = replace(RECIPE, data=Data(source=str(source), **keys))
        for place in inside:
            with pytest.raises(InputError, match=r"lies among the images of data\.source="):
                run_folder.check_folder(recipe, tmp_path / "pets" / place)
        for place in apart:
            run_folder.check_folder(recipe, source / place)


def test_a_large_folder_of_images_is_not_looked_through(tmp_path, monkeypatch):
    for number in range(9):
        (tmp_path / f"train/class{number}").mkdir(parents=True)
        (tmp_path / f"train/class{number}/1.png").write_bytes(b"")
    seen, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(folder) or scandir(folder))
    run_folder.check_folder(
        replace(RECIPE, data=Data(source=str(tmp_path))), tmp_path / "runs" / "x"
    )
    assert len(seen) < 5


def test_results_of_a_newer_version_are_not_replaced(run):
    results = run / "results.json"
    results.write_text('{"version": 99}')
    with pytest.raises(InputError, match=r"version 99 and this .* reads 5; install a newer one"):
        run_folder.check_folder(RECIPE, run)
    run_folder.check_folder(replace(RECIPE, evaluate=Evaluate(rows=[])), run)  # replaces nothing
    results.write_text('{"version": 5, "resul')  # cut off, and made again
    run_folder.check_folder(RECIPE, run)


@pytest.mark.parametrize("place", ["circle", "circle/x", "gone"])
@pytest.mark.parametrize(
    "words",
    [
        "distill digits_ipc1 output=o data.source={}",
        "distill digits_ipc1 output=o prior.weights={}",
        "evaluate {}",
        "verify {}",
        "push {} me/set",
        "compare {results} --output {}",
        "report {results} --output {}/page.html",
    ],
)
def test_links_that_lead_nowhere_are_no_names_on_the_hub_and_no_places(
    tmp_path, monkeypatch, capsys, words, place
):
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    Path("gone").symlink_to("nothing")
    save("results.json", [result()])
    with pytest.raises(SystemExit) as stop:
        cli.main([word.format(place, results="results.json") for word in words.split()])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("latentdc: error") == 1
    link = place.partition("/")[0]
    assert f"{link} is a link to " in told and "which does not exist" in told
