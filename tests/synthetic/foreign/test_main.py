"""One command scores every layout."""

import json
import re

import pytest
import torch

from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.evaluate.__main__ import main
from latentdc.recipe import Data
from latentdc.synthetic import SyntheticSet, folder
from latentdc.synthetic.open import find_set, row_names
from tests.synthetic.foreign.layouts import dc, mtt, rded
from tests.synthetic.foreign.test_rows import rethinkdc

CALL = ["evaluate.students=[convnet3@2]", "evaluate.seeds=1", "evaluate.steps=2", "threads=1"]
LABELS = torch.arange(10).repeat_interleave(2)
SEEN = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = "data: {resolution: 8}\nevaluate: {rows: [distilled, random]}\n"
    (tmp_path / "mine.yaml").write_text(recipe)
    return tmp_path


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([*arguments, *CALL, "--recipe", "mine.yaml"])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.smoke
def test_sets_of_all_layouts_and_our_own_give_one_table(desk, capsys):
    rded(desk / "mosaics", 10, 3)
    rethinkdc(desk / "hub", LABELS.tolist())
    dc(desk / "res.pt", SEEN, LABELS)
    mtt(desk / "logged", SEEN, torch.randn(20, 10) + 9 * torch.eye(10)[LABELS], lr=0.02)
    train, _ = open_splits(Data(resolution=8))
    rows = torch.cat([train.members(label)[:2] for label in range(10)])
    own = SyntheticSet(train.images[rows], train.labels[rows], train.class_names)
    own.save_pretrained(desk / "own")
    sets = ["mosaics", "hub", "res.pt", "logged"]
    main([*sets, *CALL, "--recipe", "mine.yaml", "--ipc", "2", "protocol=quick"])
    printed = capsys.readouterr().out
    found = re.findall(r"^(\S+) +[\d,]+ +\d+\.\d$", printed, re.M)
    assert found == [*sets, "random"]
    assert "own" not in found and "ipc 2, protocol quick" in printed
    main(["mosaics", "own", *CALL, "--recipe", "mine.yaml", "protocol=pca"])
    rows = json.loads((desk / "runs/evaluation/evaluation.json").read_text())["results"]
    assert {(row["set"], row["ipc"]) for row in rows} >= {("mosaics", 2), ("mosaics", 3)}
    assert ("own", 2) in {(row["set"], row["ipc"]) for row in rows}


def test_soft_labels_of_a_set_teach_its_students_and_are_counted(desk, capsys):
    right = mtt(desk / "right", SEEN, 9 * torch.eye(10)[LABELS])
    wrong = mtt(desk / "wrong", SEEN, 9 * torch.eye(10)[LABELS] + torch.randn(20, 10))
    main([str(right), str(wrong), *CALL, "--recipe", "mine.yaml"])
    said = "Sets with soft labels of their own: 800 bytes (right), 800 bytes (wrong)."
    assert said in capsys.readouterr().out
    rows = json.loads((desk / "runs/evaluation/evaluation.json").read_text())["results"]
    assert rows[0]["hashes"] != rows[1]["hashes"]  # the same images and classes, other labels


def test_students_train_at_the_learned_rate_that_lies_with_the_tensors(desk, capsys):
    mtt(desk / "logged", SEEN, LABELS, lr=0.02)
    more = "  learned_lr: true\nobjective: {kind: mtt}\n"
    recipe = "data: {resolution: 8}\nevaluate:\n  rows: [distilled, random]\n" + more
    (desk / "mtt.yaml").write_text(recipe)
    main(["logged", *CALL, "--recipe", "mtt.yaml", "protocol=mtt"])
    assert "protocol mtt with learned lr" in capsys.readouterr().out
    written = json.loads((desk / "runs/logged/evaluation.json").read_text())
    assert [one["lr"] for one in written["protocols"].values()] == [pytest.approx(0.02)]


def test_a_single_foreign_set_keeps_its_name(desk):
    rded(desk / "mosaics", 10, 1)
    source = find_set("mosaics")
    assert source.kind == "images" and row_names([source]) == ["mosaics"]


@pytest.mark.smoke
def test_a_hub_data_set_of_others_is_read_by_its_columns(desk, monkeypatch):
    stored = rethinkdc(desk / "snapshot", LABELS.tolist())
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(stored))
    assert find_set("he-yang/some-set").kind == "rows"
    with pytest.raises(InputError, match="is no synthetic set"):
        folder.find("he-yang/some-set")


def test_wrong_calls_end_with_one_line(desk, capsys):
    rded(desk / "mosaics", 10, 1, size=16)
    assert "data.resolution=16" in refused(capsys, "mosaics")
    rded(desk / "few", 9, 1)
    assert "lacks 1 of the test set's 10 classes: 9" in refused(capsys, "few")
    assert "--ipc is at least 1" in refused(capsys, "mosaics", "--ipc", "0")
    with pytest.raises(SystemExit):
        main(["mosaics", *CALL])
    assert "name the recipe whose data" in capsys.readouterr().err
    train, _ = open_splits(Data(resolution=8))
    SyntheticSet(train.images[:1], train.labels[:1], train.class_names).save_pretrained("own")
    assert "own is one of latentdc's own" in refused(capsys, "own", "--ipc", "1")
    assert not (desk / "runs").exists()
