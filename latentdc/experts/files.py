"""Expert trajectories on disk: ours, or those of the released code of MTT (buffers.py).

Ours are one safetensors file per expert, and a manifest of their making. Each weight is one tensor
whose first dimension counts epochs, so that a step of trajectory matching reads the two epochs that
it needs and no more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdc import io, run_folder
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.experts.buffers import ReplayBuffers, replay_buffers
from latentdc.networks.build import outline
from latentdc.preprocessing import Preprocessing
from latentdc.recipe import AskedExperts, Prune, identity


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


# ---- The experts of a recipe ----


FollowedExperts = ExpertFiles | ReplayBuffers


def open_experts(asked: AskedExperts) -> FollowedExperts:
    """The experts that a recipe follows, checked by all that can be known without its data.

    Missing ones, and those that were made otherwise, are refused.
    """
    folder = experts_folder(asked)
    for read in READERS:
        if (found := read(asked, folder)) is not None:
            return found
    _require_all(folder, asked.settings.count)
    raise unknown_making(folder)


def _own_files(asked: AskedExperts, folder: Path) -> ExpertFiles | None:
    """Those of a folder with our manifest."""
    if (manifest := read_manifest(folder)) is None:
        return None
    require_same(folder, manifest, making(asked), asked.prune)
    _require_all(folder, asked.settings.count)
    return ExpertFiles(folder, asked.settings.count)


READERS: tuple[Callable[[AskedExperts, Path], FollowedExperts | None], ...] = (
    _own_files,
    replay_buffers,
)
"""By the form of a folder's files; the first that finds its own."""


def _require_all(folder: Path, count: int) -> None:
    if lacking := missing_experts(folder, count):
        raise InputError(
            f"{len(lacking)} of the {count} experts of this recipe are missing in {folder}; "
            "`latentdc experts RECIPE` with the same overrides trains them."
        )


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
