"""Expert trajectories on disk: one safetensors file per expert, and a manifest of their making.

Each weight is one tensor whose first dimension counts epochs, so that a step of trajectory matching
reads the two epochs that it needs and no more.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdc import io, run_folder
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.experts.buffers import ReplayBuffers, buffer_files
from latentdc.images import Preprocessing
from latentdc.recipe import Data, Experts, ObjectiveSettings, Prune

MANIFEST = "experts.json"


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
        """Of one expert after so many epochs, by name, float32 on the CPU."""
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
        """Read every file once; whether experts fit the data is checked by `require_data`.

        Raises:
            InputError: one is not as it was written.
        """
        for expert in range(self.count):
            path = expert_path(self.folder, expert)
            try:
                io.load_tensors(path)
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error

    def require_data(self, coreset: Dataset, normalization: Preprocessing) -> None:
        """Refuse experts that saw other images, or the same ones otherwise.

        Raises:
            InputError: another core set, class order, normalisation or whitening.
        """
        manifest = read_manifest(self.folder)
        assert manifest is not None
        require_same(self.folder, manifest, data_facts(coreset, normalization))


def open_experts(
    settings: Experts, objective: ObjectiveSettings, data: Data, prune: Prune, seed: int
) -> ExpertFiles | ReplayBuffers:
    """The experts that a recipe follows, checked by all that can be known without its data.

    A folder without a manifest of ours may hold replay buffers of MTT. Where `prune` names a core
    set of its own, how the experts' was chosen does not count, only (by `require_data`) whether it
    is the same.

    Raises:
        InputError: some are missing, or they were made otherwise.
    """
    folder, count = experts_folder(settings, objective, data, prune, seed), settings.count
    manifest = read_manifest(folder)
    if manifest is not None:
        facts = training_facts(settings, objective, data)
        if prune.coreset is None:
            facts["pruning"] = pruning(prune)
        require_same(folder, manifest, facts)
    elif buffers := buffer_files(folder):
        return ReplayBuffers(buffers, count, objective)
    if lacking := missing_experts(folder, count):
        raise InputError(
            f"{len(lacking)} of the {count} experts of this recipe are missing in {folder}; "
            "`latentdc experts RECIPE` with the same overrides trains them."
        )
    if manifest is None:
        raise InputError(
            f"{folder} has experts and no {MANIFEST} that tells how they were trained; name the "
            "folder that `latentdc experts` made, or train them again in another one."
        )
    return ExpertFiles(folder, count)


def experts_folder(
    settings: Experts, objective: ObjectiveSettings, data: Data, prune: Prune, seed: int
) -> Path:
    """`objective.trajectory.experts`, or a folder of its own for all that experts depend on.

    Recipes that differ elsewhere, in their prior for instance, so share their experts. A given core
    set counts by its contents, in place of the rest of the pruning. Arguments as of `open_experts`.
    """
    if (named := objective.trajectory.experts) is not None:
        return Path(named).expanduser()
    training = training_facts(settings, objective, data)
    facts = [training, pruning(prune), changed(replace(data, cache=None)), seed]
    return Path("runs") / "experts" / io.fingerprint(facts, digits=12)


def expert_path(folder: Path, index: int) -> Path:
    """File of one expert."""
    return folder / f"expert-{index:05d}.safetensors"


def missing_experts(folder: Path, count: int) -> list[int]:
    """Those of the first `count` experts that are not in a folder."""
    return [index for index in range(count) if not expert_path(folder, index).is_file()]


# ---- What experts depend on ----


def training_facts(settings: Experts, objective: ObjectiveSettings, data: Data) -> dict[str, Any]:
    """Facts of the trainings, but for their number."""
    facts = {"network": objective.network, "resolution": data.resolution, **asdict(settings)}
    del facts["count"]
    return facts


def pruning(prune: Prune) -> dict[str, Any]:
    """How the core set comes about: settings that are not at their defaults, or the file's hash."""
    if prune.coreset is None:
        return changed(prune)
    try:
        return {"coreset": io.file_hash(Path(prune.coreset))[:16]}
    except OSError as error:
        raise InputError(f"cannot read prune.coreset={prune.coreset}: {error}.") from error


def data_facts(coreset: Dataset, normalization: Preprocessing) -> dict[str, Any]:
    """Facts of experts that only the open data show."""
    return {
        "coreset": coreset.hash,
        "class_names": list(coreset.class_names),
        "normalization": normalization.facts(),
    }


def changed(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults, so that new ones change nothing."""
    plain, found = type(settings)(), {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(plain, field.name):
            found[field.name] = changed(value) if is_dataclass(value) else value
    return found


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Facts of the experts in a folder; None where it has none."""
    path = folder / MANIFEST
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
    io.write_json(folder / MANIFEST, {**facts, **(read_manifest(folder) or {})})


def require_same(folder: Path, manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Refuse experts whose `manifest` has other facts than these."""
    for key, value in io.as_read_back(dict(facts)).items():
        if manifest.get(key) != value:
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
