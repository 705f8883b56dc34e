"""Expert trajectories on disk: one safetensors file per expert, and a manifest of their making.

Each weight is one tensor whose first dimension counts epochs, so that a step of trajectory matching
reads the two epochs that it needs and no more.
"""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentdc.data.dataset import Dataset, hash_samples
from latentdc.errors import InputError
from latentdc.experts.buffers import ReplayBuffers, buffer_files
from latentdc.experts.manifest import (
    CORESET,
    MANIFEST,
    expert_path,
    experts_folder,
    facts_of,
    read_manifest,
    require_same,
)
from latentdc.images import Preprocessing
from latentdc.io import load_tensors
from latentdc.recipe import Recipe


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
        return self.folder / CORESET

    def weights(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """Of one expert after so many epochs, by name, float32 on the CPU.

        Raises:
            InputError: its file is damaged.
        """
        path = expert_path(self.folder, expert)
        try:
            with safe_open(path, "pt") as file:
                return {
                    name: file.get_slice(name)[epoch : epoch + 1].squeeze(0).float()
                    for name in file.keys()
                }
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from error

    def fit(self, train: Dataset, normalization: Preprocessing) -> None:
        """Read every file once; what experts fit their manifest tells, see `require_data`.

        Raises:
            InputError: one is not as it was written.
        """
        for expert in range(self.count):
            path = expert_path(self.folder, expert)
            try:
                load_tensors(path)
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


def open_experts(recipe: Recipe) -> ExpertFiles | ReplayBuffers:
    """The experts that a recipe follows, checked by all that can be known without its data.

    A folder without a manifest of ours may hold replay buffers of MTT.

    Raises:
        InputError: some are missing, or they were made otherwise.
    """
    folder, count = experts_folder(recipe), recipe.experts.count
    manifest = read_manifest(folder)
    if manifest is not None:
        require_same(folder, manifest, facts_of(recipe))
    elif buffers := buffer_files(folder):
        return ReplayBuffers(buffers, recipe)
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


def missing_experts(folder: Path, count: int) -> list[int]:
    """Those of the first `count` experts that are not in a folder."""
    return [index for index in range(count) if not expert_path(folder, index).is_file()]


def data_facts(coreset: Dataset, normalization: Preprocessing) -> dict[str, object]:
    """Facts of experts that only the open data show."""
    return {
        "coreset": hash_samples(coreset.hashes, coreset.labels, coreset.class_names),
        "class_names": list(coreset.class_names),
        "normalization": normalization.facts(),
    }


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is damaged ({error}); remove it, and train it again with `latentdc experts "
        "RECIPE` and the same overrides."
    )
