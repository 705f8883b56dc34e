"""Finished trainings, one small file each, so that a restarted evaluation trains only the rest."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch import distributed

from latentdc.data.dataset import Dataset
from latentdc.evaluate.accuracy import Accuracy
from latentdc.evaluate.soft_labels import Labelling
from latentdc.images import Preprocessing
from latentdc.io import read_json, write_json
from latentdc.ranks import warn
from latentdc.results.result import share
from latentdc.synthetic.synthetic_set import set_hash

PATIENCE = timedelta(days=30)  # between the first process to finish and the last


@dataclass(frozen=True)
class Training:
    """What the accuracy of one training depends on, and so the name of its file.

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


Done = dict[Training, Accuracy]


def setting_hash(
    test: Dataset, normalization: Preprocessing, precision: str, labelling: Labelling | None
) -> str:
    """8 hex digits of what all trainings of one call share."""
    facts = [set_hash(test), normalization.facts(), precision]
    text = json.dumps(facts + ([] if labelling is None else [labelling.hash]))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read(folder: Path, training: Training) -> Accuracy | None:
    """Its accuracy; None if it is not finished, or if its file is not what it is named as.

    Such a file is said, and replaced when the training is done again.
    """
    path = folder / training.file
    try:
        return _accuracy(read_json(path), training)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        warn(f"{path} is no finished training ({reason}); it is trained again.")
        return None


def _accuracy(content: object, training: Training) -> Accuracy:
    """Of a file's content, which says whose it is.

    Raises:
        ValueError: it is another training's, or holds what is no accuracy.
        KeyError: it lacks a part.
    """
    if not isinstance(content, dict):
        raise ValueError("it holds no mapping")
    for key, value in asdict(training).items():
        if content[key] != value or type(content[key]) is not type(value):
            raise ValueError(f"its {key} is {content[key]!r} and not {value!r}")
    top1, top5 = share(content["accuracy"]), content["top5"]
    if top5 is not None and share(top5) < top1:
        raise ValueError(f"its top5 of {top5!r} is below its accuracy of {top1!r}")
    accuracy = Accuracy(top1, top5)
    if content["checksum"] != _checksum(training, accuracy):
        raise ValueError("its accuracy is not as it was written")
    return accuracy


def _checksum(training: Training, accuracy: Accuracy) -> str:
    text = json.dumps([asdict(training), accuracy.top1, accuracy.top5], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(folder: Path, training: Training, accuracy: Accuracy) -> None:
    """Write it, whole or not at all."""
    numbers = {"accuracy": accuracy.top1, "top5": accuracy.top5}
    content = {**asdict(training), **numbers, "checksum": _checksum(training, accuracy)}
    write_json(folder / training.file, content)


def finished(wanted: Sequence[Training], folder: Path | None, accelerator: Accelerator) -> Done:
    """Those that need not be done: as the main process finds them, so that all processes agree."""
    found: Done = {}
    if folder is not None and accelerator.is_main_process:
        every = {training: read(folder, training) for training in wanted}
        found = {training: value for training, value in every.items() if value is not None}
    return gathered(found, accelerator)[0]


def gathered(part: Done, accelerator: Accelerator) -> list[Done]:
    """The parts of all processes, waited for however long the slowest one trains."""
    if accelerator.num_processes == 1:
        return [part]
    group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=PATIENCE))
    parts: list[Done] = [{} for _ in range(accelerator.num_processes)]
    distributed.all_gather_object(parts, part, group=group)
    distributed.destroy_process_group(group)
    return parts
