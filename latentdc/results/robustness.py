"""DD-Ranking's scores: how much of an accuracy is the set's own, not its labels' or its views'.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025,
https://github.com/NUS-HPC-AI-Lab/DD-Ranking. All accuracies are of one student on one test set.

Here they are shares in [0, 1], which is the range that the exponential is scaled for. Version
0.2.0 of the package feeds percentage points into it, so its values leave [0, 1] and are not
comparable with these. It also picks learning rates by test accuracy and trains the real row in
full. The weights of 1/2 are the package's defaults.
"""

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from latentdc.errors import InputError
from latentdc.recipe import BASELINES
from latentdc.recipe.labels import OWN

_NOT_TRAINING = ("name", "students", "seeds", "together", "unsettled", "augment", "views")
_Row = Any  # of one result: columns of `to_frame` and the mean accuracy, as attributes


def hard_label_recovery(real_hard: float, synthetic_hard: float) -> float:
    """HLR = Acc(real, hard) - Acc(synthetic, hard), in [-1, 1]: the smaller, the better."""
    return _share(real_hard) - _share(synthetic_hard)


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR = Acc(synthetic, any) - Acc(random, any), in [-1, 1]: the larger, the better.

    With as many random images per class, and labels of the same kind.
    """
    return _share(synthetic) - _share(random)


def label_robust_score(hlr: float, ior: float) -> float:
    """LRS: alpha = (IOR - HLR) / 2, scaled to [0, 1]."""
    return _scaled((ior - hlr) / 2)


def augmentation_robust_score(augmented: float, plain: float) -> float:
    """ARS: beta = (IOR(augmented) + IOR(plain)) / 2, scaled to [0, 1]."""
    return _scaled((augmented + plain) / 2)


def _scaled(value: float) -> float:
    """(e^x - e^-1) / (e - e^-1): [-1, 1] -> [0, 1], no difference (0) at 0.269."""
    lowest = math.exp(-1)
    return (math.exp(value) - lowest) / (math.e - lowest)


def _share(accuracy: float) -> float:
    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracies are shares in [0, 1], got {accuracy}; for 56.5 % pass 0.565.")
    return accuracy


def robustness(frame: pd.DataFrame) -> pd.DataFrame:
    """The scores of the sets in a comparison, as far as the rows for them are there.

    HLR needs the set and all real images under a protocol with hard labels: its own, or the only
    one; IOR the set and random images under any; ARS both under two protocols that differ in
    augmentation alone, one of them without any. A set that brings soft labels of its own is trained
    on neither hard ones nor the labels of random images. There is a row for every set and student
    whose HLR or ARS can be told; IOR alone is in the tables.
    """
    alike = ["name", "ipc", "student", "protocol_hash", "test", "preprocessing"]
    seeds = frame.drop_duplicates([*alike, "seed"])  # which several files may hold
    means = seeds.groupby(alike, as_index=False).agg(mean=("accuracy", "mean"))
    rows = list(frame.drop_duplicates("result").merge(means, on=alike).itertuples())
    once: dict[tuple[object, ...], _Row] = {}
    for row in rows:
        key = (row.name, row.ipc, row.student, row.protocol_hash, row.test, row.preprocessing)
        once.setdefault(key, row)
    found = [_scores(row, rows) for row in once.values() if row.set not in BASELINES]
    return pd.DataFrame([one for one in found if one is not None])


def _scores(row: _Row, rows: Sequence[_Row]) -> dict[str, object] | None:
    kept = (row.student, row.test, row.preprocessing)
    near = [each for each in rows if (each.student, each.test, each.preprocessing) == kept]
    ior, plain = _ior(row, near), _plain(row, near)
    hlr, other = _hlr(row, near), None if plain is None else _ior(plain, near)
    if ior is None or (hlr is None and other is None):
        return None
    return {
        "set": row.name,
        "ipc": row.ipc,
        "student": row.student,
        "protocol": row.protocol,
        "HLR": hlr,
        "IOR": ior,
        "LRS": None if hlr is None else label_robust_score(hlr, ior),
        "IOR augmented": None if other is None else ior,
        "IOR plain": other,
        "ARS": None if other is None else augmentation_robust_score(ior, other),
    }


def _ior(row: _Row, near: Sequence[_Row]) -> float | None:
    """IOR against random images of as many per class, under the same protocol.

    None for a set with soft labels of its own, which no random images have.
    """
    same = (row.ipc, row.counts, row.protocol_hash, row.labels == OWN)
    random = [
        each
        for each in near
        if each.set == "random"
        and (each.ipc, each.counts, each.protocol_hash, each.labels == OWN) == same
    ]
    own = [each for each in random if each.origin == row.origin] or random
    names = {each.name: each.mean for each in own}  # rows that several runs share count once
    return improvement_over_random(row.mean, fmean(names.values())) if own else None


def _hlr(row: _Row, near: Sequence[_Row]) -> float | None:
    """HLR under the row's own protocol where its labels are hard, else under the only hard one."""
    hard = {each.protocol_hash: each for each in near if _same_set(each, row) and _hard(each)}
    chosen = hard.get(row.protocol_hash) or (next(iter(hard.values())) if len(hard) == 1 else None)
    if chosen is None:
        return None
    real = [e for e in near if e.set == "full" and e.protocol_hash == chosen.protocol_hash]
    own = [each for each in real if each.origin == row.origin] or real
    return hard_label_recovery(own[0].mean, chosen.mean) if own else None


def _plain(row: _Row, near: Sequence[_Row]) -> _Row | None:
    """The same set under the only protocol that is this one without its augmentation."""
    settings = json.loads(row.settings)
    if not _augments(settings):
        return None
    alike = {
        each.protocol_hash: each
        for each in near
        if _same_set(each, row)
        and not _augments(json.loads(each.settings))
        and _training(json.loads(each.settings)) == _training(settings)
    }
    return next(iter(alike.values())) if len(alike) == 1 else None


def _same_set(one: _Row, other: _Row) -> bool:
    return (one.name, one.ipc, one.hash) == (other.name, other.ipc, other.hash)


def _hard(row: _Row) -> bool:
    """Whether labels are hard: by the protocol, unless the set has soft labels of its own."""
    source = json.loads(row.settings)["labels"].get("source")
    return bool(source == "hard" and row.labels != OWN)


def _augments(settings: Mapping[str, Any]) -> bool:
    views = {k: v for k, v in settings["views"].items() if k not in ("mix_alpha", "pad_mode")}
    return settings.get("augment") is not None or any(views.values())


def _training(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _NOT_TRAINING}
