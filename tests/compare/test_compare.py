import json
import math
import re
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from latentdc import cli
from latentdc.compare.__main__ import main
from latentdc.compare.entries import read_all
from latentdc.compare.frontier import frontier, save_frontier
from latentdc.compare.groups import grouped
from latentdc.compare.paired import paired_difference
from latentdc.compare.render import to_markdown
from latentdc.compare.robustness import robustness
from latentdc.errors import InputError
from latentdc.evaluate.label_settings import Labels, Teacher
from latentdc.metrics.ddranking import augmentation_robust_score, label_robust_score
from latentdc.sweep.render import Result, to_json
from tests.compare.runs import evaluation, run, table
from tests.synthetic.sets import float_images, random_set

RANDOM = ((0.2, 0.3),)
DOCS = Path(__file__).parents[2] / "docs"


def test_a_difference_is_paired_by_seed_with_the_standard_error_of_its_mean():
    found = paired_difference((0.5, 0.7, 0.9), (0.4, 0.5, 0.6))
    differences = [0.1, 0.2, 0.3]
    assert found.mean == pytest.approx(0.2) and found.seeds == 3
    variance = sum((d - 0.2) ** 2 for d in differences) / 2
    assert found.error == pytest.approx(math.sqrt(variance / 3))
    assert paired_difference((0.5,), (0.4,)).error is None


def test_the_seeds_that_both_have_are_paired(tmp_path):
    with pytest.raises(InputError, match="needs the same seeds, got 2 and 3"):
        paired_difference((0.1, 0.2), (0.1, 0.2, 0.3))
    given = [
        run(tmp_path / "a", table(distilled=((0.1, 0.2),))),
        run(tmp_path / "b", table(distilled=((0.3, 0.6, 0.9),))),
    ]
    text = to_markdown(grouped(read_all(given)), [])
    assert "| b | 1 | +30.0 ± 10.0 (2 seeds) |" in text and "over 2 or 3 seeds" in text


def test_a_row_that_several_runs_share_stands_once_and_every_set_has_a_name(tmp_path):
    given = [
        run(tmp_path / "a", table(distilled=((0.5, 0.6),), random=RANDOM)),
        run(tmp_path / "b", table(distilled=((0.5, 0.6),), random=RANDOM)),
        run(tmp_path / "c", table(distilled=((0.4, 0.6),), random=((0.1, 0.3),))),
    ]
    (group,) = grouped(read_all(given))
    names = [line.name for line in group.lines]
    assert names == ["a", "random (a)", "b", "c", "random (c)"]


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
    (group,) = grouped(read_all(given))
    lines = {line.name: line.accuracies["convnet3@4"] for line in group.lines}
    assert lines.pop("random (a)") == (0.2, 0.3, 0.4) and lines.pop("random (c)") == (0.2, 0.4)
    assert lines.keys() == {"a", "b", "c"}
    assert "| b | 1 | +30.0 ± 0.0 |" in to_markdown([group], [], "random (a)")


