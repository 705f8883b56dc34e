"""What a run leaves for people: its set, grid, table, and a copy on the Hub."""

import filecmp
import os
import shutil
from pathlib import Path

from latentdc.distill.ended import SET, kept_set, same_samples
from latentdc.distill.provenance import shared_recipe
from latentdc.recipe import Recipe
from latentdc.results.result import RESULTS, Result, save, to_json
from latentdc.results.tables import to_text
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.push import push_folder

GRID = "grid.png"


def keep(made: SyntheticSet, recipe: Recipe, folder: Path) -> None:
    """Write the set of a run, before it is evaluated.

    Where the same one is there it stays as it is, with the results of its former evaluation.
    """
    kept = kept_set(folder)
    if kept is None or not same_samples(kept, made):
        made.save_pretrained(folder / SET, recipe=shared_recipe(recipe))
    if made.kind == "images":
        _copy(folder / SET / GRID, folder / GRID)


def publish(made: SyntheticSet, results: list[Result], recipe: Recipe, folder: Path) -> None:
    """Write and print the table, name the files, push the set if the recipe asks for it."""
    if results:
        save(folder / RESULTS, results)
        made.save_pretrained(folder / SET, recipe=shared_recipe(recipe), results=to_json(results))
        print(f"\n{to_text(results)}\n")
        print(f"results: {folder / RESULTS}")
    if made.kind == "images":
        print(f"grid: {folder / GRID}")
    if recipe.push.repo is not None:
        url = push_folder(folder / SET, recipe.push.repo, private=recipe.push.private)
        print(f"pushed: {url}")


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all; the same picture is left untouched."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return
    part = target.with_name(target.name + ".part")
    shutil.copyfile(source, part)
    os.replace(part, target)
