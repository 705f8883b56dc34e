"""The runs of a sweep, of which the missing ones alone are carried out."""

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from latentdc import config, io, locks, modes, ranks, run_folder, runtime, training
from latentdc.data.open import OpenData, Opened, open_splits, open_used, plain_preprocessing
from latentdc.errors import InputError
from latentdc.evaluate import load_protocol
from latentdc.experts.files import open_experts
from latentdc.provenance import require_same_data
from latentdc.prune.score import score_dataset
from latentdc.recipe import Data, Recipe
from latentdc.recipe.identity import changed, facts_of
from latentdc.results.result import RESULTS, Result, Results, load
from latentdc.run import check_run, run
from latentdc.run_parts import path_contents
from latentdc.sweep.spec import Cells, Point, cell_folder, shared_runs
from latentdc.synthetic.folder import PROVENANCE
from latentdc.tracking import tell_with

ByPoint = Mapping[Point, Sequence[Result]]
FIXED = ("random", "full")  # rows that do not depend on the cell
MARK = "cell.json"  # names the recipe whose results a finished cell's folder holds
_ELSEWHERE = ("output", "push", "threads", "processes", "trackers")  # say nothing about the result
# How cells choose from scores, which is theirs alone.
_CHOICE = ("score", "order", "keep", "count", "times_ipc", "scope", "columns")


@modes.precision_put_back()
def carry_out(
    wanted: Sequence[Point],
    cells: Cells,
    name: str,
    folder: Path,
    words: Mapping[Point, Sequence[str]],
    on_step: training.OnStep | None = None,
) -> None:
    """Carry out, or continue, the wanted cells; finished ones are not run again.

    Several commands may work on one sweep at a time: each takes cells that no other one holds, and
    waits at the end for those that are left. One that is killed lets go of its cell.

    Args:
        wanted: points of these cells.
        cells: all of the sweep, which are scored for together.
        name: of the sweep, for the provenance of its sets.
        folder: of the sweep: run folders of the cells, their common scores, and all finished
            trainings, so that no student is trained twice.
        words: of each cell, the recipe and overrides that `latentdc distill` takes.
        on_step: is told the `cell` and what `run` tells of each step.

    Raises:
        InputError: what only the data or the weights show to be wrong with a cell.
        RunError: a run broke.
    """
    first = next(iter(cells.values()))
    accelerator = runtime.start(**first.launch)
    home = shared_runs(cells, folder)
    points = list(dict.fromkeys(home[point] for point in wanted))
    places = {point: cell_folder(folder, point) for point in dict.fromkeys(home.values())}
    done = {p: place for p, place in places.items() if _done(cells[p], place, accelerator)}
    missing = {point: cells[point] for point in points if point not in done}
    finished = {repr(cells[point].data): place for point, place in done.items()}
    check_cells(missing, words, folder, accelerator, finished)
    for wait in (False, True):
        for number, point in enumerate(points, start=1):
            recipe, target = cells[point], cell_folder(folder, point)
            with _held(target, wait, accelerator) as held:
                if not held or _done(recipe, target, accelerator):
                    continue
                ranks.say("cell", f"{'/'.join(point)} ({number} of {len(points)})")
                run_folder.check_folder(recipe, target)
                scores = _share_scores(recipe, cells.values(), folder, accelerator)
                title = "_".join((name, *cell_folder(Path(), point).parts))
                read = path_contents(recipe)
                run(
                    recipe,
                    title,
                    target,
                    trainings=folder / "trainings",
                    scores=scores,
                    on_step=tell_with(on_step, cell="/".join(point)),
                    command=["latentdc", "distill", *words.get(point, ())],
                )
                if accelerator.is_main_process:
                    io.write_json(target / MARK, {"recipe": identity(recipe), "read": read})
                accelerator.wait_for_everyone()


def _done(recipe: Recipe, target: Path, accelerator: Accelerator) -> bool:
    return runtime.main_alone(accelerator, lambda: is_finished(recipe, target))


