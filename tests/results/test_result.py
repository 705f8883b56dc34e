import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentdc.errors import InputError
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.results.compare import compare
from latentdc.results.means import by_seed
from latentdc.results.result import Result, Results, from_json, load, merge, save, to_json
from tests.results.toys import evaluation, result, run, table


def test_mean_and_sample_standard_deviation_are_over_seeds():
    assert result(accuracies=(0.5, 0.6, 0.7)).mean == pytest.approx(0.6)
    assert result(accuracies=(0.5, 0.6, 0.7)).std == pytest.approx(0.1)
    assert result(accuracies=(0.2, 0.2, 0.8)).std == pytest.approx((0.12 + 0.12) ** 0.5 / 2**0.5)
    assert result(accuracies=(0.5,)).std is None


def test_students_are_averaged_seed_by_seed():
    frame = Results(table(distilled=((0.5, 0.6, 0.7), (0.2, 0.2, 0.8)))).to_frame()
    assert by_seed(frame, ["convnet3@4", "alexnet@2"]) == pytest.approx([0.35, 0.4, 0.75])
    assert by_seed(frame, ["convnet3@4", "vit"]) == by_seed(frame, []) == []


def test_seeds_that_repeat_a_training_count_once():
    frame = Results([result(accuracies=(0.2, 0.2, 0.8))]).to_frame()
    assert by_seed(frame, ["convnet3@4"]) == [0.2, 0.2, 0.8]
    frame["training"] = ["one", "one", "other"]
    assert by_seed(frame, ["convnet3@4"]) == [0.2, 0.8]


def test_a_frame_has_a_row_for_each_training():
    one = result(accuracies=(0.5, 0.75), top5=(0.8, 0.9), image_bytes=7, labels={"label_bytes": 3})
    frame = Results([one, result("random", (0.25,))]).to_frame()
    assert list(frame["accuracy"]) == [0.5, 0.75, 0.25] and list(frame["seed"]) == [0, 1, 0]
    assert frame["bytes"][0] == 10 and frame["top5"][1] == 0.9 and frame["top5"].isna()[2]
    assert set(frame["machine.device"]) == {"cpu"} and set(frame["steps"]) == {3}


DOCS = Path(__file__).parents[2] / "docs"
FULL = [
    result(
        labels={"source": "own", "label_bytes": 3},
        settings={"views": Views(crop=(0.5, 1.0))},
        counts="0123abcd",
        image_bytes=77,
        seconds=1.5,
        run="easy, 1 %",
        data="digits test",
    ),
    result("random", (0.25, 0.5), top5=(0.5, 0.625), unseen=True),
]


def test_results_are_read_back_whole(tmp_path):
    save(tmp_path / "run" / "results.json", FULL)
    assert load(tmp_path / "run" / "results.json") == FULL
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_a_file_of_results_is_named_by_text_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = [result(), result("random")]
    save("results.json", both[:1])
    assert merge("results.json", both[1:]) == load("results.json")
    assert [one.set for one in load("results.json")] == ["distilled", "random"]
    with pytest.raises(InputError, match="path is a path, got a list"):
        load([])


def test_a_file_says_what_was_computed_how_and_where():
    content = json.loads(json.dumps(to_json(FULL)))
    row = content["results"][1]
    assert row["protocol"] == "toy" and row["steps"] == 3 and row["machine"]["threads"] == 1
    assert (row["mean"], row["accuracies"], row["top5_mean"]) == (0.375, [0.25, 0.5], 0.5625)
    assert content["protocols"][row["protocol_hash"]]["lr"] == 0.01 and "settings" not in row


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"version": 5}', "[" * 100_000])
def test_what_is_no_file_of_results_is_refused(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"is no results\.json or evaluation\.json of latentdc"):
        load(path)


@pytest.mark.parametrize(
    ("version", "do"), [(4, "remove it and run its command again"), (99, "install a newer one")]
)
def test_another_version_is_not_called_damaged(tmp_path, version, do):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(to_json(FULL) | {"version": version}))
    with pytest.raises(InputError, match=f"has version {version} and this latentdc reads 5; {do}"):
        load(path)


def test_results_under_a_teacher_that_was_moved_are_read(tmp_path):
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"")
    labels = Labels(source="fixed", teachers=[Teacher(network="vit", weights=str(weights))])
    save(tmp_path / "results.json", [result(settings={"labels": labels})])
    weights.unlink()
    assert load(tmp_path / "results.json")[0].settings["labels"]["source"] == "fixed"


