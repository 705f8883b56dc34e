"""The runs of an ablation and their one table."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from latentdc import ownership
from latentdc.distill.run import run
from latentdc.evaluate.render import to_markdown, to_text
from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.recipe import Recipe


def compare(recipes: Mapping[str, Recipe], name: str, folder: Path) -> Table | None:
    """Carry out, or continue, all variants; finished ones are not run again.

    Args:
        recipes: by variant, the first one giving its core set to those that prune as it does.
        name: of the recipe that they vary.
        folder: of the ablation: a run folder per variant, the rows of all trainings, and at the
            end `results.json` and `table.md`.

    Returns:
        The distilled row of each variant above the baselines, or None where nothing is evaluated.

    Raises:
        InputError: what only the data or the weights show to be wrong with a variant.
        RunError: a run broke.
    """
    tables: dict[str, Table] = {}
    first, unchanged = next(iter(recipes.items()))
    for variant, recipe in recipes.items():
        if PartialState().is_main_process:
            print(f"\n== {variant}", flush=True)
            if variant != first and _same_coreset(recipe, unchanged):
                _hand_over(recipe, folder / first, folder / variant)
        PartialState().wait_for_everyone()
        table = run(recipe, f"{name}_{variant}", folder / variant, rows=folder / "rows")
        if table is not None:
            tables[variant] = table
    if not tables:
        return None
    joint = _join(tables)
    if PartialState().is_main_process:
        joint.save(folder / "results.json")
        _write(folder / "table.md", to_markdown(joint) + "\n")
        print(f"\n{to_text(joint)}\n\nresults: {folder / 'results.json'}")
    return joint


def _same_coreset(recipe: Recipe, other: Recipe) -> bool:
    return all(getattr(recipe, part) == getattr(other, part) for part in ownership.DECIDE_CORESET)


def _hand_over(recipe: Recipe, source: Path, target: Path) -> None:
    """Let a variant begin where a finished pruning left off."""
    if not (target / ownership.CORESET).is_file():
        ownership.claim(recipe, target)
        part = target / f"{ownership.CORESET}.part"
        shutil.copyfile(source / ownership.CORESET, part)
        os.replace(part, target / ownership.CORESET)


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
    part.write_text(text)
    os.replace(part, path)
