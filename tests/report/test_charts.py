import numpy as np
import pytest

from latentdc.report.charts import POINTS, Mark, Series, axis, curve, histogram, plot, short


def test_ticks_are_round_numbers_inside_of_the_axis():
    found = axis([0.62, 0.89], 0, 100).ticks()
    assert [label for _, label in found] == ["0.7", "0.8", "0.9"]
    wide = axis([900, 2_000_000], 0, 100, log=True).ticks()
    assert [label for _, label in wide] == ["1k", "10k", "100k", "1M"]
    positions = [place for place, _ in wide]
    steps = np.diff(positions)
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)


def test_an_axis_of_a_single_value_has_room():
    one = axis([5.0], 0, 100)
    assert one.low < 5 < one.high and one.ticks()
    assert axis([0.0], 0, 100).ticks() and axis([], 0, 100).ticks()
    assert not axis([0.0, 5.0], 0, 100, log=True).log  # 0 has no logarithm


def test_many_steps_become_means_of_several():
    steps = list(range(10 * POINTS))
    found = curve("run", steps, [float(step) for step in steps])
    assert len(found.points) == POINTS
    assert found.points[1].y == pytest.approx(14.5)
    assert found.points[1].tip == "run, steps 10 to 19: 14.5"


def test_marks_error_bars_and_the_frontier_stand_where_their_values_are():
    points = [Mark(100, 50, "a", 10), Mark(200, 70, "b")]
    chart = plot([Series("s", points)], title="t", x_label="x", y_label="y", steps=points)
    (_, _, x1, y1, bar, tip), (_, _, x2, y2, none, _) = chart.marks
    assert x1 < x2 and y1 > y2 and tip == "a" and none is None
    assert bar is not None and bar[0] - y1 == pytest.approx(y1 - bar[1], abs=0.11)
    left, top, right, bottom = chart.box
    assert left <= x1 and x2 <= right and top <= y2 and bar[0] <= bottom
    assert chart.lines[0] == (None, f"M{x1} {y1}H{x2}V{y2}H{right}")
    assert chart.lines[1] == (0, f"M{x1} {y1}L{x2} {y2}")


def test_a_histogram_counts_every_sample_and_what_was_kept():
    values = np.concatenate([np.linspace(0, 1, 9999), [1e9]])
    chart = histogram("loss", values, values < 0.5, title="t")
    heights = {color: 0.0 for color in (0, 1)}
    for color, _, _, _, height, _ in chart.bars:
        heights[color] += height
    assert heights[1] / heights[0] == pytest.approx(0.5, abs=0.01)
    assert float(chart.x_ticks[-1][1]) <= 1  # the outlier shares the last bar


def test_large_numbers_are_short():
    assert [short(v) for v in (0.25, 950, 1200, 2.5e6, 3e9)] == [
        "0.25",
        "950",
        "1.2k",
        "2.5M",
        "3G",
    ]


def test_the_name_of_a_level_keeps_clear_of_marks():
    def at_right(*marks):
        points = [Mark(x, y, "", error=error) for x, y, error in marks]
        corners = [Mark(0.0, 0.0, ""), Mark(10.0, 10.0, "")]
        series = [Series("s", [*corners, *points])]
        chart = plot(series, title="t", x_label="x", y_label="y", levels={"core set": 5.0})
        [(_, name, right)] = chart.levels
        assert name == "core set"
        return right

    assert at_right() and at_right((5.0, 5.0, None)) and at_right((10.0, 2.0, None))
    assert not at_right((10.0, 5.2, None)) and not at_right((9.8, 2.0, 4.0))
    assert at_right((10.0, 5.2, None), (0.0, 5.2, None))  # none is better then
