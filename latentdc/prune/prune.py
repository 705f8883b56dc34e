"""Which images are kept: scores -> table -> rows -> core set."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import arguments, io, ranks, runtime, training
from latentdc.data.dataset import Dataset, different_rows
from latentdc.errors import InputError
from latentdc.modes import in_plain_modes, precision_of
from latentdc.preprocessing import Unwhitened
from latentdc.prune import select
from latentdc.prune.coreset import Coreset
from latentdc.prune.features import FEATURES, read_features
from latentdc.prune.foreign import read_scores
from latentdc.prune.rules.sampling import random_scores
from latentdc.prune.rules.sets import require_few, require_few_groups
from latentdc.prune.score import PASSES, Scoring, check_arguments, scored
from latentdc.prune.score_table import ScoreTable
from latentdc.prune.scorers import given_scorer
from latentdc.recipe import Prune
from latentdc.recipe.identity import file_digest
from latentdc.recipe.rules import RULES


@in_plain_modes
def prune_dataset(
    train: Dataset,
    prune: Prune,
    test: Dataset | None = None,
    *,
    normalization: Unwhitened | None = None,
    seed: int = 0,
    folder: Path | None = None,
    accelerator: Accelerator | None = None,
    on_step: training.OnStep | None = None,
) -> Coreset:
    """The core set of a training split: a saved one that fits it, or a new one.

    Args:
        train: images to choose from.
        prune: rule, budget and scorer.
        test: shows whether the scorer is any good, and chooses nothing; None takes `train`.
        normalization: of the images, unless the scorer has its own; None takes the default.
        seed: of all draws.
        folder: keeps the scores (`scores.parquet`, `features.npy`), and continues a killed scoring.
        accelerator: device, precision and processes; None makes one.
        on_step: is told `epoch`, `step` and `loss` of each step of the scorer's training, on every
            process, of its share of the batch; what it raises ends the scoring.

    Raises:
        InputError: a class without images, a rule, budget, scorer or file that cannot be used, or
            a scorer at chance.
        RunError: losses that are not finite.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> scorer = latentdc.Scorer(network="convnet3@8", epochs=2, lr=0.1)
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(keep=0.5, scorer=scorer), test)
        >>> coreset
        Coreset(718 of 'digits train', 10 classes, by loss, easy)
        >>> kept = train.select(coreset.indices(train))
        >>> len(kept)
        718
    """
    scoring = Scoring(train, prune, test, normalization, seed, folder, accelerator, on_step)
    if prune.coreset is not None:
        return Coreset.load(Path(prune.coreset), train)
    if prune.keeps_all:
        if prune.columns:
            scored(scoring)
        return Coreset.whole(train, prune.order)
    _check_budget(prune, train)
    table = scored(scoring)
    seed = scoring.seed

    def chosen() -> Coreset:
        inputs = _inputs_of(prune, train, precision_of(scoring.accelerator), table)
        return replace(_chosen(table, train, prune, seed), inputs=inputs)

    return runtime.main_alone(scoring.accelerator, chosen)


@in_plain_modes
def choose_coreset(table: ScoreTable, train: Dataset, prune: Prune, *, seed: int = 0) -> Coreset:
    """The core set that a rule chooses by scores that are there already.

    Of exact repeats the first alone is scored, counted and kept, unless everything is (`keep=1`).

    Args:
        table: scores, in any order, with the column of the rule or what it chooses by.
        train: the images they are of.
        prune: rule and budget; scorer and files are of no account here.
        seed: of draws, where the rule makes any.

    Raises:
        InputError: scores of other images, a class without images, no such column or features, or
            an impossible budget.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> scorer = latentdc.Scorer(network="convnet3@8", epochs=2, lr=0.1)
        >>> table = latentdc.score_dataset(train, latentdc.Prune(scorer=scorer), test)
        >>> [len(latentdc.choose_coreset(table, train, latentdc.Prune(keep=k))) for k in (0.1, 0.5)]
        [142, 718]
    """
    arguments.require_a(ScoreTable, table, "table", "such as score_dataset(train, Prune())")
    seed = check_arguments(train, prune, seed)
    return _chosen(table.fitted(train), train, prune, seed)


def _chosen(table: ScoreTable, train: Dataset, prune: Prune, seed: int) -> Coreset:
    """See `choose_coreset`; the table is in the order of `train`."""
    every = prune.keeps_all
    rows = torch.arange(len(train)) if every else different_rows(train.hashes, train.labels)
    for key in (train.labels, train.hashes):  # equals are told apart by content, not by position
        rows = rows[key[rows].argsort(stable=True)]
    table = table.select(rows)
    scores, choice = _choice(table, prune, seed)
    if RULES[prune.score].stage == "groups":
        chosen = _groups(table, prune, seed, train.counts)
    else:
        chosen = select.choose_rows(choice, table.labels, prune, train.counts)
    chosen = chosen[rows[chosen].argsort()]
    name, order = prune.score, prune.order
    if RULES[name].chooses:
        order = "middle" if name == "moderate" else "easy"
    return Coreset(
        hashes=table.hashes[chosen],
        scores=scores[chosen],
        labels=table.labels[chosen],
        class_names=train.class_names,
        rule=name,
        order=order,
        keep=prune.keep if prune.count is None else len(chosen) / len(train),
        dataset=train.name,
    )


def _choice(table: ScoreTable, prune: Prune, seed: int) -> tuple[Tensor, select.Choice]:
    """(N,) scores to note of the samples, and how the rule chooses among any of them."""
    rule = RULES[prune.score]
    if not rule.chooses:
        hardness = table.hardness(prune.score)
        return table.column(prune.score), select.best_first(hardness, prune.order)
    features, base = table.features, prune.base_of(prune.score)
    # What looks at features alone needs no hardness.
    hardness = torch.zeros(len(table)) if base is None else table.hardness(base)
    draws = random_scores(table.hashes, seed)
    if rule.needs_features and features is None:
        raise InputError(
            "this rule chooses among features, and the scores come without: keep features.npy "
            "beside the scores, or name a file with prune.features."
        )

    def choose(rows: Tensor, count: int) -> Tensor:
        seen = {
            "count": count,
            "hardness": hardness[rows],
            "draws": draws[rows],
            "features": features and features.select(rows),
        }
        chosen: Tensor = rows[rule(asdict(prune.rules) | seen)]
        return chosen

    return hardness, choose


def _groups(table: ScoreTable, prune: Prune, seed: int, every: list[int]) -> Tensor:
    """(M,) ascending rows that a rule chooses of all classes at once; `every` of `most_kept`."""
    rows, names = select.class_rows(table.labels), table.class_names
    by_content = [own[table.hashes[own].argsort(stable=True)] for own in rows]
    counts = select.class_budgets([len(own) for own in rows], prune, every)
    seen = {
        "features": table.features,
        "members": dict(zip(names, by_content, strict=True)),
        "counts": dict(zip(names, counts, strict=True)),
        "seed": seed,
    }
    chosen: Tensor = RULES[prune.score](asdict(prune.rules) | seen)
    return chosen.sort().values


def check_pruning(scoring: Scoring) -> None:
    """Refuse budgets, and given scores, features or weights, that a choice cannot be made by."""
    train, prune = scoring.train, scoring.prune
    if prune.coreset is None and not prune.keeps_all:
        _check_budget(prune, train)
        if prune.scores is not None:
            read_scores(Path(prune.scores), train, prune.base_of(prune.score) or prune.score)
        if prune.features is not None:
            read_features(Path(prune.features), len(train))
        if prune.scorer.weights is not None and _asks_network(prune, train):
            given_scorer(prune.scorer, train, scoring.input_normalization)


def _check_budget(prune: Prune, train: Dataset) -> None:
    """Refuse a budget that this data set does not allow, and say where classes are saved."""
    sizes, every = train.different_counts(), train.counts
    kept = select.most_kept(sizes, prune, every)
    if prune.score == "s3":
        require_few_groups(prune.rules.groups, len(sizes))
    if prune.score == "gist":
        pairs = list(zip(sizes, kept, strict=True))
        if prune.scope == "global":
            pairs = [(sum(sizes), select.total_budget(sizes, prune, every))]
        for size, count in pairs:
            require_few(size, count)
    if prune.scope == "class" and prune.count is None:
        if saved := sum(round(prune.keep * size) < 1 for size in sizes if size):
            ranks.note(
                f"prune.keep={prune.keep} would leave {saved} of {len(sizes)} classes empty; each "
                "of them keeps its one best image.",
            )


def _inputs_of(
    prune: Prune, train: Dataset, precision: str | None, table: ScoreTable | None = None
) -> dict[str, str]:
    """Hash of what lies at the paths that a choice looks at, by key; those that are gone have none.

    Of a file of scores the columns of the rule count, in no order; `table` is what was read of it.
    The precision stands beside them where a network's outputs decide; None leaves it out.
    """
    rule, weights, found = RULES[prune.score], prune.scorer.weights, {}
    if precision is not None and _asks_network(prune, train):
        found["precision"] = precision
    if prune.scores is not None and Path(prune.scores).is_file():
        ranks_by = prune.base_of(prune.score) or prune.score
        table = table or read_scores(Path(prune.scores), train, ranks_by)
        named = {name: table.columns.get(name) for name in (prune.score, ranks_by)}
        columns = {}
        for name, column in named.items():
            if column is not None:
                order = column.argsort(stable=True)
                order = order[table.hashes[order].argsort(stable=True)]
                columns[name] = [table.hashes[order], column[order]]
        beside = Path(prune.scores).with_name(FEATURES)
        own = rule.needs_features and prune.features is None and beside.is_file()
        found["prune.scores"] = io.fingerprint([columns, file_digest(str(beside)) if own else None])
    elif weights is not None and Path(weights).is_file():
        found["prune.scorer.weights"] = file_digest(weights)
    if rule.needs_features and prune.features is not None and Path(prune.features).is_file():
        found["prune.features"] = file_digest(prune.features)
    return found


def _asks_network(prune: Prune, train: Dataset) -> bool:
    """Whether a choice depends on what a network says of the images now."""
    rules = RULES[prune.score], RULES[prune.base_of(prune.score) or prune.score]
    given = prune.features is not None or train.kind == "vectors"
    return prune.scores_images and any(
        rule.stage in PASSES | {"subsets"} or (rule.needs_features and not given) for rule in rules
    )


def keep_coreset(path: Path, coreset: Coreset, train: Dataset) -> None:
    """Write a run's core set, and of which training images it is, where it has none yet."""
    if not path.exists():
        replace(coreset, data_hash=train.hash).save(path)


