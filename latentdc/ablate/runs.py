"""The runs of an ablation, a sweep along one axis, and their one table."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from latentdc.ablate.variants import VARIANTS
from latentdc.recipe import BASELINES, Recipe
from latentdc.results.result import Result, save
from latentdc.results.tables import to_markdown, to_text
from latentdc.sweep.run import carry_out, cell_results
from latentdc.sweep.spec import Cells


def compare(
    recipes: Mapping[str, Recipe],
    name: str,
    folder: Path,
    given: str,
    overrides: Sequence[str],
) -> list[Result]:
    """Carry out, or continue, all variants; finished ones are not run again.

    Args:
        recipes: by variant; those that score images alike share the scores.
        name: of the recipe that they vary.
        folder: of the ablation: a run folder per variant, the rows of all trainings, and at the
            end `results.json` and `table.md`.
        given: recipe as the user named it.
        overrides: of all variants.

    Returns:
        The distilled row of each variant above the baselines; empty where nothing is evaluated.

    Raises:
        InputError: what only the data or the weights show to be wrong with a variant.
        RunError: a run broke.
    """
    cells: Cells = {(variant,): recipe for variant, recipe in recipes.items()}
    words = {point: [given, *overrides, *VARIANTS[point[0]]] for point in cells}
    carry_out(list(cells), cells, name, folder, words)
    found = {variant: cell_results(folder / variant) for variant in recipes}
    joint = _join({variant: results for variant, results in found.items() if results})
    if joint and PartialState().is_main_process:
        save(folder / "results.json", joint)
        _write(folder / "table.md", to_markdown(joint) + "\n")
        print(f"\n{to_text(joint)}\n\nresults: {folder / 'results.json'}")
    return joint


def _join(found: Mapping[str, list[Result]]) -> list[Result]:
    """The variants' distilled rows, then the first one's baselines."""
    first = next(iter(found.values()), [])
    variants = [
        replace(result, set=variant, seconds=None)
        for variant, results in found.items()
        for result in results
        if result.set not in BASELINES
    ]
    return [
        *variants,
        *(replace(result, seconds=None) for result in first if result.set in BASELINES),
    ]


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
