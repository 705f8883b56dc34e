"""DD-Ranking's scores of the sets in a comparison, as far as the rows for them are there.

HLR needs the set and all real images under a protocol with hard labels, IOR the set and random
images under any, ARS both under two protocols that differ in augmentation alone, one of them
without any. All rows of one score come from the same test set and have the same student. A set that
brings soft labels of its own is trained on neither hard ones nor the labels of random images.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from latentdc.compare.entries import Entry
from latentdc.metrics.ddranking import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from latentdc.recipe import BASELINES

NOT_TRAINING = ("name", "students", "seeds", "unsettled", "augment", "views")


@dataclass(frozen=True)
class Robustness:
    """Scores of one set with one student, and their raw terms; None where rows are missing.

    Attributes:
        name: of the set.
        ipc: images per class.
        student: name of the network.
        protocol: of the set's and the random row.
        hlr: hard label recovery, of the same protocol if its labels are hard, or of the only one
            with hard labels.
        ior: improvement over random.
        lrs: label robust score of both.
        augmented: IOR under this protocol, where it augments and another one is the same without.
        plain: IOR under that other one.
        ars: augmentation robust score of both.
    """

    name: str
    ipc: int
    student: str
    protocol: str
    hlr: float | None
    ior: float
    lrs: float | None
    augmented: float | None
    plain: float | None
    ars: float | None


def robustness(entries: Sequence[Entry]) -> list[Robustness]:
    """For every set and student whose HLR or ARS can be told; IOR alone is in the table already."""
    found = [_score(entry, entries) for entry in entries if entry.row not in BASELINES]
    return [one for one in found if one is not None and (one.hlr, one.ars) != (None, None)]


def _score(entry: Entry, entries: Sequence[Entry]) -> Robustness | None:
    kept = (entry.student, entry.test, entry.preprocessing)
    near = [e for e in entries if (e.student, e.test, e.preprocessing) == kept]
    ior = _ior(entry, near)
    if ior is None:
        return None
    hlr = _hlr(entry, near)
    plain = _plain(entry, near)
    other = None if plain is None else _ior(plain, near)
    return Robustness(
        name=entry.name,
        ipc=entry.ipc,
        student=entry.student,
        protocol=entry.protocol,
        hlr=hlr,
        ior=ior,
        lrs=None if hlr is None else label_robust_score(hlr, ior),
        augmented=None if other is None else ior,
        plain=other,
        ars=None if other is None else augmentation_robust_score(ior, other),
    )


def _ior(entry: Entry, near: Sequence[Entry]) -> float | None:
    """Against random images of as many per class, under the same protocol.

    None for a set with soft labels of its own, which no random images have.
    """
    same = ("random", entry.ipc, entry.counts, entry.group, entry.brought)
    random = [e for e in near if (e.row, e.ipc, e.counts, e.group, e.brought) == same]
    own = [e for e in random if entry.run in (e.run, *e.shared)] or random
    return improvement_over_random(entry.mean, fmean(e.mean for e in own)) if own else None


def _hlr(entry: Entry, near: Sequence[Entry]) -> float | None:
    """Of the entry's own protocol where its labels are hard, else of the only hard one."""
    hard = [e for e in near if _same_set(e, entry) and _hard(e)]
    hard = [e for e in hard if e.group == entry.group] or hard
    if len(hard) != 1:
        return None
    real = [e for e in near if e.row == "full" and e.group == hard[0].group]
    own = [e for e in real if entry.run in (e.run, *e.shared)] or real
    return hard_label_recovery(own[0].mean, hard[0].mean) if own else None


def _plain(entry: Entry, near: Sequence[Entry]) -> Entry | None:
    """The same set under the only protocol that is this one without its augmentation."""
    if not _augments(entry.settings):
        return None
    alike = [
        e
        for e in near
        if _same_set(e, entry)
        and not _augments(e.settings)
        and _training(e.settings) == _training(entry.settings)
    ]
    return alike[0] if len(alike) == 1 else None


def _same_set(one: Entry, other: Entry) -> bool:
    return (one.name, one.ipc, one.sets[0]) == (other.name, other.ipc, other.sets[0])


def _hard(entry: Entry) -> bool:
    """By its protocol, and by what it brings; files without the key are older than soft labels."""
    source = entry.settings.get("labels", {}).get("source", "hard")
    return bool(source == "hard" and not entry.brought)


def _augments(settings: Mapping[str, Any]) -> bool:
    views = {
        k: v for k, v in settings.get("views", {}).items() if k not in ("mix_alpha", "pad_mode")
    }
    return settings.get("augment") is not None or any(views.values())


def _training(settings: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in settings.items() if key not in NOT_TRAINING}
    return json.dumps(kept, sort_keys=True)
