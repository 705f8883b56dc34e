"""Expert trajectories that the released code of MTT saved.

They are `replay_buffer_0.pt`, `replay_buffer_1.pt`, ... A file is a list of trajectories, one per
expert; a trajectory is a list of epochs, the first before the training; an epoch is a list of the
weights in the order of the network's parameters, see `buffer.py` of
https://github.com/GeorgeCazenavette/mtt-distillation. Nothing in it names the network, the data,
their classes or their normalisation, so that what can be tried is tried.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from latentdc import io
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.networks.base import disable_dropout
from latentdc.networks.build import build_network, outline
from latentdc.preprocessing import Preprocessing
from latentdc.prune.scorers import least_accuracy, real_accuracy
from latentdc.recipe import AskedExperts, ObjectiveSettings, identity

_Trajectory = Sequence[Sequence[Tensor]]  # the weights of each epoch


def replay_buffers(asked: AskedExperts, folder: Path) -> "ReplayBuffers | None":
    """The experts of a folder's files; None where it has none."""
    files = buffer_files(folder)
    return ReplayBuffers(files, asked.settings.count, asked.objective) if files else None


def buffer_files(folder: Path) -> list[Path]:
    """The files of a folder, in the order of their numbers."""
    numbered = {
        int(found[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (found := re.fullmatch(r"replay_buffer_(\d+)\.pt", path.name))
    }
    return [numbered[number] for number in sorted(numbered)]


class ReplayBuffers:
    """The first `count` experts of MTT's files, read from the disk when they are asked for.

    Files that hold something else, or too few experts, are refused.
    """

    coreset: Path | None = None  # they do not tell what they were trained on

    def __init__(self, files: Sequence[Path], count: int, objective: ObjectiveSettings) -> None:
        self.count, self._objective = count, objective
        self._experts: list[tuple[Path, _Trajectory]] = []
        for path in files:
            if len(self._experts) < self.count:
                self._experts += [(path, one) for one in _read(path)]
        if len(self._experts) < self.count:
            raise InputError(
                f"{files[0].parent} holds {counted(len(self._experts), 'expert')} in "
                f"{counted(len(files), 'replay buffer')}, and experts.count is {self.count}; "
                "set it to what there is, or less."
            )
        self._names: list[str] | None = None
        read = dict.fromkeys(path for path, _ in self._experts[:count])  # the first files
        self.identity = io.fingerprint([count, [[path.name, _contents(path)] for path in read]])

    def check(self, train: Dataset, normalization: Preprocessing) -> None:
        """Refuse experts of another network, of too few epochs, or at chance on the images."""
        spec = self._objective
        plan = outline(spec.network, num_classes=train.num_classes, resolution=train.resolution)
        shapes = {name: tuple(weight.shape) for name, weight in plan.named_parameters()}
        last = spec.trajectory.max_start_epoch - 1 + spec.trajectory.expert_epochs
        for path, epochs in self._experts[: self.count]:
            if len(epochs) <= last:
                raise InputError(
                    f"{path} has an expert of {counted(len(epochs) - 1, 'epoch')}, and "
                    f"objective.trajectory wants weights after up to {last} "
                    "(max_start_epoch - 1 + expert_epochs)."
                )
            for weights in epochs:
                _require_shapes(weights, shapes, path, spec.network)
            if all(map(torch.equal, epochs[0], epochs[last])):
                raise InputError(
                    f"{path} has an expert whose weights are the same in all epochs (MTT's code "
                    "saves such ones on a CPU); train it again."
                )
            if not all(bool(weight.isfinite().all()) for weight in epochs[last]):
                raise InputError(f"{path} has an expert that diverged: its weights are not finite.")
        self._names = list(shapes)
        self._require_knowledge(train, normalization)

    def weights(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """Weights of one expert after so many epochs, by name, float32 on the CPU."""
        assert self._names is not None, "check() has named them"
        weights = self._experts[expert][1][epoch]
        return {name: weight.float() for name, weight in zip(self._names, weights, strict=True)}

    def require_data(self, coreset: Dataset, normalization: Preprocessing) -> None:
        """Refuse nothing: what they were trained on is unknown, and `check` has tried them."""

    def _require_knowledge(self, train: Dataset, normalization: Preprocessing) -> None:
        """Refuse a first expert that is at chance at its end: other images, classes or colours."""
        sizes = {"num_classes": train.num_classes, "resolution": train.resolution}
        # Files hold no statistics of batch norms, which normalise by the batch here as in matching.
        network = disable_dropout(build_network(self._objective.network, **sizes))
        path, epochs = self._experts[0]
        weights = self.weights(0, len(epochs) - 1)

        def logits(images: Tensor) -> Tensor:
            found: Tensor = functional_call(network, weights, (normalization(images),))
            return found

        right = real_accuracy(logits, train.images, train.labels, torch.device("cpu"))
        chance, least = least_accuracy(train.counts)
        if right < least:
            raise InputError(
                f"the first expert in {path} is right on {right:.2%} of {train.name} and chance is "
                f"{chance:.2%}: it was trained on other images, in another class order, or with "
                "another data.mean, data.std or data.zca."
            )


def _contents(path: Path) -> list[object]:
    """What tells a file from others of its size; of torch's zip files, which are large, checksums.

    Trainings of one network on different images give files of the same names and sizes.
    """
    if not zipfile.is_zipfile(path):
        return [identity.file_digest(str(path))]
    with zipfile.ZipFile(path) as archive:
        return [(part.file_size, part.CRC) for part in archive.infolist()]


def _read(path: Path) -> list[_Trajectory]:
    """All experts of a file, mapped where it can be; runs no code of it."""
    try:
        found: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # a damaged pickle may raise anything
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        if code := re.search(r"GLOBAL (\S+)", str(error)):  # torch's advice is to run it
            why = f"it holds code of {code[1]}, which is not run; save lists of tensors."
        raise InputError(f"cannot read the experts {path}: {why}") from error
    experts = list(found) if isinstance(found, list | tuple) else []
    if not all(map(_is_trajectory, experts)):
        experts = []
    if not experts:
        raise InputError(
            f"{path} is no replay buffer of MTT: a list of experts, each a list of epochs, each a "
            "list of weights."
        )
    return experts


def _is_trajectory(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(weights, list | tuple) and all(isinstance(w, Tensor) for w in weights)
        for weights in value
    )


def _require_shapes(
    weights: Sequence[Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, network: str
) -> None:
    shapes = [tuple(weight.shape) for weight in weights]
    if shapes == list(expected.values()) and all(weight.is_floating_point() for weight in weights):
        return
    pairs = zip(shapes, expected.items(), strict=False)
    other = next((f"{s} for {name} {w}" for s, (name, w) in pairs if s != w), "")
    raise InputError(
        f"{path} has experts of {len(shapes)} weights{f', of shape {other}' if other else ''}, "
        f"which do not fit {network} ({len(expected)} weights); name the network of these experts "
        "(objective.network), and data of their classes and resolution."
    )
