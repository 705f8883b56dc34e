"""What distillation optimises: the latents, conditions and fixed noise of some classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdc import draws
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.priors.base import Prior
from latentdc.priors.loading import match_classes


@dataclass(frozen=True, eq=False)
class Latents:
    """The synthetic images of the classes that one process owns, class by class.

    Attributes:
        z: (N, *latent_shape) float32 leaf.
        c: (N, T, D) float32 leaf, or None where the prior has no condition.
        noise: (N, *latent_shape) fixed, or None where the prior needs none.
        labels: (N,) in class-major order, on the CPU.
    """

    z: Tensor
    c: Tensor | None
    noise: Tensor | None
    labels: Tensor

    def decode(self, prior: Prior) -> Tensor:
        """(N, 3, H, W) images in [-1, 1]."""
        return prior.decode(self.z, self.c, self.noise)


def own_classes(num_classes: int, process: int, processes: int) -> range:
    """The contiguous share of the classes that a process owns; shares differ by one at most."""
    share = torch.arange(num_classes).tensor_split(processes)[process]
    return range(int(share[0]), int(share[-1]) + 1)


def check_fit(
    names: tuple[str, ...], counts: Sequence[int], prior: Prior, *, ipc: int, processes: int
) -> None:
    """Refuse what can only be known once the data and the prior are open.

    Args:
        names: of the classes.
        counts: images of each class in the core set.
        prior: must know the classes.
        ipc: wanted images per class.
        processes: that share the classes.

    Raises:
        InputError: fewer core-set images in a class than `ipc`, more processes than classes,
            or classes that the prior does not know.
    """
    smallest = min(range(len(names)), key=lambda label: counts[label])
    if ipc > counts[smallest]:
        raise InputError(
            f"ipc={ipc} is above the smallest class of the core set: {names[smallest]!r} has "
            f"{counts[smallest]} images; lower ipc or raise prune.keep."
        )
    if processes > len(names):
        raise InputError(
            f"{processes} processes share {len(names)} classes; start at most {len(names)}."
        )
    match_classes(names, prior)


@torch.no_grad()
def initial_latents(
    coreset: Dataset,
    prior: Prior,
    classes: range,
    *,
    ipc: int,
    seed: int,
    from_noise: bool = False,
    device: torch.device | str = "cpu",
) -> Latents:
    """Encoded core-set images, no image twice, and rows of the class embedding.

    Every draw is keyed by its class, so that a process needs to know only its own.

    Args:
        coreset: real images to start from.
        prior: encodes them.
        classes: to start.
        ipc: images per class.
        seed: of all draws.
        from_noise: draw z from a standard normal instead of encoding.
        device: of the latents.
    """
    place = match_classes(coreset.class_names, prior)
    z, c, noise = [], [], []
    shape = (ipc, *prior.latent_shape)
    for label in classes:
        if from_noise:
            z.append(torch.randn(shape, generator=draws.generator(seed, "z", label)).to(device))
        else:
            members = coreset.members(label)
            source = draws.generator(seed, "start", label)
            chosen = members[draws.choose(len(members), ipc, source)]
            z.append(prior.encode(from_uint8(coreset.images[chosen].to(device))))
        start = prior.condition(place[label].repeat(ipc).to(device))
        if start is not None:
            c.append(start)
        if prior.has_noise:
            draw = torch.randn(shape, generator=draws.generator(seed, "noise", label))
            noise.append(draw.to(device))
    return Latents(
        z=torch.cat(z).float().requires_grad_(),
        c=torch.cat(c).float().requires_grad_() if c else None,
        noise=torch.cat(noise) if noise else None,
        labels=torch.tensor(list(classes)).repeat_interleave(ipc),
    )
