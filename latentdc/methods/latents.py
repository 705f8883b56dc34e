"""What matching optimises: latents, conditions and fixed noise, and which classes have their turn.

Mini-batches of classes are stratified: the classes, in label order, are cut into as many runs of
neighbours as a step has classes, and a step takes one class of each run. Inside a run the order is
drawn anew for each epoch, an epoch being as many steps as meet every class once. The choice is
keyed by (seed, step) and knows nothing of processes, so that any number of them computes the same;
and because a process owns neighbours too, its share of every step is its share of the classes, to
within one at either end. Objectives of scope `class` are sums over classes, so that it does not
matter which of them meet.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from latentdc import draws
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.images import as_floats
from latentdc.methods.context import ByClass, State
from latentdc.priors.base import Prior, require_finite, require_latents
from latentdc.priors.classes import match_classes

ENCODED = 16  # images that are encoded, or latents inverted, together
_KNOWN = "known."  # of the real images of a class, in names of saved tensors

PerClass = tuple[Tensor, ...]  # one tensor per class


@dataclass(frozen=True, eq=False)
class Latents:
    """The synthetic images of the classes that one process owns.

    Every class has leaves of its own, so that a step over some classes costs nothing for the
    others, and their momentum stays as it is.

    Attributes:
        classes: ascending labels.
        ipc: images of each.
        z: for each class (ipc, *latent_shape), a float32 leaf.
        c: for each class (ipc, T, D), a float32 leaf; None where the prior has no condition.
        noise: for each class (ipc, *latent_shape), fixed; None where the prior needs none.
    """

    classes: tuple[int, ...]
    ipc: int
    z: PerClass
    c: PerClass | None
    noise: PerClass | None

    @property
    def labels(self) -> Tensor:
        """(N,) class of each image, in class-major order, on the CPU."""
        return torch.tensor(self.classes, dtype=torch.int64).repeat_interleave(self.ipc)

    def pick(self, classes: Collection[int]) -> "Latents":
        """The latents of those of `classes` that are here; the tensors are shared."""
        wanted = set(classes)
        here = [place for place, label in enumerate(self.classes) if label in wanted]

        def some(parts: PerClass | None) -> PerClass | None:
            return None if parts is None else tuple(parts[place] for place in here)

        picked = some(self.z)
        assert picked is not None
        labels = tuple(self.classes[place] for place in here)
        return Latents(labels, self.ipc, picked, some(self.c), some(self.noise))

    def decode(self, prior: Prior) -> Tensor:
        """(N, 3, H, W) images in [-1, 1], or (N, D) vectors."""
        return prior.decode(torch.cat(self.z), _joined(self.c), _joined(self.noise))


def _joined(parts: PerClass | None) -> Tensor | None:
    """The tensors of all classes as one."""
    return None if parts is None else torch.cat(parts)


def class_sizes(real: Dataset) -> dict[str, int]:
    """Different images of each class, by its name."""
    return dict(zip(real.class_names, real.different_counts(), strict=True))


def require_enough_images(counts: Mapping[str, int], ipc: int) -> None:
    """Refuse a core set with fewer different images in a class than `ipc`."""
    name = min(counts, key=counts.__getitem__)
    if ipc > counts[name]:
        raise InputError(
            f"ipc={ipc} is above the smallest class of the core set: {name!r} has "
            f"{counted(counts[name], 'image')} (exact repeats count once); lower ipc or raise "
            "prune.keep."
        )


@torch.no_grad()
def initial_latents(
    coreset: Dataset,
    prior: Prior,
    classes: Sequence[int],
    *,
    ipc: int,
    seed: int,
    from_noise: bool = False,
    given: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Latents:
    """Encoded core-set images, no image twice, and rows of the class embedding.

    Every draw is keyed by its class, so that a process needs to know only its own. In place of
    encoding images z is drawn from a standard normal (`from_noise`), or taken from `given`, the z
    of all classes, class by class.
    """
    place = match_classes(coreset.class_names, prior)

    def normal(key: str) -> PerClass:
        shape = (ipc, *prior.latent_shape)
        return tuple(
            torch.randn(shape, generator=draws.generator(seed, key, label)).to(device)
            for label in classes
        )

    def start(label: int) -> Tensor | None:
        return prior.condition(place[label].repeat(ipc).to(device))

    if given is not None:
        count = ipc * coreset.num_classes
        given = require_finite(require_latents(given, prior.latent_shape, count=count), "z")
        z: PerClass = tuple(given[label * ipc : (label + 1) * ipc].to(device) for label in classes)
    elif from_noise:
        z = normal("z")
    else:
        z = _encoded(coreset, prior.encode, classes, ipc, seed, device)
    starts = [condition for label in classes if (condition := start(label)) is not None]
    return Latents(
        classes=tuple(classes),
        ipc=ipc,
        z=leaves(z),
        c=leaves(starts) if starts else None,
        noise=normal("noise") if prior.has_noise else None,
    )


def _encoded(
    coreset: Dataset,
    encode: Callable[[Tensor], Tensor],
    classes: Sequence[int],
    ipc: int,
    seed: int,
    device: torch.device | str,
) -> PerClass:
    """`ipc` different images of each class, encoded some at a time whatever their classes."""
    rows = []
    for label in classes:
        members = coreset.different(label)
        rows.append(members[draws.choose(len(members), ipc, draws.generator(seed, "start", label))])
    latents = [
        encode(as_floats(coreset.images[some].to(device)))
        for some in torch.cat(rows).split(ENCODED)
    ]
    parts: PerClass = torch.cat(latents).split(ipc)
    return parts


def leaves(parts: Sequence[Tensor]) -> PerClass:
    """Copies of their own that an optimiser can move."""
    dense = torch.contiguous_format  # a convolution over one point may give channels-last latents
    return tuple(p.detach().float().clone(memory_format=dense).requires_grad_() for p in parts)


def tensors_by_class(latents: Latents, optimizer: torch.optim.Optimizer, known: ByClass) -> ByClass:
    """What is saved of each class: latents, momentum, and what is known of its real images."""
    saved: ByClass = {
        label: {_KNOWN + name: tensor for name, tensor in known.get(label, {}).items()}
        for label in latents.classes
    }
    for name, parts in (("z", latents.z), ("c", latents.c), ("noise", latents.noise)):
        for label, part in zip(latents.classes, parts or (), strict=False):
            saved[label][name] = part
            for key, value in optimizer.state.get(part, {}).items():
                if isinstance(value, Tensor):  # momentum, and what Adam keeps
                    saved[label][f"{name}.{key}"] = value
    return {
        label: {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        for label, tensors in saved.items()
    }


def restored_latents(saved: State, classes: range, device: torch.device) -> Latents:
    """The saved latents of `classes`."""
    found = saved.tensors(classes)

    def parts(name: str) -> PerClass | None:
        here = [found[label].get(name) for label in classes]
        return None if None in here else tuple(t.to(device) for t in here if t is not None)

    z, c = parts("z"), parts("c")
    assert z is not None, f"{saved.place} lacks a class"
    return Latents(tuple(classes), len(z[0]), leaves(z), c and leaves(c), parts("noise"))


def restore_momentum(saved: State, latents: Latents, optimizer: torch.optim.Optimizer) -> None:
    """Give latents the saved momentum, where a step has met them."""
    found = saved.tensors(latents.classes)
    for name, parts in (("z", latents.z), ("c", latents.c)):
        for label, part in zip(latents.classes, parts or (), strict=False):
            for key, value in found[label].items():
                if key.startswith(f"{name}."):
                    value = value.to(part.device) if value.ndim else value  # Adam's count of steps
                    optimizer.state[part][key.removeprefix(f"{name}.")] = value


def known_images(saved: State, classes: range) -> ByClass:
    """What is known of the real images of `classes`."""
    return {
        label: {
            name.removeprefix(_KNOWN): tensor
            for name, tensor in tensors.items()
            if name.startswith(_KNOWN)
        }
        for label, tensors in saved.tensors(classes).items()
    }


def own_classes(num_classes: int, process: int, processes: int) -> range:
    """The contiguous share of the classes that a process owns; shares differ by one at most."""
    share = torch.arange(num_classes).tensor_split(processes)[process]
    return range(int(share[0]), int(share[-1]) + 1)


def require_shared(classes: int, processes: int) -> None:
    """Refuse more processes than classes, of which each owns one at least."""
    if processes > classes:
        raise InputError(f"{processes} processes share {classes} classes; start at most {classes}.")


def step_classes(num_classes: int, per_step: int | None, step: int, seed: int) -> tuple[int, ...]:
    """Ascending labels of the classes that a step moves.

    At most `per_step`, and fewer in the last step of an epoch; None takes all, always.
    """
    if per_step is None:
        return tuple(range(num_classes))
    epoch, place = divmod(step, -(-num_classes // per_step))
    return _epoch(num_classes, per_step, epoch, seed)[place]


@lru_cache(maxsize=2)
def _epoch(num_classes: int, per_step: int, epoch: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """The classes of every step of an epoch, each class once."""
    source = draws.generator(seed, "classes", epoch)
    strata = torch.arange(num_classes).tensor_split(per_step)
    orders = [run[torch.randperm(len(run), generator=source)].tolist() for run in strata]
    return tuple(
        tuple(order[place] for order in orders if place < len(order))
        for place in range(-(-num_classes // per_step))
    )


def most_together(num_classes: int, per_step: int | None, processes: int) -> int:
    """Classes that a process moves in one step, at most: its own, and one of each run at most."""
    shares = [own_classes(num_classes, process, processes) for process in range(processes)]
    runs = torch.arange(num_classes).tensor_split(per_step or num_classes)
    ends = [(int(run[0]), int(run[-1])) for run in runs]
    return max(sum(own.start <= e and s < own.stop for s, e in ends) for own in shares)
