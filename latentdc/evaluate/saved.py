"""Score saved sets by a recipe's data: the work of `python -m latentdc.evaluate`."""

import json
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from latentdc import launch
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.data.preprocessing import preprocessing
from latentdc.evaluate import results
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.render import to_text
from latentdc.evaluate.sources import Opened, Place, open_set, row_names
from latentdc.evaluate.table import Table, score_table
from latentdc.images import Normalization, Preprocessing
from latentdc.ownership import CORESET
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Recipe


def score_saved(
    places: Sequence[Place],
    recipe: Recipe,
    protocols: Sequence[EvalProtocol],
    output: Path,
    labels: Path | None = None,
) -> None:
    """Score sets and the recipe's other rows under protocols, print one table and keep the scores.

    Args:
        places: where the sets lie.
        recipe: its data, rows and launch settings are used.
        protocols: each scores every set.
        output: gets `evaluation.json`, the finished trainings in `rows/` and stored soft labels.
        labels: a folder of stored soft labels of one of the sets; None makes them.
    """
    accelerator = launch.start(
        threads=recipe.threads, precision=recipe.precision, processes=recipe.processes
    )
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    opened = {
        name: open_set(place, train, recipe.data)
        for name, place in zip(row_names(places), places, strict=True)
    }
    tables = [
        _table(group, recipe, protocol, train, test, places[0], output, labels, accelerator)
        for protocol in protocols
        for group in _alike(opened, recipe)
    ]
    if accelerator.is_main_process:
        results.merge(output / results.NAME, tables)
        print(f"\n{to_text(*tables)}\n\nresults: {output / results.NAME}")


def _alike(opened: dict[str, Opened], recipe: Recipe) -> list[dict[str, Opened]]:
    """Sets that share budget, random rows, preprocessing and learning rate, group by group."""
    groups: dict[str, dict[str, Opened]] = {}
    for name, one in opened.items():
        zca = one.whitening.facts() if recipe.data.zca and one.whitening is not None else None
        rate = one.learned_lr if recipe.evaluate.learned_lr else None
        key = json.dumps([_counts(one), zca, rate])
        groups.setdefault(key, {})[name] = one
    return list(groups.values())


def _counts(one: Opened) -> list[int]:
    """Images of each class."""
    classes = len(one.labelled.class_names)
    return one.labelled.labels.bincount(minlength=classes).tolist()


def _table(
    group: dict[str, Opened],
    recipe: Recipe,
    protocol: EvalProtocol,
    train: Dataset,
    test: Dataset,
    place: Place,
    output: Path,
    labels: Path | None,
    accelerator: Accelerator,
) -> Table:
    """Sets that are alike, and their baselines, under one protocol."""
    one, wanted = next(iter(group.values())), recipe.evaluate
    counts = _counts(one)
    if wanted.learned_lr:
        protocol = protocol.with_learned_lr(one.learned_lr)
    return score_table(
        {name: member.labelled for name, member in group.items()},
        train,
        test,
        protocol,
        ipc=-(-sum(counts) // len(counts)),
        counts=counts,
        normalization=_preprocessing(recipe, one, train, accelerator),
        coreset=_coreset(recipe, place, train),
        include=wanted.rows or ("distilled", "random"),
        seen=recipe.objective.network,
        rows=output / "rows",
        labels=labels,
        accelerator=accelerator,
    )


def _preprocessing(
    recipe: Recipe, one: Opened, train: Dataset, accelerator: Accelerator
) -> Preprocessing:
    """The recipe's, its whitening as the set brings it where it does."""
    zca, plain = one.whitening, Normalization(recipe.data.mean, recipe.data.std)
    if recipe.data.zca and zca is not None and zca.normalization == plain:
        return zca
    return launch.main_first(accelerator, lambda: preprocessing(recipe.data, train))


def _coreset(recipe: Recipe, place: Place, train: Dataset) -> Dataset | None:
    """The training images that the run kept, None where nothing says which."""
    if recipe.prune.keeps_all and recipe.prune.coreset is None:
        return train
    named = recipe.prune.coreset
    path = place.run / CORESET if named is None else Path(named)
    return train.select(Coreset.load(path).indices(train)) if path.is_file() else None
