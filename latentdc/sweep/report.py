"""What a sweep brings together from its finished cells: results, a table, a picture, a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pandas as pd

from latentdc import io, plain_text
from latentdc.errors import counted
from latentdc.recipe import BASELINES
from latentdc.report import page
from latentdc.results.comparison import CONDITIONS, written
from latentdc.results.means import COMPUTED, computed, over_seeds, percent
from latentdc.results.result import RESULTS, Result, Results, save
from latentdc.results.tables import to_markdown
from latentdc.sweep.picture import draw
from latentdc.sweep.run import FIXED, ByPoint, cell_result, cell_results, cell_stages, is_finished
from latentdc.sweep.spec import Axis, Cells, Point, Sweep, cell_folder, shared_runs


def write(sweep: Sweep, cells: Cells, folder: Path, begun: str | None = None) -> str:
    """Write the results of all finished cells and the page, and return the table.

    `begun` is the command, for the page.
    """
    homes = shared_runs(cells, folder)
    results, wanted = _collect(cells, homes, folder), list(cells)
    axes, shown = pool(sweep, results)
    short = list(dict.fromkeys(_without(sweep, point) for point in wanted))
    if sweep.against:
        text = _against(sweep, results)
        text += _stages(sweep, {p: cell_stages(cell_folder(folder, homes[p])) for p in results})
        text += f"\n{missing}" if (missing := _unfinished(wanted, results)) else ""
    else:
        text = table(axes, short, shown)
    every = {id(result): result for found in results.values() for result in found}
    save(folder / RESULTS, every.values())
    io.write_text(folder / "table.md", text + "\n")
    draw(axes, short, shown, folder / "table.png")
    frame, base = comparison(sweep, results)
    page.write(folder / page.NAME, [folder], against=base, frame=frame, begun=begun)
    return text


def _collect(cells: Cells, homes: Mapping[Point, Point], folder: Path) -> dict[Point, list[Result]]:
    """The results of the finished cells, by every point that shares their run, which they name."""
    found: dict[Point, list[Result]] = {}
    for first in dict.fromkeys(homes[point] for point in cells):
        target = cell_folder(folder, first)
        if not is_finished(cells[first], target):
            continue
        points = [point for point in cells if homes[point] == first]
        name = " and ".join(", ".join(point) for point in points)
        named = [replace(result, run=name) for result in cell_results(target)]
        found |= dict.fromkeys(points, named)
    return {point: found[point] for point in cells if point in found}


def table(axes: Mapping[str, Axis], wanted: Sequence[Point], results: ByPoint) -> str:
    """A table for each student, baselines that all cells share, and what the numbers are.

    The last axis runs across; a single axis runs down, and students across. `wanted` are all points
    of the sweep, `results` those that are there.
    """
    every = [result for found in results.values() for result in found]
    students = list(dict.fromkeys(result.student for result in every))
    lines: list[str] = []
    if len(axes) == 1 and every:
        lines.append(to_markdown(_of_one_axis(results)))
    else:
        for student in students:
            lines += [f"**{student}**\n"] if len(students) > 1 else []
            lines += [_grid(axes, wanted, results, student), "", *_baselines(every, student)]
        lines += _captions(every)
    missing = _unfinished(wanted, results)
    if missing:
        lines.append(missing)
    elif not every:
        lines.append("All cells are finished, and evaluate.rows=[] evaluates nothing.")
    return "\n".join(lines)


def _unfinished(wanted: Sequence[Point], results: ByPoint) -> str:
    missing = sum(point not in results for point in wanted)
    return f"\n{missing} of {len(wanted)} cells are not finished." if missing else ""


# ---- Repetitions, and differences from one row ----


def _without(sweep: Sweep, point: Point, *more: str) -> Point:
    """The names of a point, but for those on the axis of repetitions and on `more`."""
    names = zip(sweep.axes, point, strict=True)
    return tuple(name for axis, name in names if axis not in (sweep.over, *more))


def pool(sweep: Sweep, results: ByPoint) -> tuple[dict[str, Axis], ByPoint]:
    """Axes without the one of repetitions, and the results of its cells as one.

    Seconds are their mean, and a fact of the machine in which they differ a tuple. Cells of the
    same images under the same conditions count once: their trainings repeat each other.
    """
    axes = {axis: names for axis, names in sweep.axes.items() if axis != sweep.over}
    if sweep.over is None:
        return axes, results
    alike: dict[Point, list[Sequence[Result]]] = {}
    for point, found in results.items():
        alike.setdefault(_without(sweep, point), []).append(found)
    return axes, {
        point: [_pooled(several, ", ".join(point)) for several in zip(*cells, strict=True)]
        for point, cells in alike.items()
        if len({tuple((one.set, one.student) for one in found) for found in cells}) == 1
    }


def _pooled(several: Sequence[Result], run: str) -> Result:
    first, took = several[0], [one.seconds for one in several if one.seconds is not None]
    alike = {(one.hashes, one.conditions): one for one in reversed(several)}  # the first of each
    apart = list(reversed(alike.values()))
    known = {key: tuple(dict.fromkeys(one.machine.get(key) for one in apart)) for key in COMPUTED}
    machine = {key: facts for key, facts in known.items() if len(facts) > 1}
    return replace(
        first,
        run=run,
        hashes=tuple(one for result in apart for one in result.hashes),
        accuracies=tuple(one for result in apart for one in result.accuracies),
        top5=None,
        seconds=fmean(took) if took else None,
        machine={**first.machine, **machine},
    )


def comparison(sweep: Sweep, results: ByPoint) -> tuple[pd.DataFrame | None, str | None]:
    """What a page compares: all finished cells, repetitions as one, and their baselines.

    Returns:
        A frame as of `read_runs`, in which a set is named by its cell's names on all axes but
        repetitions and images per class, and None without results; the set that the others are
        held against, where there is one.
    """
    axes = [axis for axis in sweep.axes if axis not in (sweep.over, "ipc")]
    base = sweep.against.get(axes[0]) if len(axes) == 1 else None
    frame = _trainings(sweep, results, axes, BASELINES)
    return frame, base if frame is not None and base in set(frame["name"]) else None


def _against(sweep: Sweep, results: ByPoint) -> str:
    """Tables of accuracies and of paired differences, for each combination of the other axes."""
    ((axis, base),) = sweep.against.items()
    alike: dict[Point, dict[Point, Sequence[Result]]] = {}
    for point, found in results.items():
        alike.setdefault(_without(sweep, point, axis), {})[point] = found
    parts = []
    for rest, cells in alike.items():
        frame = _trainings(sweep, cells, [axis], ["random"])
        if frame is None:
            continue
        others = [one for one in sweep.axes if one not in (sweep.over, axis)]
        named = ", ".join(" ".join(one) for one in zip(others, rest, strict=True))
        parts += [f"**{named}**"] * bool(named) + [written(frame, "markdown", base)]
    if sweep.over is not None and parts:
        parts.append(
            f"A seed here is one of {sweep.over} with one of the student; the standard error takes "
            "them for independent. Trainings that repeat each other, as those on random images do, "
            "count once."
        )
    return "\n\n".join(parts)


def _trainings(
    sweep: Sweep, results: ByPoint, axes: Sequence[str], baselines: Sequence[str]
) -> pd.DataFrame | None:
    """Trainings of the cells, each set named by its cell's names on `axes`, and of baselines.

    A training is named by its repetition and its student's seed, and paired by both; seconds are
    means over repetitions. A baseline of which cells have different images is named after them.
    """
    kept: list[Result] = []
    facts: list[tuple[str, str, bool, str]] = []
    for point, found in results.items():
        names = dict(zip(sweep.axes, point, strict=True))
        cell = ", ".join(names[axis] for axis in axes)
        for one in found:
            own = one is cell_result(found, one.student)
            if own or one.set in baselines:
                kept.append(one if own else replace(one, seconds=None))
                name = cell or one.set if own else one.set
                facts.append((name, cell, own, names.get(sweep.over or "", "")))
    if not kept:
        return None
    frame = Results(kept).to_frame()
    called, cells, ours, times = zip(*(facts[at] for at in frame["result"]), strict=True)
    seeds = [f"{time}/{seed}" for time, seed in zip(times, frame["seed"], strict=True)]
    frame = frame.assign(name=called, origin=cells, own=ours, seed=seeds)
    alike = frame.groupby(["name", "ipc", "student", "seed", *CONDITIONS])["hash"]
    apart = ~frame["own"] & (alike.transform("nunique") > 1)
    frame["name"] = frame["name"].where(~apart, frame["name"] + " of " + frame["origin"])
    frame["set"] = frame["set"].where(~frame["own"], "distilled")
    frame["result"] = frame.groupby(["name", "ipc", "student", *CONDITIONS]).ngroup()
    frame["seconds"] = frame.groupby(["name", "ipc"])["seconds"].transform("mean")
    return frame.drop(columns="own")


def _stages(sweep: Sweep, known: Mapping[Point, Mapping[str, float]]) -> str:
    """Seconds of each stage, means over repetitions; nothing where there are none."""
    stages = list(dict.fromkeys(stage for seconds in known.values() for stage in seconds))
    if not stages:
        return ""
    alike: dict[Point, list[Mapping[str, float]]] = {}
    for point, seconds in known.items():
        alike.setdefault(_without(sweep, point), []).append(seconds)
    rows = [[*(axis for axis in sweep.axes if axis != sweep.over), *stages]]
    for point, cells in alike.items():
        told = [[one[stage] for one in cells if stage in one] for stage in stages]
        rows.append([*point, *(f"{fmean(some):.1f}" if some else "-" for some in told)])
    text = "Seconds of making a set, without networks that cells share (scorers, experts):"
    return f"\n\n{text}\n\n{plain_text.markdown_table(rows, left=len(rows[0]) - len(stages))}"


# ---- One grid for all axes ----


def _of_one_axis(results: ByPoint) -> list[Result]:
    """The cells' own rows by their names, then their baselines, each of the same images once.

    A baseline of which cells have different images is named after the cells as well.
    """
    own: list[Result] = []
    baselines: dict[tuple[object, ...], list[Result]] = {}
    for found in {id(each): each for each in results.values()}.values():
        for result in found:
            if result is cell_result(found, result.student):
                own.append(replace(result, set=result.run or result.set))
            elif result.set in BASELINES:
                kind = (result.set, result.ipc, result.conditions, result.student)
                baselines.setdefault((*kind, result.hashes), []).append(result)
    kinds = Counter(key[:-1] for key in baselines)
    for key, (first, *others) in baselines.items():
        more = f" and {len(others)} more" if others else ""
        name = f"{first.set} of {first.run}{more}" if kinds[key[:-1]] > 1 else first.set
        own.append(replace(first, set=name, seconds=None))
    return own


def _grid(axes: Mapping[str, Axis], wanted: Sequence[Point], results: ByPoint, student: str) -> str:
    *leading, last = axes
    across = [name for name in axes[last] if any(point[-1] == name for point in wanted)]
    rows = [[*leading, *across]]
    for start in dict.fromkeys(point[:-1] for point in wanted):
        cells = []
        for name in across:
            found = results.get((*start, name))
            result = cell_result(found, student) if found else None
            if result is None:
                cells.append("-" if found or (*start, name) in wanted else "")
            else:
                timed = "" if result.seconds is None else f" ({result.seconds:.0f} s)"
                cells.append(percent(result.accuracies) + timed)
        rows.append([*start, *cells])
    return plain_text.markdown_table(rows, left=len(leading))


def _baselines(results: Sequence[Result], student: str) -> list[str]:
    """Each baseline in words, as far as all cells under its protocol have the same sets of it."""
    alike: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for result in results:
        alike.setdefault((result.set, result.protocol_hash), set()).add(result.hashes)
    several = len({result.protocol_hash for result in results}) > 1
    found = {
        (result.set, result.hashes, result.protocol_hash): (
            f"{result.set}{'' if result.set == 'full' else f', ipc {result.ipc}'}"
            f"{f', {result.protocol}' if several else ''}: {percent(result.accuracies)}"
        )
        for result in results
        if result.student == student
        and result.set in BASELINES
        and (result.set in FIXED or len(alike[result.set, result.protocol_hash]) == 1)
    }
    return ["; ".join(found.values()) + ".", ""] if found else []


def _captions(results: Sequence[Result]) -> list[str]:
    timed = any(result.seconds is not None for result in results)
    lines = []
    for one in {result.protocol_hash: result for result in results}.values():
        alike = [each for each in results if each.protocol_hash == one.protocol_hash]
        seeds = sorted({len(each.accuracies) for each in alike})
        lines.append(
            f"Test accuracy in % after the last step, {over_seeds(*seeds)}, protocol "
            f"{one.protocol} ({one.protocol_hash}): "
            f"{counted(one.steps, 'step')} for every cell"
            + ("; in brackets the time of all distillation steps." if timed else ".")
        )
        if apart := computed([each.machine for each in alike]):
            lines.append(f"Computed with {apart}.")
    return lines
