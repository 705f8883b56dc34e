"""Score saved sets by a recipe: the work of `python -m latentdc.evaluate`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from latentdc import io, modes, ranks, run_folder, runtime
from latentdc.data.dataset import Dataset
from latentdc.data.open import preprocessing
from latentdc.errors import InputError
from latentdc.evaluate.baselines import with_baselines
from latentdc.evaluate.class_numbers import check_numbers, open_classifier
from latentdc.evaluate.evaluate import check_sets, score_sets
from latentdc.evaluate.setting import Setting, open_setting, require_comparable
from latentdc.evaluate.teachers import require_given_teachers
from latentdc.preprocessing import Preprocessing
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Prune, Recipe
from latentdc.recipe.protocol import EvalProtocol
from latentdc.results.result import EVALUATION, Results, merge
from latentdc.results.tables import to_text
from latentdc.synthetic.open import SetSource, open_set, row_names, tell_whitening
from latentdc.synthetic.synthetic_set import SyntheticSet

_OF_CORESET = ("coreset", "kept")  # rows


@modes.precision_put_back()
def score_saved(
    sources: Sequence[SetSource],
    recipes: Sequence[Recipe],
    protocols: Sequence[EvalProtocol],
    output: Path,
    labels: Path | None = None,
) -> None:
    """Score sets and the first recipe's other rows under protocols, print and keep the scores.

    Args:
        sources: where the sets lie.
        recipes: of the runs that they come from; data, rows and launch settings are the first's.
        protocols: each scores every set.
        output: gets `evaluation.json`, finished trainings and stored soft labels.
        labels: as of `score_sets`.
    """
    recipe = recipes[0]
    setting, train = open_setting(recipe.data, recipe.launch, output)
    opened = {
        name: open_set(source, train, recipe.data)
        for name, source in zip(row_names(sources), sources, strict=True)
    }
    scorer = recipe.prune.scorer
    classifier = partial(open_classifier, recipe.data, scorer, protocols, train, setting)
    check_numbers(opened, setting, classifier)
    sets = {
        name: _with_network(one, source, own)
        for (name, (one, _)), source, own in zip(opened.items(), sources, recipes, strict=True)
    }
    _check_made(sets, sources, recipe, setting.test)
    coreset, wanted = None, list[str](recipe.evaluate.rows)
    rows = [row for row in ("distilled", "random") if row not in wanted] + wanted
    if not set(_OF_CORESET).isdisjoint(rows):
        coreset, unshared = _shared_core(sources, recipes, train)
        if unshared is not None:
            for row in set(rows) & set(_OF_CORESET):
                ranks.warn(f"the row {row!r} is left out: {unshared}.")
            rows = [row for row in rows if row not in _OF_CORESET]
    jobs = []
    for protocol in protocols:
        for group in _alike(sets, recipe):
            one, scored = next(iter(group.values())), protocol
            if recipe.evaluate.learned_lr:
                scored = protocol.with_learned_lr(one.learned_lr)
            counts = one.counts
            rows_too = with_baselines(group, rows, counts, train=train, coreset=coreset)
            seen = replace(setting, normalization=_preprocessing(recipe, one, train, setting))
            jobs.append((rows_too, scored, seen, -(-sum(counts) // len(counts))))
    for protocol in protocols[1:]:  # the first is checked as it begins
        require_given_teachers(protocol, setting)
    for each, scored, seen, ipc in jobs[1:]:
        check_sets(each, scored, seen, ipc=ipc, labels=labels)
    results = Results()
    for each, scored, seen, ipc in jobs:
        results += score_sets(each, scored, seen, ipc=ipc, labels=labels)
    if setting.accelerator.is_main_process:
        merge(output / EVALUATION, results)
        print(f"\n{to_text(results)}\n\nresults: {output / EVALUATION}")


def _with_network(one: SyntheticSet, source: SetSource, recipe: Recipe) -> SyntheticSet:
    """A set with the networks of its making, which those of earlier versions do not tell."""
    method = one.provenance.get("method")
    if source.is_core or method not in (None, recipe.method.kind):
        return one
    facts: dict[str, object] = {}
    if method is None and recipe.matches:
        facts["network"] = recipe.objective.network
    if recipe.asks_classifier:
        facts["classifier"] = one.provenance.get("classifier", recipe.prune.scorer.network)
    return replace(one, provenance={**one.provenance, **facts})


def _check_made(
    sets: dict[str, SyntheticSet], sources: Sequence[SetSource], recipe: Recipe, test: Dataset
) -> None:
    """Refuse sets of other classes or sizes, or without the learned rate that is asked for.

    Another whitening is told.
    """
    for (name, one), source in zip(sets.items(), sources, strict=True):
        require_comparable(one, test, name)
        if recipe.evaluate.learned_lr and one.learned_lr is None:
            raise InputError(
                f"evaluate.learned_lr is set, but the set {name} has no learned lr; score it with "
                "evaluate.learned_lr=false, apart from those that have one."
            )
        if source.kind is None and not source.is_core:
            tell_whitening(name, one.whitening is not None, recipe.data)


def _alike(opened: dict[str, SyntheticSet], recipe: Recipe) -> list[dict[str, SyntheticSet]]:
    """Sets that share budget, random rows, preprocessing and learning rate, group by group."""
    groups: dict[str, dict[str, SyntheticSet]] = {}
    for name, one in opened.items():
        zca = one.whitening.facts() if recipe.data.zca and one.whitening is not None else None
        rate = one.learned_lr if recipe.evaluate.learned_lr else None
        key = io.fingerprint([one.counts, zca, rate])
        groups.setdefault(key, {})[name] = one
    return list(groups.values())


def _preprocessing(
    recipe: Recipe, one: SyntheticSet, train: Dataset, setting: Setting
) -> Preprocessing:
    """The recipe's, its whitening as the set brings it where it does."""
    zca = one.whitening
    if recipe.data.zca and zca is not None and zca.normalization == setting.normalization:
        return zca
    return runtime.main_first(setting.accelerator, lambda: preprocessing(recipe.data, train))


def _shared_core(
    sources: Sequence[SetSource], recipes: Sequence[Recipe], train: Dataset
) -> tuple[Dataset | None, str | None]:
    """The training images that all runs kept, or None and why there are none.

    Core sets that are scored themselves and sets of others have a say only among themselves.
    """
    pairs = list(zip(sources, recipes, strict=True))
    runs = [(p, r) for p, r in pairs if p.kind is None and not p.is_core] or pairs
    kept = [_kept(source, recipe.prune, train) for source, recipe in runs]
    if len({None if one is None else one.numpy().tobytes() for one in kept}) > 1:
        return None, "the runs of the sets kept different images; evaluate each set alone"
    first = kept[0]
    if first is None:
        return None, None
    return (train if len(first) == len(train.labels) else train.select(first)), None


def _kept(source: SetSource, prune: Prune, train: Dataset) -> Tensor | None:
    """Ascending indices of the training images that a run kept, None where nothing says which."""
    if prune.keeps_all and prune.coreset is None:
        return torch.arange(len(train.labels))
    path = source.run / run_folder.CORESET if prune.coreset is None else Path(prune.coreset)
    return Coreset.load(path).indices(train) if path.is_file() else None
