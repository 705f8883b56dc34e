"""A PCA call: its sets, and one table of them under each protocol and its two ways to crop."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from accelerate import Accelerator

from latentdc import runtime
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits, preprocessing
from latentdc.evaluate.evaluate import evaluate_sets, with_baselines
from latentdc.images import Normalization, Preprocessing, Whitening
from latentdc.pca.plan import Pair
from latentdc.pca.sets import Sets
from latentdc.pca.teacher import trained_teacher
from latentdc.pca.variants import Variant
from latentdc.recipe import Recipe
from latentdc.results.result import EVALUATION, Result, merge
from latentdc.results.tables import to_markdown, to_text
from latentdc.run_folder import CORESET, claim_folder
from latentdc.synthetic import SyntheticSet


@dataclass(frozen=True)
class Made:
    """The sets of one number of images per class, and what they are scored with.

    Attributes:
        sets: by folder.
        coreset: the training images that mosaics are made of; None where none are.
    """

    sets: Mapping[str, SyntheticSet]
    coreset: Dataset | None


def run(
    each: Sequence[tuple[Recipe, Path]],
    name: str,
    folder: Path,
    variants: Mapping[str, Variant],
    pairs: Sequence[Pair],
) -> list[Result]:
    """Make what is missing of the sets, score them, print and keep one table.

    Args:
        each: resolved recipes that differ in ipc alone, and folders of their sets.
        name: of the recipe.
        folder: of scores, finished trainings and results.
        variants: wanted rows.
        pairs: protocols with crops of whole images, and inside cells.

    Returns:
        Of each ipc, protocol and way to crop that is needed; empty where nothing is
        evaluated.

    Raises:
        InputError: what only the data or the weights show to be wrong.
        RunError: a training diverged.
    """
    recipe = each[0][0]
    accelerator = runtime.start(
        threads=recipe.threads,
        precision=recipe.precision,
        processes=recipe.processes,
        folder=folder,
    )
    train, test = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
    normalization = runtime.main_first(accelerator, lambda: preprocessing(recipe.data, train))
    plain = Normalization(recipe.data.mean, recipe.data.std)
    teacher = cache(
        lambda: trained_teacher(recipe.prune.scorer, train, test, plain, recipe.seed, accelerator)
    )
    results: list[Result] = []
    for one, place in each:
        if accelerator.is_main_process:
            claim_folder(one, place)
        accelerator.wait_for_everyone()
        maker = Sets(
            *(one, name, place, train, test),
            teacher=teacher,
            scores=folder,
            accelerator=accelerator,
        )
        made = _made(maker, place, variants, normalization, train, accelerator)
        for pair in pairs if one.evaluate.rows else ():
            results += _evaluate(
                *(one, made, variants, pair, train, test),
                normalization=normalization,
                rows=folder / "rows",
                accelerator=accelerator,
            )
    if results and accelerator.is_main_process:
        merge(folder / EVALUATION, results)
        _write(folder / "table.md", to_markdown(results) + "\n")
        print(f"\n{to_text(results)}\n\nresults: {folder / EVALUATION}")
    accelerator.end_training()
    return results


def _made(
    maker: Sets,
    folder: Path,
    variants: Mapping[str, Variant],
    normalization: Preprocessing,
    train: Dataset,
    accelerator: Accelerator,
) -> Made:
    """The sets that the variants need, made or found."""
    sets: dict[str, SyntheticSet]
    sets = {kind: maker.make(kind) for kind in dict.fromkeys(v.folder for v in variants.values())}
    if isinstance(normalization, Whitening):
        sets = {kind: replace(made, whitening=normalization) for kind, made in sets.items()}
    if accelerator.is_main_process:
        for kind in sets:
            print(f"set: {folder / kind} (picture: {folder / kind / 'grid.png'})")
    kept = (folder / CORESET).is_file()
    return Made(sets, train.select(maker.coreset().indices(train)) if kept else None)


def _evaluate(
    recipe: Recipe,
    made: Made,
    variants: Mapping[str, Variant],
    pair: Pair,
    train: Dataset,
    test: Dataset,
    *,
    normalization: Preprocessing,
    rows: Path,
    accelerator: Accelerator,
) -> list[Result]:
    """Of one ipc under one protocol, for each way to crop that a variant asks for."""
    results: list[Result] = []
    for confined, protocol in pair.items():
        sets = {row: made.sets[v.folder] for row, v in variants.items() if v.confined == confined}
        if not sets:
            continue
        # Real images look the same under both ways to crop, so that their rows are said once.
        include = ["distilled"] if results else recipe.evaluate.rows
        results += evaluate_sets(
            with_baselines(sets, include, recipe.ipc, train=train, coreset=made.coreset),
            test,
            protocol,
            ipc=recipe.ipc,
            normalization=normalization,
            train=train,
            trainings=rows,
            accelerator=accelerator,
        )
    return results


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
