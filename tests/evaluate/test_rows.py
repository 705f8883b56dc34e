import os
from dataclasses import replace

import pytest

from latentdc.errors import InputError
from latentdc.evaluate.accuracy import Accuracy
from latentdc.evaluate.rows import Row, read_row, write_row

ROW = Row(images="a1", protocol="b2", setting="c3", student="resnet18@8", seed=0)


def test_a_row_is_found_by_all_that_it_depends_on(tmp_path):
    folder = tmp_path / "rows"
    assert read_row(folder, ROW) is None
    write_row(folder, ROW, Accuracy(1 / 3, 2 / 3))
    assert read_row(folder, ROW) == (1 / 3, 2 / 3)
    for change in [
        {"images": "x"},
        {"protocol": "x"},
        {"setting": "x"},
        {"student": "resnet18"},
        {"seed": 1},
    ]:
        assert read_row(folder, replace(ROW, **change)) is None
    assert len(list(folder.iterdir())) == 1


def test_a_row_of_before_top_5_is_read(tmp_path):
    (tmp_path / ROW.file).write_text('{"images": "a1", "seed": 0, "accuracy": 0.25}')
    assert read_row(tmp_path, ROW) == (0.25, None)


def test_two_commands_may_write_the_same_row_at_once(tmp_path, monkeypatch):
    replaced, turns = os.replace, []

    def meanwhile(part, path):
        if not turns:
            turns.append(part)
            monkeypatch.setattr(os, "getpid", lambda: 1)  # another process
            write_row(tmp_path, ROW, Accuracy(0.5))
        replaced(part, path)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_row(tmp_path, ROW, Accuracy(0.5))
    assert read_row(tmp_path, ROW).top1 == 0.5 and len(list(tmp_path.iterdir())) == 1


def test_a_damaged_row_is_named(tmp_path):
    write_row(tmp_path, ROW, Accuracy(0.5))
    (tmp_path / ROW.file).write_text("{")
    with pytest.raises(InputError, match=r"resnet18@8-0.json is no finished row .*; delete it"):
        read_row(tmp_path, ROW)
