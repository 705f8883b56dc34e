from dataclasses import replace

import pytest

from latentdc.report import page
from latentdc.results.result import load
from latentdc.sweep.picture import draw, picture
from latentdc.sweep.report import _stages, comparison, pool, table
from latentdc.sweep.run import cell_result
from latentdc.sweep.spec import Sweep
from tests.report.toys import run_folder
from tests.results import toys

AXES = {"rule": {"easy": [], "hard": []}, "kept": {"1 %": [], "10 %": []}}
WANTED = [("easy", "1 %"), ("easy", "10 %"), ("hard", "1 %")]


def result(seconds=None, **rows):
    """A cell with two students, of which the second is 0.1 better."""
    both = {name: (v, tuple(x + 0.1 for x in v)) for name, v in rows.items()}
    changes = {name: {"hashes": (name,) * 2} for name in rows}
    return toys.table({"steps": 7}, {"all": {"seconds": seconds}, **changes}, **both)


def test_the_last_axis_runs_across_and_what_is_missing_is_said():
    found = {("easy", "1 %"): result(kept=(0.2, 0.4)), ("hard", "1 %"): result(kept=(0.1, 0.1))}
    lines = table(AXES, WANTED, found).splitlines()
    assert lines[:6] == [
        "**convnet3@4**",
        "",
        "| rule | 1 % | 10 % |",
        "| --- | ---: | ---: |",
        "| easy | 30.0 ± 14.1 | - |",  # wanted, and not there
        "| hard | 10.0 ± 0.0 |  |",  # skipped
    ]
    assert "| easy | 40.0 ± 14.1 | - |" in lines  # of the other student
    assert lines[-1] == "1 of 3 cells are not finished."
    assert "7 steps for every cell." in lines[-3]


def test_the_distilled_row_is_the_cells_and_baselines_are_said_once():
    row = {"distilled": (0.5, 0.5), "random": (0.2, 0.2), "coreset": (0.8, 0.8)}
    row["full"] = (0.9, 0.9)
    found = {("easy", "1 %"): result(3.4, **row), ("easy", "10 %"): result(5, **row)}
    text = table(AXES, WANTED[:2], found)
    assert "coreset, ipc 1: 80.0 ± 0.0" in text  # of the same images in both cells
    found["easy", "10 %"] = [
        replace(one, hashes=("x", "x")) if one.set == "coreset" else one
        for one in found["easy", "10 %"]
    ]
    text = table(AXES, WANTED[:2], found)
    assert "| easy | 50.0 ± 0.0 (3 s) | 50.0 ± 0.0 (5 s) |" in text
    assert "random, ipc 1: 20.0 ± 0.0; full: 90.0 ± 0.0." in text and "80.0" not in text
    assert "in brackets the time of all distillation steps" in text
    assert "not finished" not in text


def test_cells_that_evaluate_nothing_are_finished():
    for axes, point in (({"kept": {"1 %": []}}, ("1 %",)), (AXES, ("easy", "1 %"))):
        text = table(axes, [point], {point: []})
        assert "All cells are finished, and evaluate.rows=[] evaluates nothing." in text
        assert "not finished" not in text


def test_a_cell_without_a_row_of_its_own_shows_its_first_one():
    found = cell_result(result(random=(0.2, 0.4), full=(0.9, 0.9)), "convnet3@4")
    assert found.accuracies == (0.2, 0.4)


def test_the_names_of_a_single_axis_run_down_above_their_baselines():
    found = {}
    for name, value in {"plain": 0.5, "other": 0.25}.items():
        rows = toys.table(distilled=((value, value), (0.25, 0.25)), random=((0.125, 0.125),) * 2)
        found[name,] = [replace(row, run=name) for row in rows]
    lines = table({"variant": {"plain": [], "other": []}}, list(found), found).splitlines()
    assert lines[:5] == [
        "| set | convnet3@4 | alexnet@2 |",
        "| --- | ---: | ---: |",
        "| plain | 50.0 ± 0.0 | 25.0 ± 0.0 |",
        "| other | 25.0 ± 0.0 | 25.0 ± 0.0 |",
        "| random | 12.5 ± 0.0 | 12.5 ± 0.0 |",
    ]


def test_baselines_of_cells_with_other_images_are_told_apart():
    found = {}
    for name, kept in {"plain": "a", "other": "b", "third": "a"}.items():
        rows = result(distilled=(0.5, 0.5), random=(0.1, 0.1), coreset=(0.2, 0.2))
        found[name,] = [
            replace(row, run=name, hashes=(kept,) * 2 if row.set == "coreset" else row.hashes)
            for row in rows
        ]
    axes = {"variant": {"plain": [], "other": [], "third": []}}
    lines = table(axes, list(found), found)
    named = [line.split(" |")[0] for line in lines.splitlines() if line.startswith("| ")]
    assert named[-3:] == ["| random", "| coreset of plain and 1 more", "| coreset of other"]


