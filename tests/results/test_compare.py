import csv
import io
import math
import re
import statistics
from dataclasses import replace
from html import escape

import pandas as pd
import pytest

import latentdc
from latentdc import cli, ranks
from latentdc.errors import InputError
from latentdc.recipe.labels import Labels, Teacher
from latentdc.results.__main__ import main
from latentdc.results.comparison import groups_of, paired_difference, written
from latentdc.results.frontier import draw_frontier, frontier
from latentdc.results.means import by_seed, unseen_students
from latentdc.results.result import Results
from latentdc.results.robustness import augmentation_robust_score, label_robust_score, robustness
from latentdc.results.runs import read_runs
from latentdc.results.tables import to_text
from tests.results.toys import MACHINE, evaluation, result, run, table

RANDOM = ((0.2, 0.3),)


def names(frame):
    """Of the sets in each table."""
    return [list(group["name"].unique()) for _, group in groups_of(frame, "accuracy")]


def values(frame, student="convnet3@4"):
    """By the names of the sets in the only table."""
    ((_, group),) = groups_of(frame, "accuracy")
    return {name: by_seed(line, [student]) for name, line in group.groupby("name", sort=False)}


def test_a_difference_is_paired_by_seed_with_the_standard_error_of_its_mean():
    one, other, single = (
        Results([result(accuracies=each)]).to_frame()
        for each in ((0.5, 0.7, 0.9), (0.4, 0.5, 0.6), (0.5,))
    )
    found = paired_difference(one, other, ["convnet3@4"])
    differences = [0.1, 0.2, 0.3]
    assert found.mean == pytest.approx(0.2) and found.seeds == 3
    variance = sum((d - 0.2) ** 2 for d in differences) / 2
    assert found.error == pytest.approx(math.sqrt(variance / 3))
    assert paired_difference(single, other, ["convnet3@4"]).error is None
    assert paired_difference(single, other, ["vit"]) is None


def test_differences_that_share_a_training_of_either_set_are_averaged_first():
    one, other = (
        Results([result(accuracies=each)]).to_frame()
        for each in ((0.5, 0.5, 0.7, 0.8), (0.4, 0.3, 0.3, 0.2))
    )
    one["training"], other["training"] = list("aabc"), list("deef")  # 0, 1 and 2, by way of 1
    found = paired_difference(one, other, ["convnet3@4"])
    assert found.seeds == 2
    assert found.mean == pytest.approx(((0.1 + 0.2 + 0.4) / 3 + 0.6) / 2)
    assert found.error == pytest.approx((0.6 - (0.1 + 0.2 + 0.4) / 3) / 2)  # of two values


def test_a_set_is_held_against_the_row_with_as_many_images_per_class(tmp_path):
    one = table({}, {"all": {"ipc": 1}}, mine=((0.5, 0.6),), random=((0.2, 0.4),))
    ten = table({}, {"all": {"ipc": 10}}, mine=((0.8, 0.9),), random=((0.7, 0.7),))
    frame = read_runs([run(tmp_path / "one", one), run(tmp_path / "ten", ten)])
    told = written(frame, "text", "random")
    assert "minus random (same ipc)" in told
    assert re.findall(r"[+-]\d+\.\d ± \d+\.\d", told) == ["+25.0 ± 5.0", "+15.0 ± 5.0"]
    rows = list(csv.DictReader(io.StringIO(written(frame, "csv", "random"))))
    assert [row["minus"] for row in rows] == ["random", "random", "", ""]
    assert [float(row["difference"] or 0) for row in rows] == pytest.approx([0.25, 0.15, 0, 0])


def test_trainings_of_the_same_seed_are_paired_and_not_of_the_same_place():
    few, many = (
        Results([result(accuracies=each)]).to_frame() for each in ((0.5, 0.6), (0.9, 0.8, 0.5, 0.6))
    )
    few, many = few.assign(seed=["1/0", "1/1"]), many.assign(seed=["0/0", "0/1", "1/0", "1/1"])
    found = paired_difference(few, many, ["convnet3@4"])
    assert (found.mean, found.error, found.seeds) == (0.0, 0.0, 2)


