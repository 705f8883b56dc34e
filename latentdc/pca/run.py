"""A PCA run: its sets, and one table of them under two ways to crop."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from latentdc import launch, ownership
from latentdc.data.open import open_splits
from latentdc.data.preprocessing import preprocessing
from latentdc.evaluate import results
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.render import to_markdown, to_text
from latentdc.evaluate.table import Table, score_table
from latentdc.pca.sets import Sets
from latentdc.pca.variants import Variant
from latentdc.recipe import Recipe
from latentdc.whitening import Whitening


def run(
    recipe: Recipe,
    name: str,
    folder: Path,
    variants: Mapping[str, Variant],
    protocols: Mapping[bool, EvalProtocol],
) -> list[Table]:
    """Make what is missing of the sets, score them, print and keep one table.

    Args:
        recipe: resolved (see `variants.resolved`).
        name: of the recipe.
        folder: of the run.
        variants: wanted rows.
        protocols: with crops of whole images, and inside cells (`True`).

    Returns:
        A table for each of the two that is needed; empty where nothing is evaluated.

    Raises:
        InputError: what only the data or the weights show to be wrong.
        RunError: a training diverged.
    """
    accelerator = launch.start(
        threads=recipe.threads, precision=recipe.precision, processes=recipe.processes
    )
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    normalization = launch.main_first(accelerator, lambda: preprocessing(recipe.data, train))
    if accelerator.is_main_process:
        ownership.claim(recipe, folder)
    accelerator.wait_for_everyone()
    maker = Sets(recipe, name, folder, train, test, accelerator)
    sets = {kind: maker.make(kind) for kind in dict.fromkeys(v.folder for v in variants.values())}
    if isinstance(normalization, Whitening):
        sets = {kind: replace(made, whitening=normalization) for kind, made in sets.items()}
    if accelerator.is_main_process:
        for kind in sets:
            print(f"set: {folder / kind} (picture: {folder / kind / 'grid.png'})")
    coreset = None
    if (folder / ownership.CORESET).is_file():
        coreset = train.select(maker.coreset().indices(train))
    tables: list[Table] = []
    for confined, protocol in protocols.items():
        rows = {row: sets[v.folder] for row, v in variants.items() if v.confined == confined}
        if not rows or not recipe.evaluate.rows:
            continue
        # Real images look the same under both ways to crop, so that their rows are said once.
        include = ["distilled"] if tables else recipe.evaluate.rows
        tables.append(
            score_table(
                rows,
                train,
                test,
                protocol,
                ipc=recipe.ipc,
                normalization=normalization,
                coreset=coreset,
                include=include,
                rows=folder / "rows",
                accelerator=accelerator,
            )
        )
    if tables and accelerator.is_main_process:
        results.merge(folder / results.NAME, tables)
        _write(folder / "table.md", to_markdown(*tables) + "\n")
        print(f"\n{to_text(*tables)}\n\nresults: {folder / results.NAME}")
    accelerator.end_training()
    return tables


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
