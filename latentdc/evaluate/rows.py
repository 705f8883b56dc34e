"""Finished trainings, one small file each, so that a restarted evaluation trains only the rest."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from latentdc.errors import InputError
from latentdc.evaluate.accuracy import Accuracy


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
    """Its accuracy, None if it is not finished; older files hold no top-5."""
    path = folder / row.file
    try:
        content = json.loads(path.read_text())
        top5 = content.get("top5")
        return Accuracy(float(content["accuracy"]), None if top5 is None else float(top5))
    except FileNotFoundError:
        return None
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no finished row ({error}); delete it to train it again."
        ) from error


def write_row(folder: Path, row: Row, accuracy: Accuracy) -> None:
    """Write it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / row.file
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    content = {**asdict(row), "accuracy": accuracy.top1, "top5": accuracy.top5}
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)