@pytest.mark.parametrize(
    ("axes", "point"),
    [
        ({"kept": {"1 %": []}}, ("1 %",)),
        (AXES, ("easy", "1 %")),
        ({"method": {"DM": [], "DC": []}, **AXES}, ("DC", "easy", "10 %")),
    ],
)
@pytest.mark.parametrize("seconds", [None, 2.0])
def test_a_picture_is_drawn_of_any_number_of_axes(tmp_path, axes, point, seconds):
    pytest.importorskip("matplotlib")
    path = tmp_path / "table.png"
    assert draw(axes, [point], {point: result(seconds, kept=(0.1, 0.2))}, path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert not draw(axes, [point], {}, path)


def test_the_picture_has_every_student_and_the_random_row_with_the_deviations_of_the_table():
    pytest.importorskip("matplotlib")
    cell = result(None, distilled=(0.2, 0.4), random=(0.1, 0.3))
    figure = picture({"kept": {"1 %": [], "2 %": []}}, [("1 %",), ("2 %",)], {("1 %",): cell})
    assert [panel.get_ylabel() for panel in figure.axes] == [
        f"{one.student}\ntest accuracy in %" for one in cell[:2]
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["distilled", "random images"]
    (bar,) = figure.axes[0].containers[0].lines[2][0].get_segments()
    assert (bar[1, 1] - bar[0, 1]) / 2 == pytest.approx(100 * cell[0].std)


def test_random_rows_that_differ_between_curves_are_drawn_for_each():
    pytest.importorskip("matplotlib")
    axes = {"ipc": {"1": [], "10": []}, "kept": {"1 %": []}}
    found = {
        (name, "1 %"): result(None, distilled=(0.5, 0.6), random=(value, value))
        for name, value in {"1": 0.1, "10": 0.3}.items()
    }
    (legend,) = picture(axes, list(found), found).legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told == ["1", "10", "random images, 1", "random images, 10"]
    assert legend.get_title().get_text() == "ipc"


@pytest.mark.parametrize("count", [1, 10])
def test_ticks_and_legend_of_the_picture_are_whole(count):
    pytest.importorskip("matplotlib")
    names = {f"a name of some length {number}": [] for number in range(count)}
    axes = {"curve": names, "last": names}
    wanted = [(one, other) for one in names for other in names]
    figure = picture(axes, wanted, dict.fromkeys(wanted, result(None, kept=(0.2, 0.4))))
    figure.draw_without_rendering()
    whole = figure.bbox
    texts = [*figure.axes[-1].get_xticklabels(), *figure.legends[0].get_texts()]
    for box in (text.get_window_extent() for text in texts):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1
    assert figure.axes[0].bbox.width > 200


def test_names_that_matplotlib_takes_for_mathematics_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    axes = {"panel $x_{$": {"$\\frac{$": []}, "kept": {"_a": []}, "b|": {"$^$": [], "|": []}}
    wanted = [("$\\frac{$", "_a", "$^$"), ("$\\frac{$", "_a", "|")]
    found = dict.fromkeys(wanted, result(kept=(0.2, 0.4)))
    assert draw(axes, wanted, found, tmp_path / "table.png")
    header = table(axes, wanted, found).splitlines()[2]
    assert header == "| panel $x_{$ | kept | $^$ | \\| |"


def test_a_page_is_held_against_the_row_that_is_there_and_counts_each_test_set_alone():
    axes = {"rule": {"easy": [], "hard": []}}
    sweep = Sweep(recipe="digits_ipc1", axes=axes, against={"rule": "easy"})
    cells = {
        (rule,): [
            replace(one, test=rule) for one in result(distilled=(value,) * 2, full=(0.9,) * 2)
        ]
        for rule, value in (("easy", 0.2), ("hard", 0.4))
    }
    frame, base = comparison(sweep, cells)
    assert base == "easy" and set(frame["name"]) == {"easy", "hard", "full"}
    full = frame[frame["name"] == "full"]
    assert full.groupby("result")["test"].nunique().max() == 1 and full["result"].nunique() == 4
    assert comparison(sweep, {("hard",): cells["hard",]})[1] is None
    assert comparison(sweep, {}) == (None, None)


def test_repetitions_under_other_protocols_are_no_repeats_of_each_other():
    axes = {"rule": {"easy": [], "hard": []}, "rate": {"low": [], "high": []}}
    sweep = Sweep(recipe="digits_ipc1", axes=axes, over="rate")
    cells = {
        ("easy", rate): [
            replace(one, protocol_hash=rate) for one in result(distilled=(value, value))
        ]
        for rate, value in (("low", 0.2), ("high", 0.4))
    }
    _, pooled = pool(sweep, cells)
    assert pooled["easy",][0].accuracies == (0.2, 0.2, 0.4, 0.4)


def test_cells_that_were_computed_otherwise_are_told():
    cells = {("a",): result(None, kept=(0.2, 0.4)), ("b",): result(None, kept=(0.3, 0.4))}
    cells["b",] = [
        replace(one, machine={**one.machine, "precision": "bf16"}) for one in cells["b",]
    ]
    cells["a",] = [replace(one, machine={**one.machine, "precision": "no"}) for one in cells["a",]]
    axes = {"kept": {"a": [], "b": []}, "seed": {"0": []}}
    named = {(*point, "0"): found for point, found in cells.items()}
    assert "\nComputed with precision no or bf16." in table(axes, list(named), named)


def test_repetitions_that_were_computed_otherwise_are_told():
    axes = {"rule": {"easy": [], "hard": []}, "kept": {"a": []}, "seed": {"0": [], "1": []}}
    sweep = Sweep(recipe="digits_ipc1", axes=axes, over="seed")

    def told(*images):
        cells = {
            (rule, "a", seed): [
                replace(one, hashes=(hash,) * 2, machine={**one.machine, "precision": precision})
                for one in result(None, distilled=(value, value))
            ]
            for rule in axes["rule"]
            for seed, precision, value, hash in zip(
                "01", ("no", "bf16"), (0.2, 0.4), images, strict=True
            )
        }
        left, pooled = pool(sweep, cells)
        return table(left, list(pooled), pooled)

    assert "| easy | 30.0 ± 11.5 |" in told("x", "y")
    assert "\nComputed with precision no or bf16." in told("x", "y")
    assert "| easy | 20.0 ± 0.0 |" in told("x", "x") and "Computed" not in told("x", "x")


def test_seconds_of_repetitions_are_averaged():
    axes = {"rule": {"easy": []}, "seed": {"0": [], "1": [], "2": []}}
    sweep = Sweep(recipe="digits_ipc1", axes=axes, over="seed")
    cells = {
        ("easy", seed): result(seconds, distilled=(0.5, 0.5))
        for seed, seconds in (("0", 2.0), ("1", 9.0), ("2", None))
    }
    _, pooled = pool(sweep, cells)
    assert {one.seconds for one in pooled["easy",]} == {5.5}
    frame, _ = comparison(sweep, cells)
    assert frame["seconds"].unique().tolist() == [5.5]


def test_seconds_stand_beside_the_size_of_set_that_they_made():
    axes = {"ipc": {"one": ["ipc=1"], "ten": ["ipc=10"]}, "seed": {"0": [], "1": []}}
    sweep = Sweep(recipe="digits_ipc1", axes=axes, over="seed")
    cells = {
        (name, seed): [
            replace(one, ipc=ipc, hashes=(f"{name} {seed}",) * 2)
            for one in result(seconds + 2 * int(seed), distilled=(0.5, 0.5))
        ]
        for name, ipc, seconds in (("one", 1, 3.0), ("ten", 10, 20.0))
        for seed in ("0", "1")
    }
    frame, _ = comparison(sweep, cells)
    assert frame.groupby("ipc")["seconds"].unique().map(list).to_dict() == {1: [4.0], 10: [21.0]}


def test_seconds_of_a_stage_are_means_over_the_repetitions_that_have_it():
    axes = {"rule": {"easy": [], "hard": []}, "seed": {"0": [], "1": []}}
    sweep = Sweep(recipe="digits_ipc1", axes=axes, over="seed")
    known = {
        ("easy", "0"): {"rates": 3.0, "matching": 10.0},
        ("easy", "1"): {"matching": 21.0},
        ("hard", "0"): {"matching": 7.0},
    }
    lines = _stages(sweep, known).splitlines()
    assert lines[-4:] == [
        "| rule | rates | matching |",
        "| --- | ---: | ---: |",
        "| easy | 3.0 | 15.5 |",
        "| hard | - | 7.0 |",
    ]


def test_a_sweep_over_images_per_class_alone_has_its_page(tmp_path):
    sweep = Sweep(recipe="digits_ipc1", axes={"ipc": {"one": ["ipc=1"], "ten": ["ipc=10"]}})
    folder = run_folder(tmp_path / "one")
    frame, base = comparison(sweep, {("one",): load(folder / "results.json")})
    assert base is None and "distilled" in set(frame["name"])
    page.write(tmp_path / "x.html", [folder], frame=frame)
