import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentdc.config import to_yaml
from latentdc.data.dataset import random_images
from latentdc.data.open import open_splits
from latentdc.evaluate.__main__ import main
from latentdc.metrics.__main__ import main as measure
from latentdc.preprocessing import Normalization, fit_whitening
from latentdc.prune.coreset import Coreset
from latentdc.recipe import (
    Data,
    Evaluate,
    MethodSettings,
    ObjectiveSettings,
    Prune,
    Recipe,
    Scorer,
)
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.synthetic_set import set_hash
from tests.synthetic.foreign.layouts import named

QUICK = ["evaluate.students=[convnet3@2]", "evaluate.seeds=1", "evaluate.steps=2", "threads=1"]
DATA = Data(resolution=8)


@pytest.fixture
def run(tmp_path):
    """A run folder with a set of two random digits a class."""
    train, _ = open_splits(DATA)
    drawn = random_images(train, 2, seed=7)
    synthetic = SyntheticSet(drawn.images, drawn.labels, drawn.class_names)
    recipe = to_yaml(Recipe(data=DATA, ipc=2, prune=Prune(keep=0.5)))
    synthetic.save_pretrained(tmp_path / "synthetic", recipe=recipe)
    return tmp_path


def results(folder):
    return json.loads((folder / "evaluation.json").read_text())["results"]