def test_a_sweep_is_compared_by_its_runs(tmp_path, capsys):
    axes = {"rule": {"easy": [], "hard": []}, "kept": {"1 %": [], "10 %": []}}
    results = {}
    for number, rule in enumerate(axes["rule"]):
        made = table(distilled=((0.5 + number / 10, 0.6),), random=RANDOM)
        run(tmp_path / "sweep" / rule / "1", made)
        results[rule, "1 %"] = Result(Path(rule) / "1", made, None)
    path = tmp_path / "sweep" / "results.json"
    path.write_text(json.dumps(to_json(axes, results)))
    for given in (path.parent, path):
        cli.main(["compare", str(given), "--output", str(tmp_path)])
        printed = capsys.readouterr().out
        assert "| easy, 1 % | 1 | - | 55.0 ± 7.1 |" in printed
        assert "| hard, 1 % | 1 | +5.0 ± 5.0 |" in printed and printed.count("| random |") == 2
    shutil.rmtree(path.parent / "hard")
    with pytest.raises(SystemExit):
        cli.main(["compare", str(path)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "the table of a sweep whose run" in error


def test_points_of_a_sweep_that_share_a_run_are_both_named(tmp_path, capsys):
    axes = {"rule": {"easy": [], "hard": []}, "kept": {"all": []}}
    made = table(distilled=((0.5, 0.6),), random=RANDOM)
    run(tmp_path / "easy/all", made)
    results = {(rule, "all"): Result(Path("easy/all"), made, None) for rule in axes["rule"]}
    (tmp_path / "results.json").write_text(json.dumps(to_json(axes, results)))
    cli.main(["compare", str(tmp_path), "--output", str(tmp_path)])
    assert "| easy, all and hard, all | 1 | - | 55.0 ± 7.1 |" in capsys.readouterr().out


def test_no_seed_of_a_row_that_two_files_of_a_run_hold_is_dropped(tmp_path):
    folder = tmp_path / "a"
    run(folder, table(distilled=((0.5, 0.6, 0.7),), random=((0.25, 0.5, 0.75),)))
    evaluation(folder, table(other=((0.5,),), random=((0.25,),)))
    (group,) = grouped(read_all([str(folder)]))
    found = {line.name: line.accuracies["convnet3@4"] for line in group.lines}
    assert found == {"a": (0.5, 0.6, 0.7), "random": (0.25, 0.5, 0.75), "other": (0.5,)}
    (folder / "evaluation.json").unlink()
    evaluation(folder, table(other=((0.5,),), random=((0.375,),)))  # which contradicts the other
    (group,) = grouped(read_all([str(folder)]))
    found = {line.name: line.accuracies["convnet3@4"] for line in group.lines}
    assert found["random (a/results.json)"] == (0.25, 0.5, 0.75)
    assert found["random (a/evaluation.json)"] == (0.375,)


def test_a_copy_of_the_results_beside_the_set_adds_nothing(tmp_path):
    made = table(distilled=((0.5, 0.6),), random=RANDOM)
    given = run(tmp_path / "a", made)
    copy = run(tmp_path / "a/synthetic", made)
    (group,) = grouped(read_all([given, copy, str(tmp_path / "a/results.json")]))
    assert [line.name for line in group.lines] == ["a", "random"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((("rows", 0, key), value) for key in ("set", "student") for value in (None, 7, [], True)),
        *((("rows", 0, "mean"), value) for value in (0.6, None, "0.55", math.nan)),
        *((("rows", 0, "sets"), value) for value in (["x"], [], None, 3)),
        *((("protocol",), value) for value in (None, 7, [[]], {})),
        *((("protocol_hash",), value) for value in (None, 7, math.inf)),
        *((("test",), value) for value in (True, 7, {"a": 1})),
        *((("ipc",), value) for value in (0, -1, math.inf, "1", None, True, 1.5)),
        *((("protocol_settings",), value) for value in (None, [], {}, "x", 3)),
        *((("protocol_settings", "steps"), value) for value in (None, -3, "x", [])),
        *((("protocol_settings", "labels"), value) for value in (None, [], 3)),
    ],
)
def test_results_that_were_edited_into_nonsense_are_refused(tmp_path, capsys, place, value):
    given = run(tmp_path, table(distilled=((0.5, 0.6),)))
    content = json.loads((tmp_path / "results.json").read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", given, "--output", str(tmp_path)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "results.json is no" in error


def test_a_row_that_stands_twice_in_a_file_is_refused(tmp_path):
    given = run(tmp_path, table(distilled=((0.5, 0.6),)))
    content = json.loads((tmp_path / "results.json").read_text())
    content["rows"] *= 2
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="a row stands there twice"):
        read_all([given])


@pytest.mark.parametrize("value", ["NaN", "1e999", "-0.1", "43.7", "true", '"0.5"', "null", "[]"])
@pytest.mark.parametrize("name", ["results.json", "evaluation.json"])
def test_what_is_no_accuracy_is_not_compared(tmp_path, capsys, name, value):
    made = table(distilled=((0.5, 0.625),))
    given = (run if name == "results.json" else evaluation)(tmp_path, made)
    path = tmp_path / name
    path.write_text(re.sub(r"(?m)^( +)0\.625$", rf"\g<1>{value}", path.read_text()))
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", given, "--output", str(tmp_path)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    assert "an accuracy is a share in [0, 1], not" in error


def test_other_protocols_and_test_sets_never_share_a_table(tmp_path):
    given = [
        run(tmp_path / "a", table(distilled=((0.5, 0.6),))),
        run(tmp_path / "b", table(distilled=((0.5, 0.6),), settings={"lr": 0.5})),
        run(tmp_path / "c", table(distilled=((0.5, 0.6),), test="t2")),
    ]
    groups = grouped(read_all(given))
    assert [[line.name for line in group.lines] for group in groups] == [["a"], ["b"], ["c"]]
    text = to_markdown(groups, [])
    assert text.startswith("3 tables: protocols, test sets or preprocessing differ")
    assert "minus" not in text


def test_the_unseen_mean_is_over_students_that_no_set_was_distilled_with(tmp_path):
    values = ((0.9, 0.9), (0.2, 0.4), (0.4, 0.8))
    (group,) = grouped(read_all([run(tmp_path / "a", table(distilled=values))]))
    assert group.unseen == ("alexnet@2", "vit")
    assert group.lines[0].over(group.unseen) == pytest.approx((0.3, 0.6))
    spread = 100 * statistics.stdev([0.3, 0.6])
    assert f"| 45.0 ± {spread:.1f} |" in to_markdown([group], [])
    other = json.loads((tmp_path / "a" / "results.json").read_text())
    (tmp_path / "b").mkdir()
    other["rows"][0] |= {"accuracies": [0.125, 0.25], "mean": 0.1875}
    other["unseen"] = ["convnet3@4", "vit"]
    (tmp_path / "b" / "results.json").write_text(json.dumps(other))
    (both,) = grouped(read_all([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert both.unseen == ("vit",)


def test_the_frontier_holds_what_no_other_set_beats():
    points = [(5.0, 0.5), (1.0, 0.2), (2.0, 0.2), (3.0, 0.6), (1.0, 0.1), (9.0, 0.9)]
    assert frontier(points) == [1, 3, 5]


def test_scores_of_robustness_come_from_the_rows_that_define_them(tmp_path):
    soft = {"labels": Labels(source="online", teachers=[Teacher(network="resnet20")])}
    plain, augmented = {}, {"augment": "flip"}
    folder = evaluation(
        tmp_path / "a",
        table(mine=((0.5, 0.5),), random=((0.3, 0.3),), full=((0.9, 0.9),), settings=plain),
        table(mine=((0.6, 0.6),), random=((0.2, 0.2),), settings=augmented),
        table(mine=((0.7, 0.7),), random=((0.6, 0.6),), settings=soft),
    )
    # The set is the same in all three, as its hash says.
    path = tmp_path / "a" / "evaluation.json"
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row["sets"] = [row["set"]] * 2
    path.write_text(json.dumps(content))
    found = robustness(read_all([folder]))
    first = next(one for one in found if one.lrs is not None)
    assert (first.hlr, first.ior) == pytest.approx((0.4, 0.2))
    assert first.lrs == pytest.approx(label_robust_score(0.4, 0.2))
    views = next(one for one in found if one.ars is not None)
    assert (views.augmented, views.plain) == pytest.approx((0.4, 0.2))
    assert views.ars == pytest.approx(augmentation_robust_score(0.4, 0.2))
    assert "| full | all |" in to_markdown(grouped(read_all([folder])), found)
    assert len(found) == 2  # two hard protocols: which HLR goes with soft labels is not told


def test_a_set_with_soft_labels_of_its_own_is_no_hard_one(tmp_path):
    rows = {"mine": ((0.5, 0.5),), "random": ((0.3, 0.3),), "full": ((0.9, 0.9),)}
    hard, brought = table(**rows), table(**rows)
    brought.scores["mine"].labels.update(source="brought", label_bytes=8)
    (score,) = robustness(read_all([evaluation(tmp_path / "hard", hard)]))
    assert (score.hlr, score.ior) == pytest.approx((0.4, 0.2))
    assert robustness(read_all([evaluation(tmp_path / "brought", brought)])) == []
    views = table(mine=((0.6, 0.6),), random=((0.2, 0.2),), settings={"augment": "flip"})
    mine = brought.scores["mine"]
    views.scores["mine"] = replace(views.scores["mine"], sets=mine.sets)
    assert robustness(read_all([evaluation(tmp_path / "plain", hard, views)]))[1].ars is not None
    views.scores["mine"] = replace(views.scores["mine"], labels=mine.labels)
    assert robustness(read_all([evaluation(tmp_path / "both", brought, views)])) == []


def test_baselines_of_sets_with_other_class_sizes_are_lines_of_their_own(tmp_path):
    one, two = table(even=((0.5,),), random=((0.2,),), full=((0.9,),)), table(odd=((0.6,),))
    two.scores["random"] = replace(one.scores["random"], accuracies={"convnet3@4": (0.1,)})
    two.scores["full"] = one.scores["full"]
    found = read_all([evaluation(tmp_path, one, replace(two, counts="0123abcd"))])
    (group,) = grouped(found)
    names = ["even", "random beside even", "full", "odd", "random beside odd"]
    assert [line.name for line in group.lines] == names
    assert [round(one.ior, 3) for one in robustness(found)] == [0.3, 0.5]


def test_other_preprocessing_is_another_table_and_older_files_join_the_only_one(tmp_path):
    plain = replace(table(a=((0.5,),)), preprocessing={"mean": [0.5], "std": [0.2]})
    white = replace(table(b=((0.6,),)), preprocessing={"mean": [0.5], "zca": {"images": "0a"}})
    older = evaluation(tmp_path / "older", table(c=((0.7,),)))
    new = evaluation(tmp_path / "new", plain)
    (group,) = grouped(read_all([new, older]))
    assert [line.name for line in group.lines] == ["a", "c"]
    groups = grouped(read_all([evaluation(tmp_path / "new", white), older]))
    assert [[line.name for line in group.lines] for group in groups] == [["a"], ["b"], ["c"]]
    text = to_markdown(groups, [])
    assert "test set t1, mean [0.5], std [0.2]:" in text and ", zca of 0a:" in text
    assert "test set t1, preprocessing not recorded:" in text
    assert "mean" not in to_markdown([group], []).splitlines()[0].replace("mean ±", "")


def test_a_student_that_no_set_of_known_bytes_has_leaves_its_panel_empty(tmp_path):
    pytest.importorskip("matplotlib")
    given = run(tmp_path / "a", table(distilled=((0.5, 0.6),)))
    random_set().save_pretrained(tmp_path / "a" / "synthetic")
    other = evaluation(tmp_path / "b", table(others=((0.5, 0.6), (0.1, 0.2))))
    assert save_frontier(tmp_path / "picture.png", grouped(read_all([given, other]))) == 2


@pytest.mark.smoke
def test_the_command_writes_tables_and_a_picture_of_known_bytes(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    given = []
    for name, changes in {"levels": {}, "floats": {"images": float_images()}}.items():
        given.append(run(tmp_path / name, table(distilled=((0.5, 0.6),), random=RANDOM)))
        random_set(**changes).save_pretrained(tmp_path / name / "synthetic")
    png = random_set().storage()["images/png"]
    out = tmp_path / "out"
    main([*given, "--output", str(out)])
    printed = capsys.readouterr().out
    assert f"| levels | 1 | {png:,} |" in printed
    assert f"| floats | 1 | {8 * 3 * 8 * 8 * 4:,} |" in printed
    assert (out / "comparison.md").read_text().strip() in printed
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_bytes_counted_with_the_scores_are_drawn_and_what_pruning_kept_is_no_set(tmp_path, capsys):
    rows = {"mosaics": ((0.5, 0.6),), "random": RANDOM, "kept": ((0.8, 0.9),)}
    made = replace(table(ipc=3, **rows), sizes={"mosaics": 1000, "random": 2000})
    made.scores["mosaics"].labels["label_bytes"] = 50
    given = evaluation(tmp_path / "x", made)
    main([given, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| mosaics | 3 | 1,050 |" in printed and "| random | 3 | 2,000 |" in printed
    assert "| kept | kept | - |" in printed
    assert (tmp_path / "comparison.png").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no results.json"), ('{"rows": [{"set": "x"}]}', "is no results.json")],
)
def test_other_files_are_refused_in_one_line(tmp_path, capsys, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path)])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_values_of_other_types_end_in_one_line(tmp_path, capsys):
    """Results lie in the sets of strangers."""
    given = run(tmp_path, replace(table(distilled=((0.5, 0.625),)), preprocessing={"mean": [0.5]}))
    path, row = tmp_path / "results.json", ("rows", 0)
    sound = path.read_text()
    keys = (
        *(("protocol",), ("protocol_hash",), ("protocol_settings",), ("test",), ("counts",)),
        *(("preprocessing",), ("protocol_settings", "steps"), ("protocol_settings", "views")),
        *(("protocol_settings", "labels"), ("rows",), row, (*row, "set"), (*row, "student")),
        *((*row, "sets"), (*row, "sets", 0), (*row, "accuracies"), (*row, "image_bytes")),
        *(("ipc",), (*row, "labels")),
    )
    for *above, key in keys:
        for value in ("[[5]]", "1e999", "NaN", "true", '{"a": {"b": []}}'):
            content = json.loads(sound)
            at = content
            for name in above:
                at = at[name]
            at[key] = json.loads(value)
            path.write_text(json.dumps(content))
            if key in ("preprocessing", "views", "labels") and value.startswith("{"):
                continue  # a mapping, as it should be
            with pytest.raises(SystemExit) as end:
                main([given, "--output", str(tmp_path / "out")])
            error = capsys.readouterr().err
            assert end.value.code == 2 and error.count("\n") == 1, (key, value)
            assert "is no results.json or evaluation.json of latentdc" in error


def test_a_sweep_inside_of_its_own_cells_ends_in_one_line(tmp_path, capsys):
    cells = [{"run": ".", "point": {"a": "b"}}] * 9
    (tmp_path / "results.json").write_text(json.dumps({"cells": cells}))
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.count("results.json: ") == 1


def test_names_stand_for_themselves_in_tables_pictures_and_on_terminals(tmp_path, capsys):
    names = ("a|b", "$\\frac{x$", "_c", "\x1b[31mred")
    made = table(**{name: ((0.5, 0.625),) for name in names})
    given = evaluation(tmp_path, replace(made, sizes=dict.fromkeys(names, 1000)))
    main([given, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for name in ("a\\|b", "$\\frac{x$", "_c", "\\x1b[31mred"):
        assert f"| {name} | 1 | 1,000 |" in printed
    assert (tmp_path / "comparison.png").is_file()
    with pytest.raises(SystemExit):
        cli.main(["compare", "\x1b[31mred"])
    assert "error: \\x1b[31mred holds no" in capsys.readouterr().err


def test_missing_results_and_sets_are_refused(tmp_path):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    with pytest.raises(InputError, match=r"holds no results\.json or evaluation\.json"):
        read_all([str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main([run(tmp_path / "a", table(distilled=RANDOM)), "--against", "b"])
    assert end.value.code == 2


def test_top_5_is_compared_on_demand_and_rows_without_it_are_left_out(tmp_path, capsys):
    made = table(distilled=((0.5, 0.6),), random=RANDOM)
    made.scores["distilled"].top5["convnet3@4"] = (0.8, 0.9)
    given = [run(tmp_path / "a", made), "--output", str(tmp_path)]
    main([*given, "--top5"])
    printed = capsys.readouterr().out
    assert (
        printed.startswith("Top-5 test accuracy in %") and "| a | 1 | - | 85.0 ± 7.1 |" in printed
    )
    assert "random" not in printed
    with pytest.raises(SystemExit) as end:
        main([run(tmp_path / "b", table(distilled=RANDOM)), "--top5"])
    assert end.value.code == 2 and "no row of these files holds top-5" in capsys.readouterr().err


def test_the_page_lists_every_key_of_both_files(tmp_path):
    made = table(distilled=((0.5, 0.6),))
    evaluation(tmp_path, made)
    flat = json.loads((tmp_path / "evaluation.json").read_text())
    single = made.to_json()
    page = (DOCS / "metrics.md").read_text().split("## The files of results")[1]
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    keys = {*single, *single["rows"][0], *flat, *flat["rows"][0]} | {"labels"}
    keys |= {"top5", "top5_accuracies", "image_bytes"}
    assert listed == keys
    assert f"`results.json` has version {single['version']}" in page
    assert f"`evaluation.json` version {flat['version']}" in page
