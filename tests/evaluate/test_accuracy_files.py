import json
import math
import re
from dataclasses import asdict, replace

import pytest
import torch
from accelerate import Accelerator

from latentdc.evaluate.accuracy_files import (
    TrainingKey,
    cached_accuracies,
    cached_accuracy,
    read_accuracies,
)
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.setting import Accuracy
from latentdc.preprocessing import Normalization
from latentdc.ranks import warn
from tests.evaluate.toys import TEST, protocol, stripes

ROW = TrainingKey(images="a1", protocol="b2", setting="c3", student="resnet18@8", seed=0)


def write(folder, training, accuracy):
    training.write(folder / training.file, accuracy)


def read(folder, training):
    """As an evaluation finds it."""
    return read_accuracies([training], folder, Accelerator()).get(training)


def test_a_training_is_found_by_all_that_it_depends_on(tmp_path):
    folder = tmp_path / "rows"
    assert read(folder, ROW) is None
    write(folder, ROW, Accuracy(1 / 3, 2 / 3))
    assert read(folder, ROW) == (1 / 3, 2 / 3)
    for change in [
        {"images": "x"},
        {"protocol": "x"},
        {"setting": "x"},
        {"student": "resnet18"},
        {"seed": 1},
    ]:
        assert read(folder, replace(ROW, **change)) is None
    assert len(list(folder.iterdir())) == 1


def test_a_training_that_another_command_has_just_done_is_not_done_again(tmp_path):
    write(tmp_path, ROW, Accuracy(0.5))
    assert cached_accuracy(ROW, tmp_path, lambda: pytest.fail("trained")) == (0.5, None)
    assert cached_accuracy(ROW, None, lambda: Accuracy(0.25)) == (0.25, None)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_of_trainings_that_are_done_together_the_missing_ones_are_done(tmp_path, known):
    seeds = [replace(ROW, seed=seed) for seed in range(3)]
    write(tmp_path, seeds[known], Accuracy(0.5))
    asked = []

    def train(missing):
        asked.extend(missing)
        return [Accuracy(one.seed / 4) for one in missing]

    done = cached_accuracies(seeds, tmp_path, train)
    assert asked == [one for one in seeds if one.seed != known]
    assert done == {one: (0.5 if one.seed == known else one.seed / 4, None) for one in seeds}
    assert [read(tmp_path, one) for one in seeds] == [done[one] for one in seeds]


SOUND = {**asdict(ROW), "accuracy": 0.5, "top5": 0.75, "checksum": "a3da2405dc62892e"}


def changed(**changes):
    return json.dumps({**SOUND, **changes})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed(accuracy=math.nan), "a share in \\[0, 1\\], not nan"),
        (changed(accuracy=math.inf).replace("Infinity", "1e999"), "not inf"),
        (changed(accuracy=43.7), "not 43.7"),
        (changed(accuracy=-0.1), "not -0.1"),
        (changed(accuracy=True), "not True"),
        (changed(accuracy="0.5"), "not '0.5'"),
        (changed(accuracy=None), "not None"),
        (changed(accuracy=[0.5]), r"not \[0.5\]"),
        (changed(top5=math.nan), "not nan"),
        (changed(top5="0.75"), "not '0.75'"),
        (changed(accuracy=0.625), "not as it was written"),
        (changed(top5=0.25), "not as it was written"),
        (changed(top5=None), "not as it was written"),
        (changed(checksum="x"), "not as it was written"),
        (changed(seed=1), "of another training"),
        (changed(protocol="x"), "of another training"),
        (changed(student="vit"), "of another training"),
        (json.dumps({"accuracy": 0.5}), "not as it was written"),
        (json.dumps([SOUND]), "it holds no mapping"),
        ("null", "it holds no mapping"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("\0" * 40, "Expecting value"),
        ("[" * 100_000, "too deep"),
    ],
)
def test_a_row_that_cannot_be_right_is_said_and_not_believed(tmp_path, capsys, content, reason):
    write(tmp_path, ROW, Accuracy(0.5, 0.75))
    assert read(tmp_path, ROW) == (0.5, 0.75)
    assert json.loads((tmp_path / ROW.file).read_text()) == SOUND
    (tmp_path / ROW.file).write_text(content)
    warn.cache_clear()
    assert read(tmp_path, ROW) is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(reason, said)
    assert "resnet18@8-0.json is no finished training (" in said and "it is trained again." in said
    write(tmp_path, ROW, Accuracy(0.25))
    assert read(tmp_path, ROW) == (0.25, None)


def test_bytes_that_are_no_text_are_not_believed(tmp_path, capsys):
    (tmp_path / ROW.file).write_bytes(b"\xff\xfe\x00{")
    assert read(tmp_path, ROW) is None
    assert "is no finished training" in capsys.readouterr().err


def test_a_result_tells_the_machine_of_its_trainings_and_not_the_one_that_read_them(
    tmp_path, monkeypatch
):
    def threads(seeds, trainings=tmp_path):
        options = {"normalization": Normalization(), "trainings": trainings}
        (made,) = evaluate_sets(stripes(9), TEST, protocol(seeds=seeds), **options)
        return made.machine["threads"]

    for count in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda: count)  # noqa: B023
        assert threads(1) == 1
    assert threads(2) == "1 and 2" and threads(2, None) == 2
    for path in tmp_path.glob("*.json"):
        assert json.loads(path.read_text())["machine"]["threads"] in (1, 2)


def test_an_evaluation_trains_a_row_again_that_is_not_believed(tmp_path, capsys):
    def score():
        some = protocol(seeds=2)
        options = {"normalization": Normalization(), "trainings": tmp_path}
        (made,) = evaluate_sets(stripes(9), TEST, some, **options)
        return made.accuracies

    wanted = score()
    first, second = sorted(tmp_path.glob("*.json"), key=lambda path: path.stem[-1])
    first.write_text(first.read_text().replace('"accuracy": ', '"accuracy": 1'))
    second.write_text(second.read_text().replace('"seed": 1', '"seed": 0'))
    assert score() == wanted
    said = capsys.readouterr().err
    assert said.count("it is trained again") == 2
    assert json.loads(first.read_text())["accuracy"] == wanted[0]
    assert json.loads(second.read_text())["seed"] == 1