ROW = ("results", 0)
WRONG = [
    *(((*ROW, key), value) for key in ("set", "student", "test") for value in (None, 7, [], True)),
    *(((*ROW, "mean"), value) for value in (0.375, None, "0.55", math.nan)),
    *(((*ROW, "hashes"), value) for value in (["x"], [], None, 3, [[5], "x"])),
    *(((*ROW, "protocol"), value) for value in (None, 7, [[]], {})),
    *(((*ROW, "protocol_hash"), value) for value in (None, 7, math.inf, "other")),
    *(((*ROW, "ipc"), value) for value in (0, -1, math.inf, "1", None, True, 1.5)),
    *(((*ROW, "counts"), value) for value in (7, [[5]], True)),
    *(((*ROW, "preprocessing"), value) for value in (None, [[5]], math.nan)),
    *(((*ROW, "labels"), value) for value in (None, [], 3, {"label_bytes": "x"})),
    *(((*ROW, "labels"), {"source": value}) for value in ([], 3, "online")),
    *(((*ROW, "machine"), {"device": value}) for value in ([], {"a": 1})),
    *(((*ROW, "image_bytes"), value) for value in (-1, [[5]], math.nan, True)),
    *(((*ROW, "seconds"), value) for value in (-1, "x", math.inf)),
    *(((*ROW, "top5"), value) for value in ([0.75], [0.25, 0.5], ["x", "y"])),
    *(((*ROW, "accuracies"), value) for value in ([], None, [[5]], {"a": 1})),
    *(((*ROW, "accuracies"), [0.5, value]) for value in (math.nan, 250, -0.1, True, "0.5", None)),
    *((ROW, value) for value in (None, [], 3)),
    *((("results",), value) for value in (None, 3, {"a": 1})),
    *((("protocols",), value) for value in (None, [], {}, "x", 3)),
    *((("protocols", "HASH", "steps"), value) for value in (None, -3, "x", [], 4)),
    *((("protocols", "HASH", "batch"), value) for value in (None, "x")),
    *((("protocols", "HASH", part), value) for part in ("labels", "views") for value in (None, [])),
]


@pytest.mark.parametrize(("place", "value"), WRONG)
def test_results_that_were_edited_into_nonsense_are_refused_and_not_added_to(
    tmp_path, place, value
):
    path = tmp_path / "results.json"
    given = [result(accuracies=(0.5, 0.75)), result("other")]
    content = json.loads(json.dumps(to_json(given)))
    inner = content
    for key in place[:-1]:
        inner = inner[given[0].protocol_hash if key == "HASH" else key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    for use in (lambda: load(path), lambda: merge(path, given)):
        with pytest.raises(InputError, match=r"is no results\.json or evaluation\.json"):
            use()
    assert path.read_bytes() == before


@pytest.mark.parametrize(("key", "value"), [("lr", 0.5), ("batch", 7), ("views", {"flip": True})])
def test_a_protocol_that_was_edited_under_its_hash_is_compared_with_nothing(tmp_path, key, value):
    for name in ("as it was", "edited"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "results.json", [result()])
    path = tmp_path / "edited" / "results.json"
    content = json.loads(path.read_text())
    content["protocols"][result().protocol_hash][key] = value
    path.write_text(json.dumps(content))
    for use in (lambda: compare(tmp_path / "as it was", path), lambda: merge(path, [result()])):
        with pytest.raises(InputError, match=r"edited.*stands under the hash \w{12}, and that of"):
            use()
    assert len(compare(tmp_path / "as it was").to_frame()) == 2


def test_a_result_that_stands_twice_in_a_file_is_refused():
    content = to_json([result()])
    with pytest.raises(ValueError, match="stands there twice"):
        from_json({**content, "results": content["results"] * 2})


def test_results_of_several_calls_are_added_though_they_repeat_each_other(tmp_path):
    path, one = tmp_path / "results.json", result(accuracies=(0.4, 0.6))
    again = replace(one, accuracies=(0.5, 0.7))
    merge(path, [one, result("other"), again])
    assert [each.accuracies for each in load(path)] == [(0.5, 0.7), (0.5, 0.7)]
    with pytest.raises(InputError, match=r"convnet3@4 on 'distilled' twice; add them by merge"):
        save(path, [one, result("other"), again])
    assert len(load(path)) == 2


def test_accuracies_are_shares_of_any_kind_of_number(tmp_path):
    for given in (np.array([0.5, 0.75]), torch.tensor([0.5, 0.75]), [np.float32(0.5), 0.75]):
        save(tmp_path / "results.json", [replace(result(), accuracies=given)])
        assert load(tmp_path / "results.json")[0].accuracies == (0.5, 0.75)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        *(((50.0, 70.0), "50.0"), ((math.nan, 0.5), "nan"), (("0.5", "0.7"), "'0.5'")),
        *(((True, 0.5), "True"), ((), "0 for 2"), ((0.5,), "1 for 2"), (0.5, "1 for 2")),
    ],
)
def test_accuracies_that_are_no_shares_are_refused(given, got):
    for key in ("accuracies", "top5"):
        with pytest.raises(InputError, match=rf"{key} of 'distilled' .* got {got}.*50 % write 0.5"):
            replace(result(), **{key: given})


