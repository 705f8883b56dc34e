import json
from dataclasses import replace

import pytest
import torch

from latentdc.errors import InputError
from latentdc.evaluate import score_table
from latentdc.evaluate.baselines import random_images
from latentdc.evaluate.labelled import set_hash
from latentdc.evaluate.render import to_markdown, to_text
from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.images import Normalization
from latentdc.runtime import Machine
from latentdc.synthetic.rows import encode
from tests.evaluate.toys import protocol, stripes

TRAIN, TEST = stripes(60, seed=3), stripes(30, seed=4)
OPTIONS = {"ipc": 2, "normalization": Normalization()}


def score(*pairs):
    students = ["convnet3@4", "alexnet@2", "vgg11@2"][: len(pairs)]
    some = protocol(students=students, seeds=len(pairs[0]), steps=300)
    return Score(some, dict(zip(students, pairs, strict=True)), ("x",) * len(pairs[0]))


def table(scores, unseen=(), missing=None):
    machine = Machine("0", "2", "cpu", 1, 1, "no", "Linux x86_64")
    return Table(scores=scores, ipc=1, unseen=unseen, missing=missing or {}, machine=machine)


def test_every_row_has_the_steps_of_the_distilled_one_and_random_rows_are_drawn_by_seed():
    coreset = TRAIN.select((TRAIN.hashes < 30).nonzero().squeeze(1))
    made = score_table(
        stripes(9, seed=5),
        TRAIN,
        TEST,
        protocol(steps=None, epochs=2, batch=4),
        coreset=coreset,
        **OPTIONS,
    )
    assert list(made.scores) == ["distilled", "random", "coreset", "full"]
    assert {row.protocol.steps for row in made.scores.values()} == {6}  # 2 epochs of 9 by 4
    for name, source in [("random", TRAIN), ("coreset", coreset)]:
        drawn = tuple(set_hash(random_images(source, 2, seed)) for seed in (0, 1))
        assert made.scores[name].sets == drawn
    assert made.scores["full"].sets == (set_hash(TRAIN),) * 2


@pytest.mark.parametrize("name", ["random", "coreset", "kept", "full"])
def test_a_set_with_the_name_of_a_baseline_is_refused(name):
    with pytest.raises(InputError, match=f"a set is called '{name}', and so is a row beside it"):
        score_table({name: stripes(6)}, TRAIN, TEST, protocol(), **OPTIONS)