@contextmanager
def _held(target: Path, wait: bool, accelerator: Accelerator) -> Iterator[bool]:
    """Hold a cell against other commands, or find that one of them has it."""
    held = True
    with ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                stack.enter_context(locks.locked(target, wait=wait))
            except locks.InUse:
                held = False
        yield runtime.broadcast(held)


# ---- What a finished cell leaves in its folder ----


def identity(recipe: Recipe) -> str:
    """16 hex digits of all that decides a cell's numbers and is not at its default."""
    alone = replace(recipe, evaluate=replace(recipe.evaluate, together=None))  # rounding alone
    content = {key: value for key, value in changed(alone).items() if key not in _ELSEWHERE}
    protocol = load_protocol(recipe.evaluate.protocol).hash  # of a file, its contents
    return io.fingerprint({**content, "protocol": protocol})


def is_finished(recipe: Recipe, folder: Path) -> bool:
    """Whether the folder holds the results of this very recipe, and of none that came after it.

    A finished cell can be evaluated by other settings with `latentdc distill` and its folder.

    Raises:
        InputError: the mark or the results are damaged, or what the recipe reads is no longer what
            the cell read, so that other cells would lie beside it as if they differed in their
            settings alone.
    """
    try:
        mark = io.read_json(folder / MARK)
        marked, read = mark["recipe"], {**mark.get("read", {})}
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / MARK} is damaged ({error}); remove it.") from error
    wanted, last = identity(recipe), folder / config.RECIPE
    complete = not recipe.evaluate.rows or (folder / RESULTS).is_file()
    if marked != wanted or not complete or not last.is_file():
        return False
    try:
        if identity(config.load(Recipe, last)) != wanted:
            return False
    except InputError:  # its run will say so
        return False
    for key, now in path_contents(recipe).items():
        if read.get(key, now) != now:
            raise InputError(
                f"the results in {folder} are of other contents of {key} than there are now; bring "
                "these back, remove that folder to run the cell anew, or give the sweep a folder "
                "of its own with output=..."
            )
    if recipe.evaluate.rows:
        load(folder / RESULTS)  # refuses a damaged one before other cells are run
    return True


def cell_results(folder: Path) -> Results:
    """Results of a finished cell, with its seconds; empty where it evaluates nothing."""
    path = folder / RESULTS
    if not path.is_file():
        return Results()
    took = cell_stages(folder)
    return Results(replace(one, seconds=sum(took.values()) or None) for one in load(path))


def cell_result(results: Sequence[Result], student: str) -> Result | None:
    """Result of the set that a cell is about: the first row that is no baseline but `kept`.

    A cell without one is about its first row; None where the student has none.
    """
    if not results:
        return None
    own = [result for result in results if result.set not in (*FIXED, "coreset")]
    name = (own or results)[0].set
    return next((r for r in results if (r.set, r.student) == (name, student)), None)


def _told(folder: Path) -> Mapping[str, Any]:
    """What the set of a finished cell keeps of its making; empty where that is damaged."""
    with suppress(OSError, ValueError, RecursionError):
        told = io.read_json(folder / run_folder.SET / PROVENANCE)
        return told if isinstance(told, Mapping) else {}
    return {}


def cell_stages(folder: Path) -> dict[str, float]:
    """`stage_seconds` of a cell; empty where none was made, or a file is damaged, which is said."""
    path, told = folder / run_folder.METRICS, folder / run_folder.SET / PROVENANCE
    if not path.is_file() or not told.is_file():
        return {}
    try:
        steps = [json.loads(line) for line in path.read_text().splitlines()]
        for step in steps:
            if type(step["seconds"]) not in (int, float) or not 0 <= step["seconds"] < math.inf:
                raise ValueError("a step took what is no number of seconds")
        return run_folder.stage_seconds(io.read_json(told), steps)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        ranks.warn(f"{path} is damaged ({error}); the table leaves out the time of this run.")
        return {}


# ---- What would go wrong once a cell's turn comes ----


