from dataclasses import replace

from latentdc.results.tables import to_markdown, to_text
from tests.results.toys import result, table

PAIRS = ((0.9, 0.7), (0.5, 0.7), (0.3, 0.1))
PLENTY = {"all": {"ipc": 10}}


def test_text_is_aligned_and_has_the_mean_of_unseen_students():
    rows = {"distilled": PAIRS, "full": ((1.0, 1.0), *PAIRS[1:])}
    seen = table({"steps": 300}, {"all": {"unseen": False}}, **rows)
    lines = to_text(seen).splitlines()
    assert lines[0].startswith(
        "Test accuracy in %, mean ± sample std over 2 seeds, ipc 1, protocol toy ("
    )
    assert "300 steps for every row" in lines[0]
    assert lines[2:] == [
        "set         convnet3@4    alexnet@2          vit",
        "---------  -----------  -----------  -----------",
        "distilled  80.0 ± 14.1  60.0 ± 14.1  20.0 ± 14.1",
        "full       100.0 ± 0.0  60.0 ± 14.1  20.0 ± 14.1",
    ]
    unseen = to_text(table(**rows)).splitlines()
    assert [line.split("  ")[-1].strip() for line in unseen[2:]] == [
        "unseen",
        "----------",
        "40.0 ± 0.0",  # (0.5 + 0.3) / 2 and (0.7 + 0.1) / 2
        "40.0 ± 0.0",
    ]


def test_each_set_is_a_line_of_text_whatever_its_name():
    names = ["two\nlines", "\x1b[31mred", "plain"]
    text = to_text([result(name) for name in names])
    assert [line.split("  ")[0] for line in text.splitlines()[4:]] == [
        r"two\nlines",
        r"\x1b[31mred",
        "plain",
    ]
    assert len({*map(len, text.splitlines()[3:])}) == 1, "aligned"


def test_columns_stand_below_each_other_where_characters_are_wide_or_marks():
    names = {"\u5c0f\u72ac": 4, "cafe\u0301": 4, "plain": 5}  # columns of a terminal
    lines = to_text([result(name) for name in names]).splitlines()[4:]
    short = dict(zip(names, lines, strict=True))
    ends = {len(line) - len(name) + names[name] for name, line in short.items()}
    assert len(ends) == 1, lines


def test_top_5_stands_beside_top_1_from_a_hundred_classes_on():
    some = table(distilled=((0.5, 0.7), (0.2, 0.2)))
    some[0] = replace(some[0], top5=(0.8, 0.9))
    assert "top-5" not in to_text(some)
    lines = to_markdown([replace(one, classes=100) for one in some]).splitlines()
    assert lines[0] == "| set | convnet3@4 | convnet3@4 top-5 | alexnet@2 | alexnet@2 top-5 |"
    assert lines[2] == "| distilled | 60.0 ± 14.1 | 85.0 ± 7.1 | 20.0 ± 0.0 | - |"


def test_a_set_smaller_than_the_batch_is_said_once():
    said = "At ipc 1 a set is smaller than the batch of 8: its epochs are one full batch each."
    few = table(changes={"all": {"classes": 7}}, distilled=PAIRS, random=PAIRS)
    assert to_text(few).count(said) == 1
    assert said not in to_text([replace(one, classes=8) for one in few])


def test_a_single_seed_is_shown_without_a_deviation():
    text = to_text([result(accuracies=(0.5,))])
    assert "1 seed," in text and text.endswith("50.0") and "±" not in text


def test_bytes_and_seconds_stand_beside_the_numbers_where_they_are_known():
    lines = to_markdown([result(image_bytes=7000, seconds=2.4), result("full")]).splitlines()
    assert lines[0] == "| set | bytes | seconds | convnet3@4 |"
    assert lines[2] == "| distilled | 7,000 | 2 | 60.0 ± 14.1 |"
    assert lines[3] == "| full | - | - | 60.0 ± 14.1 |"
    labels = {"source": "own", "label_bytes": 5}
    assert "| distilled | 7,005 |" in to_markdown([result(image_bytes=7000, labels=labels)])


def test_several_sizes_and_protocols_become_one_table():
    one = table(distilled=((0.5, 0.7),), random=((0.2, 0.2),))
    two = table(changes=PLENTY, distilled=((0.9, 0.7), (0.4, 0.4)))
    lines = to_text([*one, *two]).splitlines()
    assert [line.partition("protocol")[0] for line in lines[:2]] == [
        "Test accuracy in %, mean ± sample std over 2 seeds, ipc 1, ",
        "Test accuracy in %, mean ± sample std over 2 seeds, ipc 10, ",
    ]
    assert to_markdown([*one, *two]).splitlines()[2:5] == [
        "| distilled | 1 | toy | 60.0 ± 14.1 | - |",
        "| random | 1 | toy | 20.0 ± 0.0 | - |",
        "| distilled | 10 | toy | 80.0 ± 14.1 | 40.0 ± 0.0 |",
    ]


def test_a_caption_says_what_is_unsettled_and_what_the_labels_are():
    facts = {
        "source": "stored",
        "teachers": ["resnet20"],
        "teacher_accuracy": 0.917,
        "teacher_accuracy_on_views": 0.36,
        "teacher_bytes": 1_000_000,
        "label_bytes": 5_000,
    }
    soft = result(labels=facts, settings={"unsettled": ["lr", "views"]}, ipc=10)
    lines = to_text([soft]).splitlines()
    assert lines[1] == "The sources do not settle its lr, views."
    assert lines[2] == (
        "Soft labels (stored, 5,000 bytes) of resnet20, right on 91.7 % of real test images "
        "and on what students see of the sets: 36.0 % (distilled); 1,000,000 bytes."
    )


def test_a_set_with_soft_labels_of_its_own_is_named_wherever_it_stands():
    soft = result("soft", labels={"source": "own", "label_bytes": 4000})
    said = "Sets with soft labels of their own: 4,000 bytes (soft)."
    assert said in to_text([result("hard"), soft]) and said in to_text([soft, result("hard")])
    assert "soft labels" not in to_text([result("hard")])


def test_markdown_is_a_table_with_the_protocol_under_it():
    lines = to_markdown(table(changes=PLENTY, distilled=((0.9, 0.7),))).splitlines()
    assert lines[:4] == [
        "| set | convnet3@4 |",
        "| --- | ---: |",
        "| distilled | 80.0 ± 14.1 |",
        "",
    ]
    assert lines[4].startswith("Test accuracy in %")