def wrong(capsys, *arguments):
    """The line that a wrong call ends with."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.smoke
def test_a_saved_set_is_scored_beside_random_images(run, capsys):
    main([str(run), *QUICK, "evaluate.rows=[distilled,random]", "data.resolution=8"])
    printed, said = capsys.readouterr()
    assert "test data: digits, by the set's own recipe" in said
    assert re.search(r"distilled +[\d,]+ +\d+\.\d\nrandom +[\d,]+ +\d+\.\d\n", printed)
    assert "ipc 2, protocol quick" in printed and "2 steps" in printed
    assert [row["set"] for row in results(run)] == ["distilled", "random"]
    assert len(list((run / "trainings").iterdir())) == 2


@pytest.mark.parametrize("content", ['{"version": 99}', "[]"])
def test_a_file_that_nothing_can_be_added_to_is_refused_before_any_training(run, capsys, content):
    (run / "evaluation.json").write_text(content)
    said = wrong(capsys, str(run), *QUICK, "data.resolution=8")
    assert "version 99" in said or "mend or remove it" in said
    assert not (run / "trainings").exists()
    assert (run / "evaluation.json").read_text() == content


@pytest.mark.parametrize("command", [main, measure])
def test_no_class_is_made_of_what_is_written_among_images(run, capsys, monkeypatch, command):
    monkeypatch.chdir(run)
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        named(run / "pets" / name, ["a"], ipc=1)
    call = [str(run), "data.source=pets", "--output", "pets/train/out"]
    with pytest.raises(SystemExit):
        command(call)
    said = capsys.readouterr().err
    assert "pets/train/out lies among the images of data.source=pets" in said
    assert "name a place elsewhere with --output FOLDER" in said
    assert not (run / "pets/train/out").exists()


def keep(kept, run):
    """Leave these images as the core set of a run."""
    run.mkdir(exist_ok=True)
    Coreset(
        hashes=kept.hashes,
        scores=torch.zeros(len(kept.labels)),
        labels=kept.labels,
        class_names=kept.class_names,
        rule="random",
        order="easy",
        keep=0.5,
        dataset=kept.name,
    ).save(run / "coreset.parquet")


def test_the_core_set_of_the_run_is_found_and_its_absence_said(run, capsys):
    arguments = [str(run / "synthetic"), *QUICK, "evaluate.rows=[random,coreset]"]
    main(arguments)
    said = "the row 'coreset' is left out: no core set was given."
    assert said in capsys.readouterr().err
    train, _ = open_splits(DATA)
    keep(random_images(train, 50, seed=1), run)
    main(arguments)
    assert re.search(r"coreset +[\d,]+ +\d+\.\d", capsys.readouterr().out)


def test_a_set_of_its_own_needs_a_recipe_and_writes_where_it_is_told(run, capsys):
    (run / "synthetic" / "recipe.yaml").unlink()
    assert "name the recipe whose data" in wrong(capsys, str(run), *QUICK)
    mine = run / "mine.yaml"
    mine.write_text("data: {resolution: 8}\nevaluate: {rows: [random]}")
    main([str(run), *QUICK, "--recipe", str(mine), "--output", str(run / "there")])
    assert "own recipe" not in capsys.readouterr().err
    assert (run / "there" / "evaluation.json").is_file()


def test_the_recipes_own_protocol_is_taken_with_the_recipes_changes(run, capsys):
    changes = ["evaluate.changes=[lr=0.5,batch=9]", "protocol.batch=8"]
    main([str(run), *QUICK, *changes, "protocol=[quick,ld3m]", "--print-config"])
    _, quick, ld3m = capsys.readouterr().out.split("---\n")
    assert "name: quick with other lr, batch\n" in quick and "\nlr: 0.5\n" in quick
    assert "\nbatch: 8\n" in quick  # what the command says wins
    assert "name: ld3m with other batch\n" in ld3m and "\nlr: 0.001\n" in ld3m
    said = wrong(capsys, str(run), *QUICK, *changes, "protocol=ld3m")
    assert "evaluate.changes is of the recipe's protocol, quick, and not of ld3m" in said


def test_what_a_command_says_of_a_protocol_takes_the_place_of_the_recipes_words(run, capsys):
    own = "{students: [vgg11], seeds: 4, together: 2, steps: 300, changes: [batch=9]}"
    path = run / "synthetic" / "recipe.yaml"
    path.write_text(f"data: {{resolution: 8}}\nevaluate: {own}\n")
    more = ["students=[convnet3@2]", "seeds=2", "together=1", "epochs=3", "batch_of_ipc={1: 5}"]
    main([str(run), *(f"protocol.{one}" for one in more), "--print-config"])
    _, protocol = capsys.readouterr().out.split("---\n")
    for line in ("- convnet3@2", "seeds: 2", "together: 1", "epochs: 3", "steps: null"):
        assert f"\n{line}\n" in protocol, line
    said = wrong(capsys, str(run), "evaluate.steps=2", "protocol.epochs=3")
    assert "evaluate.steps and protocol.epochs say the same; give one" in said
    said = wrong(capsys, str(run), "evaluate={seeds: 2}", "protocol.seeds=3")
    assert "evaluate.seeds and protocol.seeds say the same; give one" in said
    said = wrong(capsys, str(run), "protocol=[dc,dm]", "evaluate.protocol=mtt")
    assert "evaluate.protocol=mtt and protocol=dc,dm say the same; give one" in said
    main([str(run), "evaluate.steps=null", "protocol.epochs=3", "--print-config"])
    assert "\nepochs: 3\n" in capsys.readouterr().out


def test_a_learned_rate_is_refused_before_any_training_where_it_cannot_be_taken(run, capsys):
    made = SyntheticSet.from_pretrained(run / "synthetic")
    mtt = "data: {resolution: 8}\nobjective: {kind: mtt}\nevaluate: {learned_lr: true}\n"
    replace(made, learned_lr=0.01).save_pretrained(run / "mtt" / "synthetic", recipe=mtt)
    call = [str(run / "mtt"), *QUICK]
    assert "gives a rate of SGD" in wrong(capsys, *call, "protocol=[dm,quick]")
    said = wrong(capsys, *call, "protocol=dm", "protocol.lr=0.1")
    assert "evaluate.learned_lr=true and protocol.lr say the same" in said
    call = [str(run / "mtt"), str(run), *QUICK, "protocol=dm", "--output", str(run / "both")]
    assert f"the set {run.name} has no learned lr; score it with" in wrong(capsys, *call)
    assert not list((run / "both").glob("trainings/*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["wide"], "the wide set has images of 16x16 px, the test set 8x8"),
        (["few"], "the few set has 3 classes"),
        (["protocol=[quick,rded]"], "ImageNet-1k has no class '0'"),
        (["protocol=[quick,pca]", "protocol.pca.views.cells=3"], "has mosaics of 2 x 2"),
        (["protocol=[quick,dm]", "protocol.dm.infobatch=0.5"], "weighs its images, and infobatch"),
    ],
)
def test_a_later_set_or_protocol_is_refused_before_the_first_is_trained_on(
    run, capsys, monkeypatch, words, told
):
    monkeypatch.chdir(run)
    made = SyntheticSet.from_pretrained("synthetic")
    recipe = Path("synthetic/recipe.yaml").read_text()
    weights = torch.ones(len(made))
    replace(made, grid=2, weights=weights).save_pretrained("first/synthetic", recipe=recipe)
    for name, data in {"wide": Data(), "few": Data(resolution=8, classes=["0", "1", "2"])}.items():
        real = SyntheticSet.from_real(random_images(open_splits(data)[0], 1, seed=1))
        real.save_pretrained(f"{name}/synthetic", recipe=recipe)
    call = ["first", *QUICK, "evaluate.rows=[distilled,random]", "--output", "there"]
    assert told in wrong(capsys, *call, *words)
    assert not list(Path("there").glob("trainings/*"))


def test_a_set_that_is_scored_with_another_whitening_than_it_was_made_for_is_told(run, capsys):
    train, _ = open_splits(DATA)
    made = SyntheticSet.from_pretrained(run / "synthetic")
    zca = fit_whitening(train.images, Normalization(), name=train.hash)
    recipe = (run / "synthetic" / "recipe.yaml").read_text()
    replace(made, whitening=zca).save_pretrained(run / "white" / "synthetic", recipe=recipe)
    call = [str(run), str(run / "white"), *QUICK, "evaluate.rows=[distilled,random]"]
    main([*call, "--output", str(run / "both")])
    told = "white was made with whitening, and students see it without, as data.zca=false says."
    assert told in capsys.readouterr().err
    main([*call, "data.zca=true", f"data.cache={run / 'cache'}", "--output", str(run / "both")])
    told = f"{run.name} was made without whitening, and students see it with, as data.zca=true"
    said = capsys.readouterr().err
    assert told in said and "white was made" not in said


def test_several_sets_and_protocols_give_one_table_and_each_row_is_kept(run, capsys):
    train, _ = open_splits(DATA)
    keep(random_images(train, 2, seed=1), run / "selected")
    calls = [str(run), str(run / "selected"), *QUICK, "--output", str(run / "both")]
    main(
        [
            *calls,
            "protocol=[quick,ccs-cifar]",
            "evaluate.rows=[distilled,random]",
            "protocol.lr=1e-3",
        ]
    )
    printed = capsys.readouterr().out
    lines = re.findall(r"^(\S+) +2 +(.+?)  +[\d,]+ +\d+\.\d$", printed, re.M)
    assert lines == [
        (name, f"{protocol} with other lr")
        for protocol in ("quick", "ccs-cifar")
        for name in (run.name, "selected", "random")
    ]
    assert "The sources do not settle its seeds." in printed
    rows = results(run / "both")
    assert len(rows) == 6
    main([*calls, "evaluate.rows=[distilled,random]", "evaluate.steps=3"])
    rows = results(run / "both")
    assert len(rows) == 9 and {row["steps"] for row in rows} == {2, 3}


def test_an_uneven_core_set_stands_beside_as_many_random_images_of_each_class(run, capsys):
    train, _ = open_splits(DATA)
    counts = [1, 5, *[1] * 8]
    keep(random_images(train, counts, seed=1), run)
    call = [str(run / "coreset.parquet"), "--recipe", str(run / "synthetic/recipe.yaml"), *QUICK]
    main([*call, "evaluate.rows=[distilled,random]", "--output", str(run / "core")])
    assert "ipc 2, protocol quick" in capsys.readouterr().out  # 14 images of 10 classes
    rows = results(run / "core")
    assert rows[1]["hashes"] == [set_hash(random_images(train, counts, seed=0))]
    main([str(run), *call, "evaluate.rows=[distilled,random]", "--output", str(run / "both")])
    rows = results(run / "both")
    assert [row["ipc"] for row in rows] == [2] * 4  # both sets, and both random rows
    drawn = [row["hashes"][0] for row in rows if row["set"] == "random"]
    assert drawn == [set_hash(random_images(train, each, seed=0)) for each in ([2] * 10, counts)]


def test_a_set_without_a_class_is_scored_beside_random_images_without_it_and_told(run, capsys):
    train, _ = open_splits(DATA)
    drawn = random_images(train, [2, 2, 0, *[2] * 7], seed=7)
    one = SyntheticSet(drawn.images, drawn.labels, drawn.class_names)
    recipe = (run / "synthetic/recipe.yaml").read_text()
    one.save_pretrained(run / "less" / "synthetic", recipe=recipe)
    main([str(run / "less"), *QUICK, "evaluate.rows=[distilled,random]"])
    assert "set holds nothing of 1 of 10 classes ('2')" in capsys.readouterr().err
    rows = results(run / "less")
    assert rows[1]["hashes"] == [set_hash(random_images(train, [2, 2, 0, *[2] * 7], seed=0))]


def left_by(folder, network, seed):
    """A finished run of a recipe whose table is that of `kept` alone."""
    train, _ = open_splits(DATA)
    drawn, kept = random_images(train, 2, seed), random_images(train, 5, seed)
    recipe = Recipe(
        data=DATA,
        ipc=2,
        prune=Prune(keep=0.5),
        objective=ObjectiveSettings(network=network),
        evaluate=Evaluate(rows=["kept"]),
    )
    made = SyntheticSet(drawn.images, drawn.labels, drawn.class_names)
    made.save_pretrained(folder / "synthetic", recipe=to_yaml(recipe))
    keep(kept, folder)
    return str(folder)


def test_each_of_several_runs_has_its_own_network_and_a_core_set_if_they_share_one(
    tmp_path, capsys
):
    runs = [left_by(tmp_path / "a", "convnet3", 1), left_by(tmp_path / "b", "alexnet", 2)]
    students = "evaluate.students=[convnet3@2,alexnet@2]"
    call = [*runs, *QUICK[1:], students, "--output", str(tmp_path)]
    main(call)
    said = capsys.readouterr().err
    assert "the row 'kept' is left out: the runs of the sets kept different images" in said
    rows = results(tmp_path)
    unseen = {(row["set"], row["student"]): row["unseen"] for row in rows}
    assert unseen == {
        ("a", "convnet3@2"): False,
        ("a", "alexnet@2"): True,
        ("b", "convnet3@2"): True,
        ("b", "alexnet@2"): False,
        ("random", "convnet3@2"): False,
        ("random", "alexnet@2"): False,
    }
    shutil.copy(tmp_path / "a" / "coreset.parquet", tmp_path / "b")
    main(call)
    rows = results(tmp_path)
    assert [row["set"] for row in rows[::2]] == ["a", "b", "random", "kept"]


def test_every_student_is_unseen_by_a_set_that_no_network_made(run):
    recipe = Recipe(data=DATA, ipc=2, method=MethodSettings(kind="selection"))
    (run / "synthetic" / "recipe.yaml").write_text(to_yaml(recipe))
    students = "evaluate.students=[convnet3@2,alexnet@2]"
    main([str(run), *QUICK[1:], students, "evaluate.rows=[distilled,random]"])
    rows = results(run)
    assert len(rows) == 4 and all(row["unseen"] for row in rows)


@pytest.mark.parametrize(
    ("facts", "seen"),
    [
        ({"method": "rded"}, "convnet3@2"),  # of an earlier version
        ({"method": "rded", "classifier": "alexnet@4"}, "alexnet@2"),
        ({"method": "mosaic"}, None),  # and another recipe
    ],
)
def test_a_set_has_seen_the_classifier_of_its_recipe_unless_it_tells_another(run, facts, seen):
    method, scorer = MethodSettings(kind="rded"), Scorer(network="convnet3@8")
    recipe = Recipe(data=DATA, ipc=2, method=method, prune=Prune(scorer=scorer))
    one = SyntheticSet.from_pretrained(run / "synthetic")
    shutil.rmtree(run / "synthetic")
    replace(one, provenance=facts).save_pretrained(run / "synthetic", recipe=to_yaml(recipe))
    students = "evaluate.students=[convnet3@2,alexnet@2]"
    main([str(run), *QUICK[1:], students, "evaluate.rows=[distilled,random]"])
    found = {row["student"]: row["unseen"] for row in results(run) if row["set"] != "random"}
    assert found == {student: student != seen for student in ("convnet3@2", "alexnet@2")}


@pytest.mark.smoke
def test_soft_labels_of_a_trained_teacher_are_stored_beside_the_rows(run, capsys):
    mine = run / "mine.yaml"
    mine.write_text(
        "name: mine\nstudents: [convnet3@2]\nseeds: 1\nsteps: 4\nbatch: 10\n"
        "views: {pad: 1}\nlabels: {source: stored, loss: kl, precision: uint8, top: 3, "
        "teachers: [{network: convnet3@8, epochs: 4, batch: 32}]}"
    )
    call = [str(run), f"protocol={mine}", "evaluate.rows=[distilled,random]", "threads=1"]
    main(call)
    printed = capsys.readouterr().out
    assert re.search(r"Soft labels \(stored, [\d,]+ bytes\) of convnet3@8, right on", printed)
    stores = sorted(path.name for path in (run / "labels").iterdir())
    assert len(stores) == 2  # of the set and of the random one
    cost = [row["labels"]["label_bytes"] for row in results(run)]
    moved = shutil.move(run / "labels" / stores[0], run / "moved")
    main([*call, "--labels", str(moved)])
    main(call)  # which finds them again
    assert [row["labels"]["label_bytes"] for row in results(run)] == cost and min(cost) > 0
    assert "holds no stored labels" in wrong(capsys, *call, "--labels", str(run))


def test_wrong_calls_end_with_one_line_before_anything_is_trained(run, capsys):
    assert "did you mean 'evaluate.seeds'" in wrong(capsys, str(run), "evaluate.seds=2")
    assert "did you mean 'convnet3'" in wrong(capsys, str(run), "evaluate.students=[convnt3]")
    assert "convnet5 takes images" in wrong(capsys, str(run), "evaluate.students=[convnet5]")
    assert "are the same set" in wrong(capsys, str(run), str(run))
    assert "are the same set" in wrong(capsys, str(run), f"{run}/synthetic")
    assert "by its folder, file or Hub id, got ''" in wrong(capsys, "")
    assert "cannot read protocol=[quick" in wrong(capsys, str(run), "protocol=[quick")
    assert "takes different names" in wrong(capsys, str(run), "protocol=[]")
    assert "takes names" in wrong(capsys, str(run), "protocol={quick: mtt}")
    soft = ("protocol.labels.source=fixed", "protocol.labels.teachers=[{network: NAME}]")
    for name, said in {"linear": "network of vectors", "convnet5": "takes images of"}.items():
        assert said in wrong(capsys, str(run), *(word.replace("NAME", name) for word in soft))
    assert "name a set to score" in wrong(capsys, "evaluate.seeds=2")
    assert "did you mean 'quick'" in wrong(capsys, str(run), "protocol=quik")
    assert "did you mean 'steps'" in wrong(capsys, str(run), "protocol.step=2")
    assert "the protocol stores none" in wrong(capsys, str(run), "--labels", str(run))
    assert "'ipc' changes nothing about a saved set" in wrong(capsys, str(run), "ipc=3")
    assert "always has 'random'" in wrong(capsys, str(run), "evaluate.rows=[full]")
    assert "data.resolution=8" in wrong(capsys, str(run), *QUICK, "data.resolution=16")
    assert sorted(path.name for path in run.iterdir()) == ["synthetic"]


@pytest.mark.parametrize("arguments", [["--help"], ["{run}", "--print-config"], ["{run}", "ipc=3"]])
def test_help_config_and_refusals_come_without_torch(run, arguments):
    arguments = [argument.format(run=run) for argument in arguments]
    code = (
        "import sys\nfrom latentdc.evaluate.__main__ import main\n"
        f"try: main({arguments!r})\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode in (0, 2), done.stderr
    assert "AssertionError" not in done.stderr
