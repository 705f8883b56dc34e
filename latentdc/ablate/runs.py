"""The runs of an ablation, a sweep along one axis, and their one table."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from latentdc.evaluate.render import to_markdown, to_text
from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.recipe import Recipe
from latentdc.sweep import finished
from latentdc.sweep.run import carry_out


def compare(recipes: Mapping[str, Recipe], name: str, folder: Path) -> Table | None:
    """Carry out, or continue, all variants; finished ones are not run again.

    Args:
        recipes: by variant; those that score images alike share the scores.
        name: of the recipe that they vary.
        folder: of the ablation: a run folder per variant, the rows of all trainings, and at the
            end `results.json` and `table.md`.

    Returns:
        The distilled row of each variant above the baselines, or None where nothing is evaluated.

    Raises:
        InputError: what only the data or the weights show to be wrong with a variant.
        RunError: a run broke.
    """
    carry_out({(variant,): recipe for variant, recipe in recipes.items()}, name, folder)
    found = {variant: finished.table(folder / variant) for variant in recipes}
    tables = {variant: table for variant, table in found.items() if table is not None}
    if not tables:
        return None
    joint = _join(tables)
    if PartialState().is_main_process:
        joint.save(folder / "results.json")
        _write(folder / "table.md", to_markdown(joint) + "\n")
        print(f"\n{to_text(joint)}\n\nresults: {folder / 'results.json'}")
    return joint


def _join(tables: Mapping[str, Table]) -> Table:
    """The variants' distilled rows, then the first one's baselines."""
    first = next(iter(tables.values()))
    scores: dict[str, Score] = {
        variant: table.scores["distilled"]
        for variant, table in tables.items()
        if "distilled" in table.scores
    }
    scores |= {row: score for row, score in first.scores.items() if row != "distilled"}
    return replace(first, scores=scores)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