def test_the_seeds_that_both_have_are_paired(tmp_path):
    given = [
        run(tmp_path / "a", table(distilled=((0.1, 0.2),))),
        run(tmp_path / "b", table(distilled=((0.3, 0.6, 0.9),))),
    ]
    text = written(read_runs(given), "markdown")
    assert "| b | 1 | - | 60.0 ± 30.0 |" in text
    assert "| b | 1 | +30.0 ± 10.0 (2 seeds) |" in text and "over 2 or 3 seeds" in text


def test_a_row_that_several_runs_share_stands_once_and_every_set_has_a_name(tmp_path):
    given = [
        run(tmp_path / "a", table(distilled=((0.5, 0.6),), random=RANDOM)),
        run(tmp_path / "b", table(distilled=((0.5, 0.6),), random=RANDOM)),
        run(tmp_path / "c", table(distilled=((0.4, 0.6),), random=((0.1, 0.3),))),
    ]
    assert names(read_runs(given)) == [["a", "b", "c", "random (a)", "random (c)"]]


def test_runs_whose_folders_have_one_name_are_told_apart_by_their_paths(tmp_path):
    given = [run(tmp_path / top / "a", table(distilled=((0.5, 0.6),))) for top in "xy"]
    assert names(read_runs(given)) == [[f"distilled ({folder})" for folder in given]]


def test_sets_of_one_name_in_one_file_are_told_apart_by_their_hash(tmp_path):
    one, two = (result("set", (0.5,), hashes=(digest,)) for digest in ("0a" * 8, "0b" * 8))
    given = evaluation(tmp_path, [one, two])
    assert names(read_runs([given])) == [["set (0a0a0a0a)", "set (0b0b0b0b)"]]


def cells(text, name):
    """The numbers of a set, in each table that has it."""
    return [line.split(" | ")[2:] for line in text.splitlines() if line.startswith(f"| {name} |")]


