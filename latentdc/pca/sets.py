"""The sets of a PCA run: made once, kept in its folder, found there by a later call."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import __version__, runtime
from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.images import Normalization
from latentdc.pca.mosaics import arrange, mosaics
from latentdc.pca.originals import decoded_pictures, whole_pictures
from latentdc.pca.pruned import ranked_rows
from latentdc.pca.rded import note_blindness, rded_images
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import prune_dataset
from latentdc.prune.scorers import Classifier
from latentdc.published import without_paths
from latentdc.recipe import Recipe
from latentdc.run import shared_recipe
from latentdc.run_folder import CORESET
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic import folder as layout


class Sets:
    """Makes the sets of one run.

    Args:
        recipe: resolved, its `prune.count` being what the mosaics take.
        name: of the recipe.
        folder: of the run.
        train: all training images.
        test: shows whether the scorer is any good.
        teacher: gives RDED's teacher and its accuracy on real images.
        scores: folder of the scores, the run's own or one that several runs share.
        accelerator: of this process.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        folder: Path,
        train: Dataset,
        test: Dataset,
        *,
        teacher: Callable[[], tuple[Classifier, float]],
        scores: Path,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._name, self._folder = recipe, name, folder
        self._train, self._test, self._accelerator = train, test, accelerator
        self._teacher, self._scores = teacher, scores
        self._normalization = Normalization(recipe.data.mean, recipe.data.std)
        self._labels = torch.arange(train.num_classes).repeat_interleave(recipe.ipc)

    def make(self, kind: Literal["pruned", "synthetic", "rded"]) -> SyntheticSet:
        """The set of that name, on every process; the main process saves it."""
        made = {"pruned": self._pruned, "synthetic": self._combined, "rded": self._cropped}[kind]
        facts = self._facts(kind)
        path = self._folder / kind
        if runtime.broadcast(self._accelerator, layout.is_set(path)):
            kept = SyntheticSet.from_pretrained(path)
            if all(kept.provenance.get(key) == value for key, value in facts.items()):
                return kept
        fresh = made(facts)
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            fresh.save_pretrained(path, recipe=shared_recipe(self._recipe))
        self._accelerator.wait_for_everyone()
        return SyntheticSet.from_pretrained(path)  # the main process's, to the last bit

    def coreset(self) -> Coreset:
        """The images that the mosaics are made of, kept in the run folder."""
        path = self._folder / CORESET
        if runtime.broadcast(self._accelerator, path.is_file()):
            return Coreset.load(path, self._train)
        kept = self._chosen(self._recipe)
        if self._accelerator.is_main_process:
            kept.save(path)
        self._accelerator.wait_for_everyone()
        return Coreset.load(path, self._train)

    def _chosen(self, recipe: Recipe) -> Coreset:
        return prune_dataset(
            self._train,
            recipe.prune,
            self._test,
            normalization=self._normalization,
            seed=recipe.seed,
            accelerator=self._accelerator,
            folder=self._scores,
        )

    def _pruned(self, facts: dict[str, object]) -> SyntheticSet:
        """P: whole images at full size, as many as there are mosaics."""
        recipe = self._recipe
        fewer = replace(recipe, prune=replace(recipe.prune, count=recipe.ipc))
        kept = self.coreset() if recipe.prune.coreset is not None else self._chosen(fewer)
        rows = ranked_rows(kept, self._train, recipe.ipc, recipe.prune.order).flatten()
        return self._set(self._train.images[rows], 1, facts)

    def _combined(self, facts: dict[str, object]) -> SyntheticSet:
        """P+C: mosaics of whole images."""
        recipe, spec, train = self._recipe, self._recipe.combine, self._train
        needed = spec.grid**2 * recipe.ipc
        best = ranked_rows(self.coreset(), train, needed, recipe.prune.order)
        square = spec.fit == "center"
        picture = decoded_pictures(train) if square else whole_pictures(recipe.data, train)
        rows = torch.cat([self._arranged(ranks, label) for label, ranks in enumerate(best)])
        pictures = map(picture, rows.flatten().tolist())
        images = mosaics(pictures, spec.grid, train.resolution, spec.fit)
        return self._set(images, spec.grid, facts)

    def _cropped(self, facts: dict[str, object]) -> SyntheticSet:
        """RDED: mosaics of realistic crops, or the crops themselves."""
        recipe = self._recipe
        teacher, accuracy = self._teacher()
        grid = recipe.combine.grid if recipe.rded.mosaic else 1
        images, recognised = rded_images(
            self._train,
            teacher,
            recipe.rded,
            grid=grid,
            ipc=recipe.ipc,
            mean=recipe.prune.scorer.mean or recipe.data.mean,
            seed=recipe.seed,
            device=self._accelerator.device,
        )
        if self._accelerator.is_main_process:
            note_blindness(recognised, self._train.num_classes)
        found = {"teacher_accuracy": accuracy, "teacher_accuracy_on_crops": recognised}
        return self._set(images, grid, {**facts, **found})

    def _arranged(self, ranks: Tensor, label: int) -> Tensor:
        spec = self._recipe.combine
        source = generator(self._recipe.seed, "mosaic order", label)
        return arrange(ranks, spec.grid, spec.order, source)

    def _set(self, images: Tensor, grid: int, facts: dict[str, object]) -> SyntheticSet:
        return SyntheticSet(
            images, self._labels, self._train.class_names, grid=grid, provenance=facts
        )

    def _facts(self, kind: str) -> dict[str, object]:
        """What decides a set, in JSON's types, without paths of this machine."""
        recipe = without_paths(self._recipe)
        parts: dict[str, Callable[[], object]] = {
            "prune": lambda: {"score": recipe.prune.score, "order": recipe.prune.order},
            "combine": lambda: asdict(recipe.combine),
            "rded": lambda: {**asdict(recipe.rded), "scale": list(recipe.rded.scale)},
        }
        wanted = {"pruned": ["prune"], "synthetic": ["prune", "combine"], "rded": ["rded"]}[kind]
        return {
            "method": {"pruned": "P", "synthetic": "PCA", "rded": "RDED"}[kind],
            "dataset": recipe.data.source,
            "resolution": recipe.data.resolution,
            "recipe": self._name,
            "ipc": recipe.ipc,
            "seed": recipe.seed,
            **{part: parts[part]() for part in wanted},
            "latentdc": __version__,
        }