def means(path):
    return [one.mean for one in load(path)]


def test_a_later_call_replaces_its_own_results_and_leaves_the_others(tmp_path):
    path = tmp_path / "run" / "evaluation.json"
    fixed = {"hashes": ("x",)}
    merge(path, [result(accuracies=(0.1,), **fixed), result(accuracies=(0.2,), ipc=10, **fixed)])
    again = result(accuracies=(0.4, 0.6), hashes=("x", "x"))  # with one more seed
    every = merge(path, [result(accuracies=(0.3,), settings={"lr": 0.5}, **fixed), again])
    assert [one.mean for one in every] == means(path) == [0.5, 0.2, 0.3]
    assert not list(path.parent.glob("*.part"))


def test_a_later_call_with_fewer_seeds_takes_none_away(tmp_path):
    path = tmp_path / "evaluation.json"
    fixed = {"hashes": ("x", "x")}
    merge(path, [result(accuracies=(0.4, 0.6), **fixed)])
    merge(path, [result(accuracies=(0.4,), hashes=("x",))])
    assert [one.accuracies for one in load(path)] == [(0.4, 0.6)]
    facts = {"unseen": True, "seconds": 2.0, "image_bytes": 7, "labels": {"label_bytes": 5}}
    merge(path, [result(accuracies=(0.4,), hashes=("x",), machine={"device": "new"}, **facts)])
    (kept,) = load(path)  # facts of the set are the later call's
    assert kept == replace(result(accuracies=(0.4, 0.6), **fixed), **facts)
    merge(path, [result(accuracies=(0.5,), hashes=("x",))])  # trained otherwise
    assert [one.accuracies for one in load(path)] == [(0.5,)]
    merge(path, [result(accuracies=(0.5, 0.7), **fixed)])
    assert [one.accuracies for one in load(path)] == [(0.5, 0.7)]
    merge(path, [result(accuracies=(0.5, 0.7), top5=(0.8, 0.9), **fixed)])
    merge(path, [result(accuracies=(0.5,), top5=(0.8,), hashes=("x",))])
    assert [one.top5 for one in load(path)] == [(0.8, 0.9)]


def test_sets_of_one_name_and_other_images_do_not_replace_each_other(tmp_path):
    evaluation(tmp_path, [result("set", (0.1,), hashes=("x",))])
    evaluation(tmp_path, [result("set", (0.2,), hashes=("y",))])
    assert means(tmp_path / "evaluation.json") == [0.1, 0.2]


@pytest.mark.parametrize("change", [{"test": "other"}, {"preprocessing": {"zca": 1}}])
def test_results_under_other_conditions_stand_side_by_side(tmp_path, change):
    first, second = result("random", (0.1,)), result("random", (0.2,), **change)
    evaluation(tmp_path, [first, second])
    evaluation(tmp_path, [replace(second, accuracies=(0.4,))])
    assert means(tmp_path / "evaluation.json") == [0.1, 0.4]


def test_random_images_beside_sets_of_other_class_sizes_are_other_results(tmp_path):
    changed = [result("random", (0.1,), counts="even"), result("random", (0.2,), counts="odd")]
    evaluation(tmp_path, changed)
    assert means(tmp_path / "evaluation.json") == [0.1, 0.2]


def test_a_damaged_file_is_not_replaced(tmp_path):
    run(tmp_path, [result()])
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match="mend or remove it"):
        merge(tmp_path / "results.json", [result()])


def test_the_page_tells_every_key_of_a_row():
    page = (DOCS / "comparison.md").read_text().split("## The file of results")[1].split("\n## ")[0]
    content = to_json(FULL)
    assert all(f"`{key}`" in page for key in content) and f"({content['version']})" in page
    beside = {"steps", "mean", "std", "top5_mean"}
    assert beside < set(re.findall(r"`(\w+)`", page)) and "but `settings`" in page
    told = {each.name for each in fields(Result)} - {"settings"} | beside
    assert told == content["results"][1].keys()


def test_a_file_of_bytes_is_told_without_its_bytes(tmp_path):
    (tmp_path / "results.json").write_bytes(bytes(range(128, 256)) * 1000)
    with pytest.raises(InputError, match="can't decode byte 0x80 in position 0") as refusal:
        load(tmp_path / "results.json")
    assert len(str(refusal.value)) < 300 + len(str(tmp_path))