@pytest.mark.parametrize("order", [("few", "many"), ("many", "few")])
def test_a_random_row_that_two_runs_share_is_compared_by_every_student_of_either(
    tmp_path, capsys, order
):
    """Whichever run has more students, and whichever is named first."""
    drawn = ((0.2, 0.3), (0.1, 0.1))
    given = {
        "few": run(tmp_path / "few", table(distilled=((0.5, 0.7),), random=drawn[:1])),
        "many": run(tmp_path / "many", table(distilled=((0.6, 0.8), (0.4, 0.4)), random=drawn)),
    }
    main([*(given[name] for name in order), "--against", "random", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    (row,) = cells(printed, "random")
    assert row == ["-", "25.0 ± 7.1", "10.0 ± 0.0 |"]
    assert cells(printed, "few")[1] == ["+35.0 ± 5.0", "- |"]
    assert cells(printed, "many")[1] == ["+45.0 ± 5.0", "+30.0 ± 0.0 |"]


def test_a_random_row_with_more_seeds_is_the_same_row(tmp_path):
    given = [
        run(tmp_path / "a", table(distilled=((0.5, 0.6),), random=((0.2, 0.3),))),
        run(tmp_path / "b", table(distilled=((0.5, 0.6, 0.7),), random=((0.2, 0.3, 0.4),))),
        run(tmp_path / "c", table(distilled=((0.5, 0.6),), random=((0.2, 0.4),))),
    ]
    frame = read_runs(given)
    lines = values(frame)
    assert lines.pop("random (a)") == [0.2, 0.3, 0.4] and lines.pop("random (c)") == [0.2, 0.4]
    assert lines.keys() == {"a", "b", "c"}
    assert "| b | 1 | +30.0 ± 0.0 |" in written(frame, "markdown", "random (a)")


def test_the_file_of_a_sweep_is_compared_by_its_cells(tmp_path, capsys):
    found = []
    for number, name in enumerate(("easy, 1 %", "hard, 1 % and random, 1 %")):
        rows = table(distilled=((0.5 + number / 10, 0.6),), random=RANDOM)
        found += [replace(row, run=name) for row in rows]
    main([run(tmp_path / "sweep", found), "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| easy, 1 % | 1 | - | 55.0 ± 7.1 |" in printed
    assert "| hard, 1 % and random, 1 % | 1 | +5.0 ± 5.0 |" in printed
    assert printed.count("| random |") == 2  # once in each table


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sweep_and_its_own_cell_are_the_same_sets(tmp_path, order):
    rows = table(distilled=((0.5, 0.6),), random=RANDOM)
    cell = run(tmp_path / "sweep/easy/50", rows)
    given = [cell, run(tmp_path / "sweep", [replace(row, run="easy, 50 %") for row in rows])]
    found = names(read_runs([given[place] for place in order]))
    assert found == [[("50", "easy, 50 %")[order[0]], "random"]]


def test_no_seed_of_a_row_that_two_files_of_a_run_hold_is_dropped(tmp_path):
    folder = tmp_path / "a"
    run(folder, table(distilled=((0.5, 0.6, 0.7),), random=((0.25, 0.5, 0.75),)))
    evaluation(folder, table(other=((0.5,),), random=((0.25,),)))
    found = values(read_runs([str(folder)]))
    assert found == {"a": [0.5, 0.6, 0.7], "random": [0.25, 0.5, 0.75], "other": [0.5]}
    (folder / "evaluation.json").unlink()
    evaluation(folder, table(other=((0.5,),), random=((0.375,),)))  # which contradicts the other
    found = values(read_runs([str(folder)]))
    assert found["random (a/results.json)"] == [0.25, 0.5, 0.75]
    assert found["random (a/evaluation.json)"] == [0.375]


def test_a_copy_of_the_results_beside_the_set_adds_nothing(tmp_path):
    made = table(distilled=((0.5, 0.6),), random=RANDOM)
    given = run(tmp_path / "a", made)
    copy = run(tmp_path / "a/synthetic", made)
    assert names(read_runs([given, copy, str(tmp_path / "a/results.json")])) == [["a", "random"]]


def test_other_protocols_and_test_sets_never_share_a_table(tmp_path):
    given = [
        run(tmp_path / "a", table(distilled=((0.5, 0.6),))),
        run(tmp_path / "b", table({"lr": 0.5}, distilled=((0.5, 0.6),))),
        run(tmp_path / "c", table(None, {"all": {"test": "t2"}}, distilled=((0.5, 0.6),))),
    ]
    frame = read_runs(given)
    assert names(frame) == [["a"], ["b"], ["c"]]
    text = written(frame, "markdown")
    assert text.startswith("3 tables: protocols, test sets or preprocessing differ")
    assert "minus" not in text


def test_other_preprocessing_is_another_table(tmp_path):
    white = {"all": {"preprocessing": {"mean": [0.5], "zca": {"images": "0a"}}}}
    given = [
        evaluation(tmp_path / "plain", table(a=((0.5,),))),
        evaluation(tmp_path / "white", table(None, white, b=((0.6,),))),
    ]
    frame = read_runs(given)
    assert names(frame) == [["a"], ["b"]]
    text = written(frame, "markdown")
    assert "test set t1, mean [0.5]:" in text and ", zca of 0a:" in text
    alone = written(read_runs(given[:1]), "markdown")
    assert "mean" not in alone.splitlines()[0].replace("mean ±", "")


def test_the_unseen_mean_is_over_students_that_no_set_was_distilled_with(tmp_path):
    rows = ((0.9, 0.9), (0.2, 0.4), (0.4, 0.8))
    given = [run(tmp_path / "a", table(distilled=rows))]
    frame = read_runs(given)
    assert unseen_students(frame) == ["alexnet@2", "vit"]
    spread = 100 * statistics.stdev([0.3, 0.6])
    assert f"| 45.0 ± {spread:.1f} |" in written(frame, "markdown")
    other = table(distilled=((0.125, 0.25), *rows[1:]))
    given.append(run(tmp_path / "b", [replace(r, unseen=r.student != "alexnet@2") for r in other]))
    both = read_runs(given)
    assert unseen_students(both) == [] and "unseen" not in written(both, "markdown")  # vit alone


def test_the_frontier_holds_what_no_other_set_beats():
    points = [(5.0, 0.5), (1.0, 0.2), (2.0, 0.2), (3.0, 0.6), (1.0, 0.1), (9.0, 0.9)]
    assert frontier(points) == [1, 3, 5]


SAME = {name: {"hashes": (name, name)} for name in ("mine", "random", "full")}
LABELS = {"source": "own", "label_bytes": 8}
BROUGHT = {**SAME, "mine": {**SAME["mine"], "labels": LABELS}}


def test_scores_of_robustness_come_from_the_rows_that_define_them(tmp_path):
    soft = {"labels": Labels(source="online", teachers=[Teacher(network="resnet20")])}
    flipped = table({"augment": "flip"}, SAME, mine=((0.6, 0.6),), random=((0.2, 0.2),))
    folder = evaluation(
        tmp_path,
        table(
            {}, SAME, mine=((0.5, 0.5),), random=((0.3, 0.3),), coreset=((0.4, 0.4),),
            full=((0.9, 0.9),),
        ),
        [replace(one, settings={**one.settings, "together": 2}) for one in flipped],
        table(soft, SAME, mine=((0.7, 0.7),), random=((0.6, 0.6),)),
    )  # fmt: skip
    frame = read_runs([folder])
    found = robustness(frame)
    first = found[found["LRS"].notna()].iloc[0]
    assert (first["HLR"], first["IOR"]) == pytest.approx((0.4, 0.2))
    assert first["LRS"] == pytest.approx(label_robust_score(0.4, 0.2))
    views = found[found["ARS"].notna()].iloc[0]
    assert (views["IOR augmented"], views["IOR plain"]) == pytest.approx((0.4, 0.2))
    assert views["ARS"] == pytest.approx(augmentation_robust_score(0.4, 0.2))
    assert "| full | all |" in written(frame, "markdown")
    assert len(found) == 2  # two hard protocols: which HLR goes with soft labels is not told


def test_scores_of_robustness_are_of_all_seeds_that_the_files_of_a_run_hold(tmp_path):
    one, three = ({"distilled": {"hashes": ("images",) * seeds}} for seeds in (1, 3))
    rows = {"distilled": ((0.5,),), "random": ((0.2,),), "full": ((0.9,),)}
    run(tmp_path / "a", table(None, one, **rows))
    folder = evaluation(tmp_path / "a", table(None, three, distilled=((0.5, 0.6, 0.7),)))
    (score,) = robustness(read_runs([folder])).to_dict("records")
    assert (score["HLR"], score["IOR"]) == pytest.approx((0.9 - 0.6, 0.6 - 0.2))


def test_a_set_is_scored_against_the_random_images_of_its_own_run(tmp_path):
    rows = {"a": (0.5, 0.2, 0.9), "b": (0.6, 0.4, 0.8)}
    given = [
        run(tmp_path / name, table(None, {"full": {"hashes": (name,)}}, distilled=((one,),),
            random=((drawn,),), full=((every,),)))
        for name, (one, drawn, every) in rows.items()
    ]  # fmt: skip
    found = {one["set"]: one for one in robustness(read_runs(given)).to_dict("records")}
    for name, (one, drawn, _) in rows.items():
        assert found[name]["IOR"] == pytest.approx(one - drawn)


def test_a_set_with_soft_labels_of_its_own_is_no_hard_one(tmp_path):
    rows = {"mine": ((0.5, 0.5),), "random": ((0.3, 0.3),), "full": ((0.9, 0.9),)}
    hard, brought = table(None, SAME, **rows), table(None, BROUGHT, **rows)

    def scores(name, *tables):
        return robustness(read_runs([evaluation(tmp_path / name, *tables)]))

    (score,) = scores("hard", hard).to_dict("records")
    assert (score["HLR"], score["IOR"]) == pytest.approx((0.4, 0.2))
    assert scores("brought", brought).empty
    flip, other = {"augment": "flip"}, {"mine": ((0.6, 0.6),), "random": ((0.2, 0.2),)}
    assert scores("plain", hard, table(flip, SAME, **other))["ARS"].notna().any()
    assert scores("both", brought, table(flip, BROUGHT, **other)).empty


def test_baselines_of_sets_with_other_class_sizes_are_lines_of_their_own(tmp_path):
    odd = {"all": {"counts": "0123abcd"}, "random": {"hashes": ("x",)}}
    one = table(even=((0.5,),), random=((0.2,),), full=((0.9,),))
    two = table(None, odd, odd=((0.6,),), random=((0.1,),), full=((0.9,),))
    frame = read_runs([evaluation(tmp_path, one, two)])
    assert names(frame) == [["even", "odd", "random beside even", "full", "random beside odd"]]
    assert [round(one["IOR"], 3) for one in robustness(frame).to_dict("records")] == [0.3, 0.5]


def test_a_picture_has_a_panel_for_each_student_of_sets_of_known_bytes(tmp_path):
    pytest.importorskip("matplotlib")
    known = {"distilled": {"image_bytes": 1000}}
    given = [
        run(tmp_path / "a", table(None, known, distilled=((0.5, 0.6),))),
        evaluation(tmp_path / "b", table(others=((0.5, 0.6), (0.1, 0.2)))),
    ]
    assert len(draw_frontier(read_runs(given)).axes) == 1
    assert draw_frontier(read_runs(given[1:])) is None


def test_a_mark_of_the_picture_is_mean_and_sample_deviation_over_seeds_at_its_bytes():
    pytest.importorskip("matplotlib")
    one = result("one", (0.5, 0.6, 0.9), image_bytes=1000, labels={"label_bytes": 24})
    (panel,) = latentdc.compare([one]).figure().axes
    mark, _, (bars,) = panel.containers[0]
    assert mark.get_xydata()[0] == pytest.approx([1024, 100 * 2 / 3])
    (bar,) = bars.get_segments()
    half = (bar[1, 1] - bar[0, 1]) / 2
    assert half == pytest.approx(100 * statistics.stdev([0.5, 0.6, 0.9]))


@pytest.mark.smoke
@pytest.mark.parametrize("students", [1, 10])
def test_the_legend_of_the_picture_is_whole(students):
    pytest.importorskip("matplotlib")
    given = [
        result(f"a set with a name of some length {row}", (0.5, 0.6), f"convnet{student}")
        for row in range(10)
        for student in range(students)
    ]
    figure = latentdc.compare([replace(one, image_bytes=10) for one in given]).figure()
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert figure.axes[0].bbox.height > 150


def test_the_command_writes_tables_and_a_picture_of_known_bytes(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    rows = {"mosaics": ((0.5, 0.6),), "random": RANDOM, "kept": ((0.8, 0.9),)}
    labels = {"source": "own", "label_bytes": 50}
    known = {"mosaics": {"image_bytes": 1000, "labels": labels}, "random": {"image_bytes": 2000}}
    out = tmp_path / "out"
    given = evaluation(tmp_path / "x", table(None, {"all": {"ipc": 3}, **known}, **rows))
    main([given, "--output", str(out)])
    printed = capsys.readouterr().out
    assert "| mosaics | 3 | 1,050 |" in printed and "| random | 3 | 2,000 |" in printed
    assert "| kept | kept | - |" in printed
    assert (out / "comparison.md").read_text().strip() in printed
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


HOSTILE = ('=HYPERLINK("x")', "+1", "@a", "\\input{x}_5 % & $", "-2\x1b[31m")


@pytest.mark.parametrize("ending, kind", [("csv", "csv"), ("tex", "latex"), ("txt", "text")])
def test_the_ending_of_the_output_or_the_option_says_the_format(tmp_path, capsys, ending, kind):
    rows = {"mine": ((0.5, 0.75),), "random": ((0.25, 0.25),)}
    given = evaluation(tmp_path / "x", table(None, {"mine": {"seconds": 7.0}}, **rows))
    main([given, "--against", "random", "--output", str(tmp_path / f"t.{ending}")])
    main([given, "--against", "random", "--output", str(tmp_path / "f"), "--format", kind])
    written = (tmp_path / f"t.{ending}").read_text()
    assert (tmp_path / f"f/comparison.{ending}").read_text() == written
    assert capsys.readouterr().out.count(written) == 2
    with pytest.raises(SystemExit) as end:
        main([given, "--output", str(tmp_path / "t.csv"), "--format", "markdown"])
    assert end.value.code == 2 and "ends as csv does" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([given, "--output", str(tmp_path / "t.svg")])
    assert end.value.code == 2 and not (tmp_path / "t.svg").exists()
    assert f"write --output {tmp_path / 't.md'} --figure svg." in capsys.readouterr().err


def test_csv_has_a_line_for_each_set_and_student_with_unrounded_shares(tmp_path):
    rows = {"mine": ((0.5, 0.75), (0.25, 0.5)), "random": ((0.25, 0.25), (0.125, 0.125))}
    frame = read_runs([evaluation(tmp_path, table(None, {"mine": {"image_bytes": 9}}, **rows))])
    found = pd.read_csv(io.StringIO(written(frame, "csv", "random", "accuracy")))
    assert list(found["set"]) == ["mine", "mine", "random", "random"]
    one = found.iloc[0]
    assert (one["student"], one["seeds"], one["mean"], one["bytes"]) == ("convnet3@4", 2, 0.625, 9)
    assert one["std"] == pytest.approx(statistics.stdev([0.5, 0.75]))
    assert (one["minus"], one["difference"], one["error"]) == ("random", 0.375, 0.125)
    assert found["difference"].isna().tolist() == [False, False, True, True]


def test_real_images_took_no_seconds_of_a_distillation(tmp_path):
    rows = {"mine": ((0.5,),), "random": ((0.2,),), "full": ((0.9,),)}
    frame = read_runs([evaluation(tmp_path, table(None, {"all": {"seconds": 7.0}}, **rows))])
    found = csv.DictReader(io.StringIO(written(frame, "csv")))
    assert {row["set"]: row["seconds"] for row in found} == {
        "mine": "7.0",
        "random": "",
        "full": "",
    }


def test_no_name_acts_in_a_spreadsheet_or_in_latex(tmp_path):
    frame = read_runs([evaluation(tmp_path, table(**{name: RANDOM for name in HOSTILE}))])
    found = list(csv.reader(io.StringIO(written(frame, "csv"))))
    names = [row[0] for row in found[1:]]
    assert names == [f"'{name}" for name in HOSTILE[:3]] + [HOSTILE[3], f"'{HOSTILE[4]}"]
    text = written(frame, "latex")
    assert r"\textbackslash{}input\{x\}\_5 \% \& \$ & 1 & - & 25.0 $\pm$ 7.1 \\" in text
    assert r"$-$2 [31m & 1" in text
    assert text.count(r"\begin{tabular}{lrrr}") == 1 and text.count(r"\toprule") == 2


def test_pictures_are_png_pdf_and_svg_and_the_same_for_the_same_data(tmp_path):
    pytest.importorskip("matplotlib")
    known = {"all": {"image_bytes": 1000}}
    given = evaluation(tmp_path, table(None, known, **{"</text><script>": RANDOM}))
    words = [given, "--figure", "svg", "--figure", "pdf", "--output"]
    for folder in "ab":
        main([*words, str(tmp_path / folder)])
    for ending, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        one, again = ((tmp_path / f"{folder}/comparison.{ending}").read_bytes() for folder in "ab")
        assert one.startswith(start) and b"<script>" not in one and one == again
    assert not (tmp_path / "a/comparison.png").exists()


def test_compare_gives_in_python_what_the_command_writes(tmp_path, capsys):
    known = {"all": {"image_bytes": 1000}}
    given = [run(tmp_path / name, table(None, known, distilled=((0.1, 0.3),))) for name in "ab"]
    main([*given, "--against", "b", "--format", "text", "--output", str(tmp_path / "out")])
    capsys.readouterr()
    found = latentdc.compare(*given, against="b")
    assert f"{found}\n" == (tmp_path / "out/comparison.txt").read_text()
    assert found.to_markdown() == found.to("markdown") and "| a | 1 | +0.0" in found.to("markdown")
    assert list(found.to_frame()["name"]) == ["a", "a", "b", "b"]
    assert repr(found) == "<Comparison of a, b: print(...), to_frame(), figure()>"
    assert found._repr_html_() == f"<pre>{escape(str(found))}</pre>"
    pytest.importorskip("matplotlib")
    assert len(found.figure().axes) == 1


def test_compare_takes_results_that_lie_in_no_file(tmp_path):
    given = table(mine=((0.5, 0.6),), random=((0.2, 0.3),))
    found = latentdc.compare(given, run(tmp_path / "b", table(distilled=((0.1, 0.2),))))
    assert list(found.to_frame().drop_duplicates("name")["name"]) == ["mine", "b", "random"]
    with pytest.raises(InputError, match="the bytes of no set are known"):
        found.figure()


@pytest.mark.parametrize(
    ("given", "message"),
    [((), "got none"), ((3,), "got 3"), (([3],), "folders of runs or results of evaluate_sets")],
)
def test_compare_refuses_what_holds_no_results(given, message):
    with pytest.raises(InputError, match=message):
        latentdc.compare(*given)


@pytest.mark.parametrize("content", ["{", '{"rows": [{"set": "x"}]}', '{"version": 5}', "[]"])
def test_other_files_are_refused_in_one_line(tmp_path, capsys, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "is no results.json" in error


def test_names_stand_for_themselves_in_tables_pictures_and_on_terminals(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    odd = ("a|b", "$\\frac{x$", "_c", "\x1b[31mred")
    known = {"all": {"image_bytes": 1000}}
    given = evaluation(tmp_path, table(None, known, **{name: ((0.5, 0.625),) for name in odd}))
    main([given, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for name in ("a\\|b", "$\\frac{x$", "_c", "\\x1b[31mred"):
        assert f"| {name} | 1 | 1,000 |" in printed
    assert (tmp_path / "comparison.png").is_file()
    with pytest.raises(SystemExit):
        cli.main(["compare", "\x1b[31mred"])
    assert "error: \\x1b[31mred holds no" in capsys.readouterr().err


def test_names_whose_characters_the_font_lacks_are_told_once(tmp_path, capsys, recwarn):
    pytest.importorskip("matplotlib")
    known = {"all": {"image_bytes": 1000}}
    names = {"\u732b": ((0.5,),), "\U0001f600 \u72ac": ((0.6,),)}
    ranks.note.cache_clear()
    main([evaluation(tmp_path, table(None, known, **names)), "--output", str(tmp_path)])
    told = capsys.readouterr().err.splitlines()
    (line,) = [one for one in told if "matplotlib's font lacks characters of some names" in one]
    assert line.startswith("latentdc: note: ") and not recwarn.list
    assert (tmp_path / "comparison.png").is_file()


def test_captions_tell_of_results_that_were_computed_otherwise(tmp_path):
    def some(name, **facts):
        machine = {**MACHINE, "torch": "2.9", "precision": "no", **facts}
        return table(None, {"all": {"machine": machine}}, **{name: ((0.5, 0.6),)})

    half, same = some("half", precision="bf16", device="cuda (H200)"), some("same")
    plain = [*some("plain"), *same]
    apart = "computed with precision no or bf16, device cpu or cuda (H200)"
    text = str(latentdc.compare(plain, half))
    assert f", test set t1, {apart}:" in text
    assert f"\nC{apart[1:]}.\n" in to_text([*plain, *half])
    assert "omputed with" not in str(latentdc.compare(plain, same)) + to_text(plain)


def test_missing_results_and_sets_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "holds no results.json or evaluation.json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([run(tmp_path / "begun", [])])  # a sweep without a finished cell
    assert "these files hold no results yet" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([run(tmp_path / "a", table(distilled=RANDOM)), "--against", "b"])
    assert end.value.code == 2 and "there is no such set; there are a" in capsys.readouterr().err


def test_top_5_is_compared_on_demand_and_rows_without_it_are_left_out(tmp_path, capsys):
    five = {"distilled": {"top5": (0.8, 0.9)}}
    made = table(None, five, distilled=((0.5, 0.6),), random=RANDOM)
    main([run(tmp_path / "a", made), "--output", str(tmp_path), "--top5"])
    printed = capsys.readouterr().out
    assert printed.startswith("Top-5 test accuracy in %")
    assert "| a | 1 | - | 85.0 ± 7.1 |" in printed and "random" not in printed
    with pytest.raises(
        InputError, match="--against random: it has no top-5 accuracies, which a have; name"
    ):
        latentdc.compare(tmp_path / "a", against="random", top5=True)
    with pytest.raises(SystemExit) as end:
        main([run(tmp_path / "b", table(distilled=RANDOM)), "--top5"])
    assert end.value.code == 2
    assert "no result of these files holds top-5" in capsys.readouterr().err
