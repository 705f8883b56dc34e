from pathlib import Path

import pytest

from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.runtime import Machine
from latentdc.sweep.picture import draw
from latentdc.sweep.render import Result, to_json, to_markdown
from tests.evaluate.toys import protocol

AXES = {"rule": {"easy": [], "hard": []}, "kept": {"1 %": [], "10 %": []}}
WANTED = [("easy", "1 %"), ("easy", "10 %"), ("hard", "1 %")]
MACHINE = Machine("1", "2", "cpu", 1, 1, "no", "Linux")


def result(seconds=None, *, ipc=1, **rows) -> Result:
    """A cell with two students, of which the second is 0.1 better."""
    some = protocol(students=["vit", "alexnet"], seeds=2, steps=7)
    scores = {
        name: Score(some, {"vit": v, "alexnet": tuple(x + 0.1 for x in v)}, (name,) * 2)
        for name, v in rows.items()
    }
    return Result(Path("a/b"), Table(scores, ipc, (), {}, MACHINE, "test", 10), seconds)


def test_the_last_axis_runs_across_and_what_is_missing_is_said():
    found = {("easy", "1 %"): result(kept=(0.2, 0.4)), ("hard", "1 %"): result(kept=(0.1, 0.1))}
    lines = to_markdown(AXES, WANTED, found).splitlines()
    assert lines[:6] == [
        "**vit**",
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
    row = {"distilled": (0.5, 0.5), "random": (0.2, 0.2), "coreset": (0.9, 0.9), "full": (1, 1)}
    found = {("easy", "1 %"): result(3.4, **row), ("easy", "10 %"): result(5, **row)}
    text = to_markdown(AXES, WANTED[:2], found)
    assert "| easy | 50.0 ± 0.0 (3 s) | 50.0 ± 0.0 (5 s) |" in text
    assert "random, ipc 1: 20.0 ± 0.0; full: 100.0 ± 0.0." in text and "90.0" not in text
    assert "in brackets the time of all distillation steps" in text
    assert "not finished" not in text


def test_a_cell_without_a_row_of_its_own_shows_its_first_one():
    assert result(random=(0.2, 0.4), full=(1, 1)).score.accuracies["vit"] == (0.2, 0.4)


def test_results_name_points_runs_and_times():
    content = to_json(AXES, {("easy", "1 %"): result(3.4, kept=(0.2, 0.4))})
    (cell,) = content["cells"]
    assert cell["point"] == {"rule": "easy", "kept": "1 %"}
    assert (cell["run"], cell["seconds"], cell["steps"]) == ("a/b", 3.4, 7)
    assert [row["mean"] for row in cell["rows"]] == pytest.approx([0.3, 0.4])


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
    path = tmp_path / "table.png"
    assert draw(axes, [point], {point: result(seconds, kept=(0.1, 0.2))}, path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert not draw(axes, [point], {}, path)


def test_names_that_matplotlib_takes_for_mathematics_are_drawn(tmp_path):
    axes = {"panel $x_{$": {"$\\frac{$": []}, "kept": {"_a": []}, "b|": {"$^$": [], "|": []}}
    wanted = [("$\\frac{$", "_a", "$^$"), ("$\\frac{$", "_a", "|")]
    found = dict.fromkeys(wanted, result(kept=(0.2, 0.4)))
    assert draw(axes, wanted, found, tmp_path / "table.png")
    header = to_markdown(axes, wanted, found).splitlines()[2]
    assert header == "| panel $x_{$ | kept | $^$ | \\| |"