def test_without_pruning_the_core_set_row_costs_nothing(tmp_path):
    made = score_table(
        None,
        TRAIN,
        TEST,
        protocol(),
        coreset=TRAIN,
        include=["random", "coreset"],
        rows=tmp_path,
        **OPTIONS,
    )
    assert made.scores["random"] == made.scores["coreset"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_row_without_images_is_listed_as_missing_and_said():
    made = score_table(stripes(6), None, TEST, protocol(seeds=1, steps=1), **OPTIONS)
    assert list(made.scores) == ["distilled"]
    assert made.missing.keys() == {"random", "coreset", "full"}
    assert "random: missing, no real training images were given." in to_text(made)
    with pytest.raises(InputError, match="none of the rows"):
        score_table(None, None, TEST, protocol(), **OPTIONS)


def test_random_rows_have_as_many_images_of_each_class_as_the_set():
    uneven = TRAIN.select(torch.cat([TRAIN.members(0)[:1], TRAIN.members(2)[:3]]))
    made = score_table(
        {"uneven": uneven},
        TRAIN,
        TEST,
        protocol(seeds=1, steps=1),
        counts=[1, 0, 3],
        include=["distilled", "random"],
        **OPTIONS,
    )
    assert made.scores["random"].sets == (set_hash(random_images(TRAIN, [1, 0, 3], 0)),)


def test_bytes_of_small_sets_stand_beside_their_numbers():
    one = stripes(6, seed=5)
    made = score_table(one, TRAIN, TEST, protocol(seeds=1, steps=1), **OPTIONS)
    png = sum(len(encode(image)) for image in one.images)
    drawn = sum(len(encode(image)) for image in random_images(TRAIN, 2, 0).images)
    assert made.sizes == {"distilled": png, "random": drawn}
    assert [row.get("image_bytes") for row in made.to_json()["rows"]] == [png, drawn, None]
    lines = to_markdown(made).splitlines()
    assert lines[0] == "| set | bytes | convnet3@4 |"
    assert lines[2].startswith(f"| distilled | {png:,} | ")
    assert lines[4].startswith("| full | - | ")
    soft = replace(made.scores["distilled"], labels={"source": "brought", "label_bytes": 5})
    some = replace(made, scores={**made.scores, "distilled": soft})
    assert to_markdown(some).splitlines()[2].startswith(f"| distilled | {png + 5:,} | ")


def test_students_of_the_distilling_network_are_seen_at_any_width():
    some = protocol(students=["convnet3@4", "convnet3@2", "alexnet@2"], seeds=1, steps=1)
    made = score_table(stripes(6), None, TEST, some, seen="convnet3", **OPTIONS)
    assert made.unseen == ("alexnet@2",)


def test_each_set_has_students_of_its_own_that_it_was_not_distilled_with():
    some = protocol(students=["convnet3@4", "alexnet@2", "vgg11@2"], seeds=1, steps=1)
    sets = {"one": stripes(6), "two": stripes(6, seed=1)}
    seen = {"one": "convnet3", "two": "alexnet@8"}
    made = score_table(
        sets, TRAIN, TEST, some, seen=seen, include=["distilled", "random"], **OPTIONS
    )
    assert made.unseen == made.unseen_by("random") == ("vgg11@2",)
    assert made.unseen_by("one") == ("alexnet@2", "vgg11@2")
    assert made.unseen_by("two") == ("convnet3@4", "vgg11@2")


def test_text_is_aligned_and_has_the_mean_of_unseen_students():
    pairs = [(0.9, 0.7), (0.5, 0.7), (0.3, 0.1)]
    made = table({"distilled": score(*pairs), "full": score((1.0, 1.0), *pairs[1:])})
    lines = to_text(made).splitlines()
    assert lines[0].startswith(
        "Test accuracy in %, mean ± sample std over 2 seeds, ipc 1, protocol toy ("
    )
    assert "300 steps for every row" in lines[0]
    assert lines[2:] == [
        "set         convnet3@4    alexnet@2      vgg11@2",
        "---------  -----------  -----------  -----------",
        "distilled  80.0 ± 14.1  60.0 ± 14.1  20.0 ± 14.1",
        "full       100.0 ± 0.0  60.0 ± 14.1  20.0 ± 14.1",
    ]
    with_unseen = table(made.scores, unseen=("alexnet@2", "vgg11@2"))
    assert [line.split("  ")[-1].strip() for line in to_text(with_unseen).splitlines()[2:]] == [
        "unseen",
        "----------",
        "40.0 ± 0.0",  # (0.5 + 0.3) / 2 and (0.7 + 0.1) / 2
        "40.0 ± 0.0",
    ]


def test_top_5_stands_beside_top_1_from_a_hundred_classes_on_and_in_every_file():
    some = replace(score((0.5, 0.7), (0.2, 0.2)), top5={"convnet3@4": (0.8, 0.9)})
    ten, hundred = (replace(table({"distilled": some}), classes=c) for c in (10, 100))
    assert "top-5" not in to_text(ten)
    lines = to_markdown(hundred).splitlines()
    assert lines[0] == "| set | convnet3@4 | convnet3@4 top-5 | alexnet@2 | alexnet@2 top-5 |"
    assert lines[2] == "| distilled | 60.0 ± 14.1 | 85.0 ± 7.1 | 20.0 ± 0.0 | - |"
    one, other = ten.to_json()["rows"]
    assert one["top5"] == pytest.approx(0.85) and one["top5_accuracies"] == [0.8, 0.9]
    assert "top5" not in other


def test_a_set_smaller_than_the_batch_is_said_once():
    some = score((0.5, 0.7))
    few = replace(table({"distilled": some, "random": some}), classes=7)  # batches of 8
    said = "At ipc 1 a set is smaller than the batch of 8: its epochs are one full batch each."
    assert to_text(few).count(said) == 1
    assert said not in to_text(replace(few, classes=8))


def test_a_single_seed_is_shown_without_a_deviation():
    text = to_text(table({"distilled": score((0.5,))}))
    assert "1 seed," in text and text.endswith("50.0") and "±" not in text


def test_several_tables_become_one_by_set_ipc_and_protocol():
    one = table({"distilled": score((0.5, 0.7)), "random": score((0.2, 0.2))})
    two = replace(
        table({"distilled": score((0.9, 0.7), (0.4, 0.4))}, missing={"full": "why"}), ipc=10
    )
    lines = to_text(one, two).splitlines()
    assert [line.partition("protocol")[0] for line in lines[:2]] == [
        "Test accuracy in %, mean ± sample std over 2 seeds, ipc 1, ",
        "Test accuracy in %, mean ± sample std over 2 seeds, ipc 10, ",
    ]
    assert [line.split("  ") for line in to_markdown(one, two).splitlines()[2:5]] == [
        ["| distilled | 1 | toy | 60.0 ± 14.1 | - |"],
        ["| random | 1 | toy | 20.0 ± 0.0 | - |"],
        ["| distilled | 10 | toy | 80.0 ± 14.1 | 40.0 ± 0.0 |"],
    ]
    assert lines[-1] == "full: missing, why."


def test_a_caption_says_what_is_unsettled_and_what_the_labels_are():
    some = score((0.5, 0.7))
    facts = {
        "source": "stored",
        "teachers": ["resnet20"],
        "teacher_accuracy": 0.917,
        "teacher_accuracy_on_views": 0.36,
        "teacher_bytes": 1_000_000,
        "label_bytes": 5_000,
    }
    soft = replace(some, labels=facts, protocol=replace(some.protocol, unsettled=["lr", "views"]))
    lines = to_text(table({"distilled": soft})).splitlines()
    assert lines[1] == "The sources do not settle its lr, views."
    assert lines[2] == (
        "Soft labels (stored, 5,000 bytes) of resnet20, right on 91.7 % of real test images "
        "and on what students see of the sets: 36.0 % (distilled); 1,000,000 bytes."
    )


def test_several_sets_of_one_size_stand_above_the_same_baselines():
    sets = {"one": stripes(6, seed=5), "two": stripes(6, seed=6)}
    made = score_table(sets, TRAIN, TEST, protocol(), **OPTIONS)
    assert list(made.scores) == ["one", "two", "random", "full"]
    assert made.scores["two"].sets == (set_hash(sets["two"]),) * 2


def test_markdown_is_a_table_with_the_protocol_under_it():
    made = table({"distilled": score((0.9, 0.7))}, missing={"full": "why"})
    assert to_markdown(made).splitlines()[:4] == [
        "| set | convnet3@4 |",
        "| --- | ---: |",
        "| distilled | 80.0 ± 14.1 |",
        "",
    ]
    assert to_markdown(made).endswith("full: missing, why.")


def test_results_say_what_was_computed_how_and_where(tmp_path):
    made = table({"distilled": score((0.9, 0.7), (0.5, 0.5))}, unseen=("alexnet@2",))
    made.save(tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["version"] == 2
    assert (results["protocol"], results["protocol_hash"]) == ("toy", made.protocol.hash)
    assert (results["steps"], results["seeds"], results["ipc"]) == (300, 2, 1)
    assert results["rows"][0] == {
        "set": "distilled",
        "student": "convnet3@4",
        "mean": pytest.approx(0.8),
        "std": pytest.approx(0.02**0.5),
        "seeds": 2,
        "accuracies": [0.9, 0.7],
        "sets": ["x", "x"],
    }
    assert results["machine"]["device"] == "cpu" and results["machine"]["threads"] == 1


def test_all_that_pruning_kept_is_a_row_of_its_own():
    coreset = TRAIN.select((TRAIN.hashes < 30).nonzero().squeeze(1))
    few = protocol(seeds=2, steps=1)
    made = score_table(None, TRAIN, TEST, few, coreset=coreset, include=["kept"], **OPTIONS)
    assert made.scores.keys() == {"kept"}
    assert made.scores["kept"].sets == (set_hash(coreset),) * 2
