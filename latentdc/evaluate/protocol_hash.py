"""The hash of a protocol, which every number carries. Imports no torch."""

import hashlib
import json
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING

from latentdc.evaluate.settings import changed

if TYPE_CHECKING:
    from latentdc.evaluate.protocol import EvalProtocol

LOOP = 1  # raised when the same protocol would train another student
_NOT_HASHED = ("name", "students", "seeds", "unsettled")
# Every hash holds these; what was added later enters it where it is not at its default.
_FIRST = (
    "steps epochs batch optimizer lr lr_of momentum weight_decay schedule augment ema update_every"
).split()


def protocol_hash(protocol: "EvalProtocol") -> str:
    """12 hex digits of all that decides one training: not the name, students or seeds."""
    every = asdict(protocol)
    content = {key: every[key] for key in every if key in _FIRST}
    for f in sorted(fields(protocol), key=lambda f: f.name):
        if f.name in _FIRST or f.name in _NOT_HASHED:
            continue
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if getattr(protocol, f.name) != default:
            content[f.name] = every[f.name]
    for key, part in {"views": protocol.views, "labels": protocol.labels}.items():
        if key in content:
            content[key] = changed(part)
    if protocol.labels.teachers:
        content["labels"]["teachers"] = [t.settings() for t in protocol.labels.teachers]
    text = json.dumps({"loop": LOOP, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
