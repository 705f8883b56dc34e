"""Anchors: what is kept of the real latents of a class, to start sampling from or to pull it to.

Cluster centres: Su et al., "D4M: Dataset Distillation via Disentangled Diffusion Model", CVPR 2024,
https://arxiv.org/abs/2407.15138; their masses as weights: Tan and Slade, "Dataset Distillation as
Pushforward Optimal Quantization" (DDOQ), ICLR 2026, https://arxiv.org/abs/2501.07681. Moments of
inverted latents: Zhao et al., "Taming Diffusion for Dataset Distillation with High
Representativeness" (D3HR), ICML 2025, https://arxiv.org/abs/2505.18399; they are inverted here to
the step that sampling starts at, where the released code starts a step before. All draws are keyed
by the class's name, and images come in the order of their hashes, so that neither the order of the
classes nor that of the images matters.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from latentdc.clusters import inliers, k_means
from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.images import as_floats
from latentdc.methods.latents import ENCODED
from latentdc.methods.log import diverged
from latentdc.methods.pools import NONE, gaussian_group
from latentdc.priors.classes import match_classes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.recipe import Sampling


def rows_by_hash(real: Dataset, label: int) -> Tensor:
    """(n,) rows of the different images of a class, in the order of their hashes."""
    rows = real.different(label)
    return rows[real.hashes[rows].argsort(stable=True)]


def encoded(
    real: Dataset, rows: Tensor, encode: Callable[[Tensor], Tensor], device: torch.device
) -> Tensor:
    """(n, C, h, w) latents of images, on the CPU."""
    parts = [encode(as_floats(real.images[some].to(device))) for some in rows.split(ENCODED)]
    return torch.cat([part.float().cpu() for part in parts])


def clustered(
    latents: Tensor, count: int, seed: int, name: str, *, medoids: bool = False
) -> tuple[Tensor, Tensor]:
    """(count, C, h, w) centres of clusters, and (count,) shares of the latents in each.

    Of latents (n, C, h, w) of the class `name`, at least `count`; `medoids` takes the latent
    nearest to each centre in its place.
    """
    points = latents.flatten(1)
    centres, members = k_means(points, count, seed, name)
    masses = members.bincount(minlength=count).clamp_min(1).float()
    if medoids:
        centres = points[torch.cdist(centres, points).argmin(dim=1)]
    return centres.view(count, *latents.shape[1:]), masses / masses.sum()


def moments(
    latents: Tensor, invert: Callable[[Tensor], Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(C, h, w) mean and standard deviation of a class's latents after they were inverted."""
    noisy = [invert(some.to(device)).cpu() for some in latents.split(ENCODED)]
    std, mean = torch.std_mean(torch.cat(noisy), dim=0, correction=0)
    return mean, std


@dataclass(frozen=True)
class ClassLatents:
    """What is kept of the real latents of one class; empty where nothing asks for it.

    Attributes:
        latents: (n, C, h, w) on the CPU, without outliers.
        anchors: (ipc, C, h, w) on the prior's device.
        masses: (ipc,) shares of the latents.
        starts: (n, C, h, w) latents of the anchors' Gaussian, as noisy as the first step.
    """

    latents: Tensor = NONE
    anchors: Tensor = NONE
    masses: Tensor = NONE
    starts: Tensor = NONE


class RealLatents:
    """The latents of each class's real images and their anchors, made when a class is asked for.

    `settings` name the anchors, and what needs latents beside them.
    """

    def __init__(
        self, real: Dataset, prior: DiffusionPrior, settings: Sampling, ipc: int, seed: int
    ) -> None:
        self.real, self.prior, self.settings = real, prior, settings
        self.ipc, self.seed = ipc, seed
        self.prior_labels = match_classes(real.class_names, prior)
        self.of = lru_cache(maxsize=1)(self._of)
        self.clusters = lru_cache(maxsize=1)(self._clusters)
        self.summaries: dict[int, ClassLatents] = {}

    def summary(self, label: int) -> ClassLatents:
        """What is kept of a class, its latents as their mean and deviation alone, (2, C, h, w)."""
        if label not in self.summaries:
            found = self.of(label)
            if len(found.latents):
                moments = torch.std_mean(found.latents, dim=0, correction=0)[::-1]
                found = replace(found, latents=torch.stack(moments))
            self.summaries[label] = found
        return self.summaries[label]

    def _of(self, label: int) -> ClassLatents:
        settings, name = self.settings.anchors, self.real.class_names[label]
        if not self.settings.asks_latents:
            return ClassLatents()
        rows = rows_by_hash(self.real, label)
        if settings.kind == "gaussian":
            source = generator(self.seed, "inverted", name)
            rows = rows[choose(len(rows), settings.inverted, source).sort().values]
        latents = encoded(self.real, rows, self.prior.encode, self.prior.device)
        if not latents.isfinite().all():
            raise diverged(f"encoded images of {name!r} are not finite", "Take other weights")
        latents = latents[inliers(latents.flatten(1), settings.outliers, settings.neighbours)]
        if settings.kind == "gaussian":
            return ClassLatents(latents, starts=self._gaussian(label, latents))
        if settings.kind == "none":
            return ClassLatents(latents)
        medoids = settings.kind == "medoids"
        anchors, masses = clustered(latents, self.ipc, self.seed, name, medoids=medoids)
        return ClassLatents(latents, anchors.to(self.prior.device), masses)

    def _gaussian(self, label: int, latents: Tensor) -> Tensor:
        """(n, C, h, w) draws of the Gaussian of a class's inverted latents."""
        prior, settings = self.prior, self.settings

        def invert(z: Tensor) -> Tensor:
            labels = self.prior_labels[[label]].expand(len(z))
            return prior.invert(z, labels, stop=prior.start_index(settings.strength))

        mean, std = moments(latents, invert, prior.device)
        if not torch.stack([mean, std]).isfinite().all():
            raise diverged(
                f"inverted latents of {self.real.class_names[label]!r} are not finite",
                "Lower prior.guidance, or take other weights",
            )
        source = generator(self.seed, "gaussian", self.real.class_names[label])
        if settings.chooses_noise:
            some = mean.to(prior.device), std.to(prior.device)
            return gaussian_group(*some, self.ipc, settings.select, source)
        count = settings.choice.candidates(self.ipc)
        return mean + std * torch.randn(count, *mean.shape, generator=source)

    def _clusters(self, label: int) -> tuple[Tensor, Tensor]:
        """Centres of a class's latents that `transport` leads to, and their masses."""
        latents, device = self.of(label).latents, self.prior.device
        count = min(self.settings.transport.clusters, len(latents))
        centres, masses = clustered(latents, count, self.seed, self.real.class_names[label])
        return centres.to(device), masses.to(device)