def kept_coreset(path: Path, train: Dataset, prune: Prune, precision: str | None) -> Coreset:
    """The core set of a run that goes on, with the data and the file that it began with.

    `precision` is the run's, None where others chose the core set.

    Raises:
        InputError: as `Coreset.load`, or images were added or exchanged since, or `prune.coreset`
            or a file that it was chosen by has become another one, or a network scored the images
            in another precision.
    """
    kept, given = Coreset.load(path, train), prune.coreset
    advice = "give this run a folder of its own with output=..."
    whole = given is None and kept.rule == "all"
    if kept.data_hash is None and whole and len(kept) < len(train):  # of an earlier version
        raise InputError(
            f"{path} holds all {len(kept)} images that {train.name} had as the run began, and it "
            f"has {len(train)} now; {advice}"
        )
    if kept.data_hash not in (None, train.hash):
        raise InputError(
            f"{path} was kept of other training images (hash {kept.data_hash}) than the "
            f"{len(train)} that {train.name} has now ({train.hash}); {advice}"
        )
    now = {} if given is not None or not kept.inputs else _inputs_of(prune, train, precision)
    for key, name in now.items():
        known = kept.inputs.get(key, name)
        if known != name and key == "precision":
            raise InputError(
                f"{path} was chosen by scores in precision {known!r}, and this run has {name!r}; "
                f"launch as before, or {advice}, and prune.coreset={path} to keep the choice."
            )
        if known != name:
            raise InputError(
                f"{key} names a file of other contents than the one that {path} was chosen by; "
                f"bring that back, or {advice}"
            )
    if given is None or not Path(given).is_file():
        return kept
    one, other = (_named(each) for each in (kept, Coreset.load(given)))
    if one != other:
        raise InputError(
            f"prune.coreset={given} holds other images, or other labels of them, than {path} does; "
            f"{advice}"
        )
    return kept


def _named(coreset: Coreset) -> set[tuple[int, str]]:
    """Content hash and class name of each sample."""
    names = [coreset.class_names[label] for label in coreset.labels.tolist()]
    return set(zip(coreset.hashes.tolist(), names, strict=True))