def check_cells(
    cells: Cells,
    words: Mapping[Point, Sequence[str]],
    folder: Path,
    accelerator: Accelerator,
    finished: Mapping[str, Path] | None = None,
) -> None:
    """Refuse what any cell would refuse when its turn comes; every data set is opened once.

    Left out are cells that open a set which another cell of the sweep in `folder` has yet to make.
    `finished` is the folder of a finished cell by the settings of its data, whose images have to be
    the same. Of cells that differ in their seed alone, and are not begun, one is checked.
    """
    open_once, checked = _opener(), set[str]()
    # Those that test first: their data, which are opened with the test split, do for the others.
    order = sorted(cells.items(), key=lambda cell: (repr(cell[1].data), not cell[1].evaluate.rows))
    for point, recipe in order:
        try:
            if recipe.follows_experts:
                _check_experts(recipe, words.get(point, ()))
            if (beside := (finished or {}).get(repr(recipe.data))) is not None:
                read = partial(open_once, recipe.data, bool(recipe.evaluate.rows))
                train = runtime.main_first(accelerator, read).train
                require_same_data(_told(beside), train, beside)
            place, alike = cell_folder(folder, point), repr(replace(recipe, seed=0))
            if alike in checked and not place.exists():
                continue
            checked.add(alike)
            if not any(_yet_to_make(Path(name), folder) for name in recipe.opened_sets.values()):
                check_run(recipe, place, trainings=folder / "trainings", open_data=open_once)
        except InputError as error:
            raise InputError(f"cell {'/'.join(point)}: {error}") from error


def _yet_to_make(path: Path, folder: Path) -> bool:
    """Whether a set is one of the sweep in `folder`, and not there."""
    made = any((place / PROVENANCE).is_file() for place in (path, path / run_folder.SET))
    return path.resolve().is_relative_to(folder.resolve()) and not made


def _opener() -> OpenData:
    """`open_used`, which remembers the data that it opened last."""
    last: dict[str, Opened] = {}

    def open_once(data: Data, tests: bool) -> Opened:
        if (key := repr(data)) not in last:
            last.clear()
            last[key] = open_used(data, tests)
        return last[key]

    return open_once


def _check_experts(recipe: Recipe, words: Sequence[str]) -> None:
    try:
        open_experts(recipe.asked_experts)
    except InputError as error:
        command = shlex.join(["latentdc", "experts", *words])
        raise InputError(f"{error} Here that is: {command}") from error


# ---- One scoring for all cells that ask the same scorer, whatever they keep by it ----


def _share_scores(
    recipe: Recipe, others: Iterable[Recipe], folder: Path, accelerator: Accelerator
) -> Path | None:
    """Score by all rules that the sweep asks this recipe's scorer for, unless that is done.

    Another process that scores the same is waited for. Returns the folder of the scores; None where
    the cell needs none.
    """
    home = _scores_folder(recipe, folder)
    if home is None:
        return None
    alike = [one.prune for one in others if _scores_folder(one, folder) == home]
    columns = dict.fromkeys(name for prune in alike for name in (prune.score, *prune.columns))
    train, test = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
    with locks.locked(home.with_suffix(".scoring"), wait=True):
        score_dataset(
            train,
            replace(recipe.prune, columns=list(columns)),
            test,
            normalization=plain_preprocessing(recipe.data, train),
            seed=recipe.seed,
            accelerator=accelerator,
            folder=home,
        )
    return home


def _scores_folder(recipe: Recipe, folder: Path) -> Path | None:
    """Where the scores behind a recipe's core set lie in a sweep; None where it needs none."""
    prune = recipe.prune
    given = prune.coreset is not None or prune.scores is not None
    if given or recipe.objective.kind == "mtt" or (prune.keeps_all and not prune.columns):
        return None
    scored = {key: value for key, value in facts_of(prune).items() if key not in _CHOICE}
    facts = {"data": facts_of(recipe.data), "scored": scored, "seed": recipe.seed}
    return folder / "scores" / io.fingerprint({**facts, "precision": recipe.precision}, digits=8)
