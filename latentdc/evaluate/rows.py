"""Finished trainings, one small file each, so that a restarted evaluation trains only the rest."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from latentdc.evaluate.accuracy import Accuracy
from latentdc.evaluate.score import share
from latentdc.io import read_json
from latentdc.ranks import warn


@dataclass(frozen=True)
class Row:
    """What one training depends on, and so the name of its file.

    Attributes:
        images: hash of the training set.
        protocol: hash of the protocol, its budget in steps.
        setting: hash of test set, normalisation and precision.
        student: name of the network.
        seed: of the training.
    """

    images: str
    protocol: str
    setting: str
    student: str
    seed: int

    @property
    def file(self) -> str:
        """Name of its file."""
        student = self.student.replace("/", "-")  # torchvision/resnet18
        return f"{self.images}-{self.protocol}-{self.setting}-{student}-{self.seed}.json"


def read_row(folder: Path, row: Row) -> Accuracy | None:
    """Its accuracy; None if it is not finished, or if its file is not the row that it is named as.

    Such a file is said, and replaced when the training is done again.
    """
    path = folder / row.file
    try:
        return _accuracy(read_json(path), row)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, RecursionError) as error:
        warn(f"{path} is no finished row ({_reason(error)}); it is trained again.")
        return None


def _accuracy(content: object, row: Row) -> Accuracy:
    """Of a file's content, which says whose it is.

    Raises:
        ValueError: it is another row's, or holds what is no accuracy.
        KeyError: it lacks a part.
    """
    if not isinstance(content, dict):
        raise ValueError("it holds no mapping")
    for key, value in asdict(row).items():
        if content[key] != value or type(content[key]) is not type(value):
            raise ValueError(f"its {key} is {content[key]!r} and not {value!r}")
    top1, top5 = share(content["accuracy"]), content["top5"]
    if top5 is not None and share(top5) < top1:
        raise ValueError(f"its top5 of {top5!r} is below its accuracy of {top1!r}")
    accuracy = Accuracy(top1, top5)
    if content["checksum"] != _checksum(row, accuracy):
        raise ValueError("its accuracy is not as it was written")
    return accuracy


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _checksum(row: Row, accuracy: Accuracy) -> str:
    text = json.dumps([asdict(row), accuracy.top1, accuracy.top5], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_row(folder: Path, row: Row, accuracy: Accuracy) -> None:
    """Write it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / row.file
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    numbers = {"accuracy": accuracy.top1, "top5": accuracy.top5}
    content = {**asdict(row), **numbers, "checksum": _checksum(row, accuracy)}
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)
