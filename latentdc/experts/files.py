"""Expert trajectories on disk: ours, and those that the released code of MTT saved.

Ours are one safetensors file per expert, and a manifest of their making. Each weight is one tensor
whose first dimension counts epochs, so that a step of trajectory matching reads the two epochs that
it needs and no more.

MTT's are `replay_buffer_0.pt`, `replay_buffer_1.pt`, ... A file is a list of trajectories, one per
expert; a trajectory is a list of epochs, the first before the training; an epoch is a list of the
weights in the order of the network's parameters, see `buffer.py` of
https://github.com/GeorgeCazenavette/mtt-distillation. Nothing in it names the network, the data,
their classes or their normalisation, so that what can be tried is tried.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.func import functional_call

from latentdc import io, run_folder
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.networks.base import disable_dropout
from latentdc.networks.build import build_network, outline
from latentdc.preprocessing import Preprocessing
from latentdc.prune.scorers import least_accuracy, real_accuracy
from latentdc.recipe import AskedExperts, ObjectiveSettings, Prune, identity

_Trajectory = Sequence[Sequence[Tensor]]  # of MTT: the weights of each epoch


@dataclass(frozen=True)
class ExpertFiles:
    """The first `count` experts of a folder.

    Attributes:
        folder: that `latentdc experts` filled.
        count: of experts.
    """

    folder: Path
    count: int

    @property
    def coreset(self) -> Path:
        """File of the core set that they were trained on."""
        return self.folder / run_folder.CORESET

    @property
    def identity(self) -> str:
        """16 hex digits of their number and of how they were trained."""
        return io.fingerprint([self.count, read_manifest(self.folder)])

    def weights(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """Weights of one expert after so many epochs, by name, float32 on the CPU."""
        path = expert_path(self.folder, expert)
        try:
            with safe_open(path, "pt") as file:
                return {
                    name: file.get_slice(name)[epoch : epoch + 1].squeeze(0).float()
                    for name in file.keys()
                }
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from error

    def check(self, train: Dataset, normalization: Preprocessing) -> None:
        """Read every file that is there once; `require_data` checks whether they fit the core set.

        What is damaged or of other images, networks or epochs is refused.
        """
        manifest = read_manifest(self.folder)
        assert manifest is not None
        require_same(self.folder, manifest, _class_facts(train, normalization))
        sizes = {"num_classes": train.num_classes, "resolution": train.resolution}
        plan = outline(manifest["network"], **sizes).named_parameters()
        after = manifest["epochs"] + 1
        expected = {name: (after, *weight.shape) for name, weight in plan}
        lacking = missing_experts(self.folder, self.count)
        for expert in sorted({*range(self.count)} - {*lacking}):
            path = expert_path(self.folder, expert)
            try:
                found = _shapes(path)
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error
            if found != expected:
                why = f"it is no {manifest['network']} of {counted(after - 1, 'epoch')}"
                raise _damaged(path, ValueError(f"{why} for {train.num_classes} classes"))

    def require_data(self, coreset: Dataset, normalization: Preprocessing) -> None:
        """Refuse experts that saw other images, or the same ones otherwise."""
        manifest = read_manifest(self.folder)
        assert manifest is not None
        require_same(self.folder, manifest, data_facts(coreset, normalization))


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name in a file of `io.save_tensors`; read once, and again where it has changed."""
    status = path.stat()
    return _read_shapes(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache  # the cells of a sweep follow the same experts
def _read_shapes(
    path: Path, size: int, written_at: int, changed_at: int
) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in io.load_tensors(path).items()}


# ---- Replay buffers of MTT ----


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


# ---- The experts of a recipe ----


def open_experts(asked: AskedExperts) -> ExpertFiles | ReplayBuffers:
    """The experts that a recipe follows, checked by all that can be known without its data.

    A folder without a manifest of ours may hold replay buffers of MTT. Missing experts, and those
    that were made otherwise, are refused.
    """
    folder, count = experts_folder(asked), asked.settings.count
    manifest = read_manifest(folder)
    if manifest is not None:
        require_same(folder, manifest, making(asked), asked.prune)
    elif buffers := buffer_files(folder):
        return ReplayBuffers(buffers, count, asked.objective)
    if lacking := missing_experts(folder, count):
        raise InputError(
            f"{len(lacking)} of the {count} experts of this recipe are missing in {folder}; "
            "`latentdc experts RECIPE` with the same overrides trains them."
        )
    if manifest is None:
        raise unknown_making(folder)
    return ExpertFiles(folder, count)


