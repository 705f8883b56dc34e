"""The runs of a sweep, of which the missing ones alone are carried out."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accelerate import Accelerator

from latentdc import runtime
from latentdc.io import InUse, locked
from latentdc.recipe import Recipe
from latentdc.run import run
from latentdc.run_folder import check_folder
from latentdc.sweep import finished
from latentdc.sweep.budgets import check_budgets
from latentdc.sweep.cells import Cells, place, runs
from latentdc.sweep.scores import share_scores
from latentdc.sweep.spec import Point


def carry_out(cells: Cells, name: str, folder: Path, *, every: Cells | None = None) -> None:
    """Carry out, or continue, all cells; finished ones are not run again.

    Several commands may work on one sweep at a time: each takes cells that no other one holds, and
    waits at the end for those that are left. One that is killed lets go of its cell.

    Args:
        cells: wanted ones.
        name: of the sweep, for the provenance of its sets.
        folder: of the sweep: run folders of the cells, their common scores, and the rows of all
            trainings, so that no student is trained twice.
        every: all cells of the sweep, which are scored for together; None means `cells`.

    Raises:
        InputError: what only the data or the weights show to be wrong with a cell.
        RunError: a run broke.
    """
    every = every or cells
    first = next(iter(cells.values()))
    accelerator = runtime.start(
        threads=first.threads, precision=first.precision, processes=first.processes
    )
    home = runs(every, folder)
    points = list(dict.fromkeys(home[point] for point in cells))
    missing = [p for p in points if not _done(every[p], place(folder, p), accelerator)]
    check_budgets({point: every[point] for point in missing}, accelerator)
    for wait in (False, True):
        for number, point in enumerate(points, start=1):
            target = place(folder, point)
            with _held(target, wait, accelerator) as held:
                if not held or _done(every[point], target, accelerator):
                    continue
                accelerator.print(f"\n== {'/'.join(point)} ({number} of {len(points)})", flush=True)
                _carry_out(every[point], point, name, folder, every, accelerator)


def _carry_out(
    recipe: Recipe,
    point: Point,
    name: str,
    folder: Path,
    every: Mapping[Point, Recipe],
    accelerator: Accelerator,
) -> None:
    target = place(folder, point)
    check_folder(recipe, target)
    scores = share_scores(recipe, every.values(), folder, accelerator)
    title = "_".join((name, *map(str, place(Path(), point).parts)))
    run(recipe, title, target, rows=folder / "rows", scores=scores)
    if accelerator.is_main_process:
        finished.mark(recipe, target)
    accelerator.wait_for_everyone()


def _done(recipe: Recipe, target: Path, accelerator: Accelerator) -> bool:
    return bool(runtime.main_alone(accelerator, lambda: finished.is_finished(recipe, target)))


@contextmanager
def _held(target: Path, wait: bool, accelerator: Accelerator) -> Iterator[bool]:
    """Hold a cell against other commands, or find that one of them has it."""
    held = True
    with ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                stack.enter_context(locked(target, wait=wait))
            except InUse:
                held = False
        yield bool(runtime.broadcast(accelerator, held))
