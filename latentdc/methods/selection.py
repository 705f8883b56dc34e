"""Selection: images stand for their class as they are, of the core set or of any pool.

With `prune.score=el2n` this is the first step of PCA (Xiao et al., "Unifying Dataset Pruning and
Distillation", https://arxiv.org/abs/2502.06434), which ranks the whole training set by EL2N,
smallest error first, and keeps the same number of each class; here by any rule.

From a pool, such as the images that a generative model made, `latentdc.methods.pools` chooses. A
set that is there already can be filled up: Learnability-Guided Diffusion grows its sets so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.images import as_floats
from latentdc.io import hash_bytes
from latentdc.methods.context import Context, check_call
from latentdc.methods.pools import Candidates, judged, select
from latentdc.modes import in_plain_modes
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.prune.scorers import Classifier
from latentdc.prune.select import Order, ranked
from latentdc.ranks import note
from latentdc.recipe import Selection
from latentdc.recipe.rules import RULES
from latentdc.synthetic.export import tell_left
from latentdc.synthetic.folder import networks_of
from latentdc.synthetic.synthetic_set import SyntheticSet

_CORE_SET = "the core set", "keep more (prune.keep)"  # where candidates lack, and what to do


@in_plain_modes
def selection(
    coreset: Coreset, prior: Prior | None, settings: Selection, context: Context
) -> SyntheticSet:
    """`context.ipc` images of each class, whole: all of `settings.start`, and chosen ones.

    Raises:
        InputError: a class of the pool has fewer, or sets that are not of these classes and sizes.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> context = latentdc.Context(ipc=2, train=train)
        >>> latentdc.selection(coreset, None, latentdc.Selection(), context)
        SyntheticSet(20 images of 8 px, uint8, 10 classes: '0', '1', '2', ...)
    """
    check_call(coreset, settings, Selection, context)
    train, facts = context.real_images(), dict[str, object]()
    rows = coreset.different_indices(train)

    def sizes(rows: Tensor) -> dict[str, int]:
        counts = train.labels[rows].bincount(minlength=train.num_classes).tolist()
        return dict(zip(train.class_names, counts, strict=True))

    start, pool, count = _opened(sizes(rows), settings, context)
    if pool is not None:
        facts = {"pool": Path(settings.pool or "").name, "candidates": len(pool)}
    else:
        left = rows
        if start is not None:
            left = rows[_different(SyntheticSet.from_real(train), rows, start)]
            _require_enough(sizes(left), count, _CORE_SET, context.ipc)
        if settings.select.kind is None:
            left = best_rows(coreset, train, count, rows=left).flatten()
        pool = SyntheticSet.from_real(train.select(left))
    chosen = _chosen(pool, rows, start, count, settings, context)
    if start is not None or len(chosen) < len(pool):
        tell_left(chosen, "learned_lr", why="it was learned for all images of the pool together")
        chosen = replace(chosen, learned_lr=None)
    if start is not None:
        facts["start"] = Path(settings.start or "").name
        chosen = _joined(start, chosen)
    of = [networks_of(one.provenance) for one in (start, pool) if one is not None]
    if networks := sorted(set().union(*of)):
        facts["networks"] = networks
    return replace(chosen.as_stored(), provenance=facts)


def check_selection(
    counts: Mapping[str, int], prior: Prior | None, settings: Selection, context: Context
) -> None:
    """Refuse sets that are not there, do not join or are too small, before anything is scored."""
    _opened(counts, settings, context)


def _opened(
    counts: Mapping[str, int], settings: Selection, context: Context
) -> tuple[SyntheticSet | None, SyntheticSet | None, int]:
    """The set that stays, the pool, and how many of each class are chosen; checked together."""
    train = context.real_images()
    start = None if settings.start is None else opened_set(settings.start, train, context)
    count = context.ipc if start is None else context.ipc - _ipc(start, context.ipc)
    pool = None if settings.pool is None else opened_set(settings.pool, train, context)
    what = _CORE_SET
    if pool is not None:
        rows = _different(pool, torch.arange(len(pool)), start)
        pool = pool if len(rows) == len(pool) else pool.rows(rows)
        counts = dict(zip(pool.class_names, pool.counts, strict=True))
        what = "the pool", "bring more (select.groups of a sampler)"
    _require_enough(counts, count, what, context.ipc)
    soft = [one is not None and one.soft_labels is not None for one in (start, pool)]
    if start is not None and soft[0] != soft[1]:
        has, lacks = ("start", "pool") if soft[0] else ("pool", "start")
        raise InputError(
            f"the set in selection.{has} has soft labels, and what joins it from selection.{lacks} "
            "has none; take sets that both have them, or that both have none."
        )
    return start, pool, count


def _require_enough(counts: Mapping[str, int], count: int, what: tuple[str, str], ipc: int) -> None:
    """Refuse fewer candidates of a class than are chosen; `what` says of what, and what to do."""
    source, advice = what
    for name, found in counts.items():
        if found < count:
            raise InputError(
                f"{source} has {counted(found, 'candidate')} of class {name!r}, and {count} of ipc="
                f"{ipc} are chosen from them; {advice}, or choose a smaller ipc."
            )


def _different(pool: SyntheticSet, rows: Tensor, start: SyntheticSet | None) -> Tensor:
    """Ascending positions among `rows` (n,) of a pool's different samples that `start` has not."""
    mixed = start is not None and start.images.dtype != pool.images.dtype

    def contents(one: SyntheticSet, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
        labels = one.labels.tolist()
        for row in rows:
            sample = one.images[row : row + 1]
            sample = as_floats(sample) if mixed else sample
            yield labels[row], hash_bytes(sample.numpy().tobytes())

    known = set() if start is None else set(contents(start, range(len(start))))
    fresh = []
    for place, content in enumerate(contents(pool, rows.tolist())):
        if content not in known:
            known.add(content)
            fresh.append(place)
    if count := len(rows) - len(fresh):
        note(f"{counted(count, 'candidate')} of selection repeat others, or stand in its start.")
    return torch.tensor(fresh, dtype=torch.int64)


def opened_set(name: str, train: Dataset, context: Context) -> SyntheticSet:
    """A set of the classes and the size of the real images; others are refused."""
    if context.open_set is None:
        raise InputError("this selection opens sets; give Context(open_set=...).")
    found = context.open_set(name)
    if found.class_names != train.class_names:
        raise InputError(f"{name} has not the classes of {train.name} in their order.")
    if found.images.shape[1:] != train.images.shape[1:]:
        size = found.images.shape[-1]
        raise InputError(
            f"{name} holds samples of {tuple(found.images.shape[1:])}, and those of {train.name} "
            f"are {tuple(train.images.shape[1:])}; open the data with data.resolution={size}."
        )
    return found


def student_of(start: SyntheticSet, context: Context) -> Classifier:
    """A network that was trained on a set alone."""
    tell_left(start, "soft_labels", "weights", why="the student of this set sees classes alone")
    rows = torch.arange(len(start))
    return context.trained_student(
        Dataset(start.levels(), start.labels, start.class_names, rows, "start")
    )


def _ipc(start: SyntheticSet, ipc: int) -> int:
    """Images of each class in a set that is filled up; as many as are wanted in all are refused."""
    counts = {*start.counts}
    if len(counts) > 1 or max(counts) >= ipc:
        raise InputError(
            f"selection.start has {' or '.join(map(str, sorted(counts)))} of each class, and "
            f"is filled up to ipc={ipc}; take a larger ipc, and a set with as many of each class."
        )
    return max(counts)


def _chosen(
    pool: SyntheticSet,
    real: Tensor,
    start: SyntheticSet | None,
    count: int,
    settings: Selection,
    context: Context,
) -> SyntheticSet:
    """`count` images of each class of the pool, by what networks make of them.

    They are compared with the real images at `real` (n,) of the training split.
    """
    train = context.real_images()
    members = {
        name: (pool.labels == label).nonzero().squeeze(1)
        for label, name in enumerate(pool.class_names)
    }
    known = {name: Candidates(len(rows)) for name, rows in members.items()}
    choice = replace(settings.select, space="features")
    if choice.needs_classifier:
        classifier, student = context.real_classifier()[0], None
        if choice.kind == "learnability" and start is not None:
            student = student_of(start, context)
        for label, (name, rows) in enumerate(members.items()):
            own = real[train.labels[real] == label]
            known[name] = judged(choice, classifier, student, pool.images[rows], label, train, own)
    found = select(known, count, choice, context.seed)
    return pool.rows(torch.cat([rows[found[name]] for name, rows in members.items()]))


def _joined(start: SyntheticSet, more: SyntheticSet) -> SyntheticSet:
    """One set of two, class by class, the samples of the first before those of the other.

    Where one of them has weights, those of the other are 1, which is what students see on average.
    """
    tell_left(start, "learned_lr", why="it was learned for these images alone")
    images = [one.images[:] for one in (start, more)]
    if images[0].dtype != images[1].dtype:
        images = [as_floats(some) for some in images]
    labels = torch.cat([start.labels, more.labels])
    order = labels.argsort(stable=True)
    soft_labels = [one.soft_labels for one in (start, more) if one.soft_labels is not None]
    weights = None
    if start.weights is not None or more.weights is not None:
        weights = torch.cat([_weights(one) for one in (start, more)])[order]
    return SyntheticSet(
        torch.cat(images)[order],
        labels[order],
        start.class_names,
        soft_labels=torch.cat(soft_labels)[order] if soft_labels else None,
        weights=weights,
        grid=start.grid if start.grid == more.grid else None,
    )


def _weights(one: SyntheticSet) -> Tensor:
    """(N,) with a mean of 1."""
    weights = torch.ones(len(one)) if one.weights is None else one.weights
    scaled: Tensor = weights / weights.mean()
    return scaled


def best_rows(
    coreset: Coreset, train: Dataset, count: int, *, rows: Tensor | None = None
) -> Tensor:
    """(C, count) positions in `train` of the core set's best images of each class, in rank order.

    `rows` (n,) are the positions of those to choose from; None takes all different ones. A class
    with fewer is refused.
    """
    rows = coreset.different_indices(train) if rows is None else rows
    sign = -1.0 if coreset.rule in RULES and RULES[coreset.rule].hard == "low" else 1.0
    called = [coreset.class_names[label] for label in coreset.labels.tolist()]
    samples = zip(coreset.hashes.tolist(), called, strict=True)
    score = dict(zip(samples, (sign * coreset.scores).tolist(), strict=True))
    wanted = [train.class_names[label] for label in train.labels[rows].tolist()]
    hardness = torch.tensor(
        [score[sample] for sample in zip(train.hashes[rows].tolist(), wanted, strict=True)]
    )
    order = cast(Order, coreset.order)
    best = []
    for label, name in enumerate(train.class_names):
        members = (train.labels[rows] == label).nonzero().squeeze(1)
        if len(members) < count:
            raise InputError(
                f"the core set has {counted(len(members), 'image')} of class {name!r}, and the "
                f"method takes {count} different ones; bring a larger prune.coreset, or choose a "
                "smaller ipc or mosaic.grid."
            )
        best.append(rows[members[ranked(hardness[members], order)[:count]]])
    return torch.stack(best)
