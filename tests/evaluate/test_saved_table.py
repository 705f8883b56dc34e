import json
import re
from dataclasses import replace

import pytest

from latentdc.errors import InputError
from latentdc.evaluate.saved_table import load_table
from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.runtime import Machine
from latentdc.sweep.render import to_json
from tests.evaluate.toys import protocol

CHOSEN = protocol(students=["vit", "alexnet"], views=Views(crop=(0.5, 1.0)), epochs_of_ipc={})
MACHINE = Machine("1", "2", "cpu", 1, 1, "no", "Linux")


def scored(**changes) -> Score:
    return Score(CHOSEN, {"vit": (0.1, 0.2), "alexnet": (0.3, 0.5)}, ("a", "b"), **changes)


TABLE = Table(
    scores={
        "distilled": scored(labels={"source": "brought", "label_bytes": 3}),
        "random": scored(top5={"vit": (0.5, 0.6)}),
    },
    ipc=3,
    unseen=("alexnet",),
    missing={"full": "none"},
    machine=MACHINE,
    test="x",
    classes=10,
    sizes={"random": 77},
    preprocessing={"mean": [0.5, 0.5, 0.5]},
    counts="0123abcd",
)


def test_a_saved_table_is_read_back_whole(tmp_path):
    TABLE.save(tmp_path / "results.json")
    assert load_table(tmp_path / "results.json") == TABLE


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"version": 2}'])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InputError, match="is no file of results"):
        load_table(path)


def test_a_table_of_another_version_is_refused(tmp_path):
    replace(TABLE, missing={}).save(tmp_path / "results.json")
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match="has version 1 and this latentdc reads 2; remove it"):
        load_table(path)


def test_a_table_of_a_newer_version_is_not_called_damaged(tmp_path):
    path = tmp_path / "results.json"
    TABLE.save(path)
    path.write_text(path.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(InputError, match=r"has version 99 .*install a newer one") as error:
        load_table(path)
    assert "remove" not in str(error.value)


def test_the_table_of_a_sweep_is_told_from_a_damaged_one(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(to_json({"rule": {"easy": []}}, {})))
    with pytest.raises(
        InputError, match=r"it is the table of a sweep; .* latentdc compare"
    ) as error:
        load_table(path)
    assert "remove" not in str(error.value)


def test_a_table_whose_teacher_was_moved_says_so(tmp_path):
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"")
    labels = Labels(source="fixed", teachers=[Teacher(network="vit", weights=str(weights))])
    taught = replace(CHOSEN, labels=labels)
    scores = {"random": Score(taught, {"vit": (0.1,), "alexnet": (0.2,)}, ("a",))}
    replace(TABLE, scores=scores, sizes={}).save(tmp_path / "results.json")
    weights.rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(InputError, match=r"results\.json: .*there is no file .*teacher") as error:
        load_table(tmp_path / "results.json")
    assert "remove" not in str(error.value)


@pytest.mark.parametrize("value", ["NaN", "1e999", "250", "true", "null"])
def test_what_is_no_accuracy_is_not_read_back(tmp_path, value):
    path = tmp_path / "results.json"
    Table({"a": scored()}, 1, (), {}, MACHINE, "test", 10).save(path)
    assert load_table(path).scores["a"] == scored()
    path.write_text(re.sub(r"(?m)^( +)0\.5$", rf"\g<1>{value}", path.read_text()))
    with pytest.raises(InputError, match=r"an accuracy is a share in \[0, 1\], not"):
        load_table(path)
