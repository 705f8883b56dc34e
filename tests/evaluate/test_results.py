import json
from dataclasses import replace

import pytest

from latentdc.errors import InputError
from latentdc.evaluate.results import merge
from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.runtime import Machine
from tests.evaluate.toys import protocol

MACHINE = Machine("0", "2", "cpu", 1, 1, "no", "Linux x86_64")


def table(accuracy, *, ipc=1, unseen=(), **changes):
    some = protocol(students=["convnet3@4", "vit"], seeds=1, **changes)
    scores = {"distilled": Score(some, {"convnet3@4": (accuracy,), "vit": (0.5,)}, ("x",))}
    return Table(scores=scores, ipc=ipc, unseen=unseen, missing={}, machine=MACHINE)


def rows(path):
    content = json.loads(path.read_text())
    assert content["version"] == 4
    return {
        (r["set"], r["ipc"], r["protocol_hash"], r["student"]): r["mean"] for r in content["rows"]
    }


def test_a_later_call_replaces_its_own_rows_and_leaves_the_others(tmp_path):
    path = tmp_path / "run" / "evaluation.json"
    merge(path, [table(0.1), table(0.2, ipc=10)])
    merge(path, [table(0.3, lr=0.5), table(0.4)])
    found = rows(path)
    hashes = protocol().hash, protocol(lr=0.5).hash
    assert len(found) == 6
    assert found["distilled", 1, hashes[0], "convnet3@4"] == 0.4
    assert found["distilled", 10, hashes[0], "convnet3@4"] == 0.2
    assert found["distilled", 1, hashes[1], "convnet3@4"] == 0.3


def test_a_row_stands_alone_and_protocols_are_kept_by_hash(tmp_path):
    path = tmp_path / "evaluation.json"
    merge(path, [table(0.1, unseen=("vit",))])
    content = json.loads(path.read_text())
    row = content["rows"][1]
    assert row["machine"]["threads"] == 1 and row["protocol"] == "toy" and row["steps"] == 3
    assert [r["unseen"] for r in content["rows"]] == [False, True]
    assert content["protocols"][row["protocol_hash"]]["lr"] == 0.01
    assert not list(tmp_path.glob("*.part"))


def test_rows_of_before_top_5_are_kept(tmp_path):
    path = tmp_path / "evaluation.json"
    merge(path, [table(0.1)])
    older = json.loads(path.read_text())
    rows_before = [{k: v for k, v in row.items() if k != "classes"} for row in older["rows"]]
    path.write_text(json.dumps({**older, "version": 2, "rows": rows_before}))
    merge(path, [table(0.2, ipc=10)])
    assert len(rows(path)) == 4


def beside(accuracy, **changes):
    """A set and random images, as `table`."""
    made = table(accuracy)
    scores = {"distilled": made.scores["distilled"], "random": made.scores["distilled"]}
    return replace(made, scores=scores, **{"preprocessing": {"mean": (0.5,)}, **changes})


def means(path):
    return [row["mean"] for row in json.loads(path.read_text())["rows"][::2]]  # of convnet3@4


def test_rows_under_other_conditions_stand_side_by_side(tmp_path):
    path = tmp_path / "evaluation.json"
    merge(path, [beside(0.1, test="a"), beside(0.2, test="b")])
    assert means(path) == [0.1, 0.1, 0.2, 0.2]
    merge(path, [beside(0.3, test="a", preprocessing={"zca": 1}), beside(0.4, test="b")])
    assert means(path) == [0.1, 0.1, 0.4, 0.4, 0.3, 0.3]


def test_random_rows_beside_sets_of_other_class_sizes_are_other_rows(tmp_path):
    path = tmp_path / "evaluation.json"
    merge(path, [beside(0.1, counts="even"), beside(0.2, counts="odd")])
    assert means(path) == [0.2, 0.1, 0.2]  # a set that has changed replaces its row


def test_a_row_of_before_the_conditions_were_kept_is_replaced_by_the_first_that_may_be_it(tmp_path):
    path = tmp_path / "evaluation.json"
    merge(path, [beside(0.1)])
    content = json.loads(path.read_text())
    for row in content["rows"]:
        del row["preprocessing"], row["counts"]
    path.write_text(json.dumps({**content, "version": 3}))
    merge(path, [beside(0.2, test="a"), beside(0.3, test="b")])
    assert means(path) == [0.2, 0.2, 0.3, 0.3]


def test_a_file_of_an_older_version_is_replaced_and_a_damaged_one_refused(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"version": 1, "rows": [{"set": "distilled"}]}))
    merge(path, [table(0.1)])
    assert len(rows(path)) == 2
    path.write_text(json.dumps({"version": 5, "rows": [], "protocols": {}}))
    with pytest.raises(InputError, match=r"^\S+ has version 5 and this latentdc writes 4; install"):
        merge(path, [table(0.1)])
    path.write_text("{")
    with pytest.raises(InputError, match="is no file of scores"):
        merge(path, [replace(table(0.1))])


@pytest.mark.parametrize(
    "edit",
    [
        {"accuracies": [float("nan")]},
        {"accuracies": [250]},
        {"accuracies": []},
        {"accuracies": None},
        {"mean": 0.375},
        {"sets": []},
    ],
)
def test_a_file_with_a_row_that_cannot_be_is_not_added_to(tmp_path, edit):
    path = tmp_path / "evaluation.json"
    merge(path, [table(0.25)])
    content = json.loads(path.read_text())
    content["rows"][0] |= edit
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"is no file of scores .* mend or remove"):
        merge(path, [table(0.75)])
    assert path.read_text() == json.dumps(content)
