"""The hash of a protocol, which every number carries. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any

from latentdc.evaluate.settings import changed

if TYPE_CHECKING:
    from latentdc.evaluate.protocol import EvalProtocol

# Raised when the same protocol would train another student. 2: VGG-11 under 64 px is DC's, decay of
# `matrices` asks for names with "weight", and networks see contiguous images.
LOOP = 2
_NOT_HASHED = ("name", "students", "seeds", "unsettled")
# Every hash holds these; what was added later enters it where it is not at its default.
_FIRST = (
    "steps epochs batch optimizer lr lr_of momentum weight_decay schedule augment ema update_every"
).split()


def protocol_hash(protocol: "EvalProtocol") -> str:
    """12 hex digits of all that decides one training: not the name, students or seeds.

    Settings that change nothing beside the others (`idle`) count as their defaults.
    """
    every = asdict(protocol) | {"lr_of": _own_rates(protocol.lr, protocol.lr_of)}
    content: dict[str, Any] = {}
    for f in fields(protocol):
        if f.name in (*_NOT_HASHED, "views", "labels"):
            continue
        default = f.default if f.default_factory is MISSING else f.default_factory()
        value = default if f.name in protocol.idle else every[f.name]
        if f.name in _FIRST or value != default:
            content[f.name] = value
    parts = {"views": changed(protocol.views), "labels": changed(protocol.labels)}
    content |= {key: part for key, part in parts.items() if part}
    if protocol.labels.teachers:
        content["labels"]["teachers"] = [t.settings() for t in protocol.labels.teachers]
    text = json.dumps({"loop": LOOP, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _own_rates(lr: float, lr_of: Mapping[str, float]) -> dict[str, float]:
    """The learning rates that differ from what a student would have without them."""
    bases = {name: rate for name, rate in lr_of.items() if "@" not in name and rate != lr}
    widths = {
        name: rate
        for name, rate in lr_of.items()
        if "@" in name and rate != bases.get(name.partition("@")[0], lr)
    }
    return bases | widths
