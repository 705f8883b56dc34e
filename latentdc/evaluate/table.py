"""The table of a run: the distilled set beside random images, the core set and all images."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.score import Score
from latentdc.runtime import Machine

VERSION = 2  # of results.json; 1 had no top-5 and no number of classes


@dataclass(frozen=True)
class Table:
    """Scores of several sets under one protocol.

    Attributes:
        scores: by row, such as `distilled` or `random`.
        ipc: images per class of all rows but `full`.
        unseen: students that no distillation used.
        missing: rows that were wanted but could not be scored, and why.
        machine: where it was computed.
        test: hash of the test set; None in tables that were made without it.
        classes: of the data set; None where it is not known.
        sizes: bytes of the images, by row; of a set that is drawn by seed, those of seed 0. Rows of
            all images have none, nor have tables of before they were counted.
        preprocessing: facts of how students see images; None in tables of before they were kept.
        counts: `counts_hash` of the images of each class.
        seen: networks by the sets that were distilled with them, where they are told one by one.
    """

    scores: dict[str, Score]
    ipc: int
    unseen: tuple[str, ...]
    missing: dict[str, str]
    machine: Machine
    test: str | None = None
    classes: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] | None = None
    counts: str | None = None
    seen: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def protocol(self) -> EvalProtocol:
        """The one that all rows share."""
        return next(iter(self.scores.values())).protocol

    def unseen_by(self, row: str) -> tuple[str, ...]:
        """Students that the row's set was not distilled with; of a baseline, that no set was."""
        if row not in self.seen:
            return self.unseen
        return tuple(s for s in self.protocol.students if base_name(s) != base_name(self.seen[row]))

    def to_json(self) -> dict[str, Any]:
        """The content of results.json; `rows` is flat, for data set cards."""
        protocol = self.protocol
        return {
            "version": VERSION,
            "protocol": protocol.name,
            "protocol_hash": protocol.hash,
            "steps": protocol.steps,
            "seeds": protocol.seeds,
            "ipc": self.ipc,
            "classes": self.classes,
            "rows": [
                {
                    "set": name,
                    "student": student,
                    "mean": score.mean(student),
                    "std": score.std(student),
                    "seeds": protocol.seeds,
                    "accuracies": list(score.accuracies[student]),
                    **_top5(score, student),
                    "sets": list(score.sets),
                    **({"labels": dict(score.labels)} if score.labels else {}),
                    **({"image_bytes": self.sizes[name]} if name in self.sizes else {}),
                }
                for name, score in self.scores.items()
                for student in protocol.students
            ],
            "missing": self.missing,
            "unseen": list(self.unseen),
            "protocol_settings": asdict(protocol),
            "machine": asdict(self.machine),
            "test": self.test,
            "preprocessing": self.preprocessing,
            "counts": self.counts,
        }

    def save(self, path: Path) -> None:
        """Write results.json, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(self.to_json(), indent=2) + "\n")
        os.replace(part, path)


def _top5(score: Score, student: str) -> dict[str, Any]:
    """Mean and values by seed, where they are known."""
    values = score.top5.get(student)
    return {} if values is None else {"top5": fmean(values), "top5_accuracies": list(values)}


def base_name(network: str | None) -> str | None:
    """Of a network at any width."""
    return None if network is None else network.partition("@")[0]