def experts_folder(asked: AskedExperts) -> Path:
    """`objective.trajectory.experts`, or a folder of its own for all that experts depend on.

    Recipes that differ elsewhere, in their prior for instance, so share their experts. A given core
    set counts by its contents, in place of the rest of the pruning.
    """
    if (named := asked.objective.trajectory.experts) is not None:
        return Path(named).expanduser()
    training = making(asked)
    data = identity.changed(replace(asked.data, cache=None))
    facts = [training, training.pop("pruning"), data, asked.seed]
    return Path("runs") / "experts" / io.fingerprint(facts, digits=12)


def expert_path(folder: Path, index: int) -> Path:
    """File of one expert."""
    return folder / f"expert-{index:05d}.safetensors"


def unknown_making(folder: Path) -> InputError:
    """Of experts without a manifest, which are neither followed nor added to."""
    return InputError(
        f"{folder} has experts and no {run_folder.EXPERTS} that tells how they were "
        "trained; name the folder that `latentdc experts` made, or train them again in another "
        "one."
    )


def missing_experts(folder: Path, count: int) -> list[int]:
    """Numbers below `count` of the experts that a folder lacks."""
    return [index for index in range(count) if not expert_path(folder, index).is_file()]


# ---- What experts depend on ----


def making(asked: AskedExperts) -> dict[str, Any]:
    """Facts of the trainings, but for their number, and how their core set comes about.

    That is settings that are not at their defaults, or the file's hash.
    """
    facts = {
        "network": asked.objective.network,
        "resolution": asked.data.resolution,
        **identity.facts_of(asked.settings),
        "pruning": identity.changed(asked.prune),
    }
    del facts["count"]
    if (coreset := asked.prune.coreset) is not None:
        try:
            facts["pruning"] = {"coreset": io.file_hash(Path(coreset))[:16]}
        except OSError as error:
            raise InputError(f"cannot read prune.coreset={coreset}: {error}.") from error
    return facts


def data_facts(coreset: Dataset, normalization: Preprocessing) -> dict[str, Any]:
    """Facts of experts that only the open data show."""
    return {"coreset": coreset.hash, **_class_facts(coreset, normalization)}


def _class_facts(data: Dataset, normalization: Preprocessing) -> dict[str, Any]:
    """Those that the training images share with every core set of them."""
    return {"class_names": list(data.class_names), "normalization": normalization.facts()}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Facts of the experts in a folder; None where it has none."""
    path = folder / run_folder.EXPERTS
    if not path.is_file():
        return None
    try:
        manifest = io.read_json(path)
        if not isinstance(manifest, dict):
            raise ValueError("it holds no mapping")
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); remove the folder.") from error
    return manifest


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write it, whole or not at all; facts that are there already stay."""
    io.write_json(folder / run_folder.EXPERTS, {**facts, **(read_manifest(folder) or {})})


def require_same(
    folder: Path, manifest: Mapping[str, Any], facts: Mapping[str, Any], prune: Prune | None = None
) -> None:
    """Refuse experts whose `manifest` has other facts than these.

    Where `prune` names a core set of its own, how the experts' was chosen does not count, only (by
    `require_data`) whether it is the same.
    """
    given = prune is not None and prune.coreset is not None
    for key, value in io.as_read_back(dict(facts)).items():
        if manifest.get(key) != value and not (given and key == "pruning"):
            raise InputError(
                f"the experts in {folder} were trained with {key} {manifest.get(key)!r}, and this "
                f"recipe has {value!r}; name others, or a new folder, with "
                "objective.trajectory.experts=..., and train what it lacks with `latentdc experts "
                "RECIPE` and the same overrides."
            )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is damaged ({error}); remove it, and train it again with `latentdc experts "
        "RECIPE` and the same overrides."
    )
