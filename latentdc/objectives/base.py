"""The seam between a method and what it minimises, and how many images a network is given at once.

Networks here treat each image alone (their norms are by instance, or frozen), so that how images
are cut changes results by rounding only.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from latentdc.io import fingerprint
from latentdc.networks.base import Weights
from latentdc.preprocessing import Preprocessing
from latentdc.priors.base import Prior
from latentdc.recipe import ObjectiveSettings, identity

RealBatch = Callable[[int, int], Tensor]
"""(step, label) -> (B, 3, H, W) real images of one class in [-1, 1]."""

EffectForm = Literal["taylor", "bound"]
"""How far a real image moves the gradient, see `latentdc.objectives.effects`: to first order, or
bounded up to a factor that all images of a class share."""

LEARNED_LR = "learned_lr"  # in the state of an objective
PIXELS_CPU = 2**15  # 32 images of 32 px, whose feature maps stay in the caches
PIXELS_GPU = 2**21  # 32 images of 256 px: about 4 GB of a ConvNet's feature maps with a graph


class ExpertWeights(Protocol):
    """Weights of networks on their way through a training on real images."""

    @property
    def count(self) -> int:
        """Number of experts."""

    def weights(self, expert: int, epoch: int) -> Weights:
        """Weights of one expert after so many epochs, by name, float32 on the CPU."""


@dataclass(frozen=True)
class ObjectiveRequest:
    """What an objective is built for, beside its settings; see `build_objective`."""

    num_classes: int
    resolution: int
    normalization: Preprocessing
    experts: ExpertWeights | None
    prior: Prior | None
    class_names: Sequence[str]
    seed: int

    @property
    def sizes(self) -> dict[str, int]:
        """What networks are made for."""
        return {"num_classes": self.num_classes, "resolution": self.resolution}


def identity_of(
    settings: ObjectiveSettings, request: ObjectiveRequest, experts: object = None
) -> str:
    """16 hex digits of what decides the loss of an objective; experts say theirs, if they can."""
    facts = identity.facts_of(
        replace(settings, batch=1, trajectory=replace(settings.trajectory, experts=None))
    )
    told = {"settings": facts, "seen": request.normalization.facts(), "seed": request.seed}
    if (followed := getattr(experts, "identity", None)) is not None:
        told["experts"] = followed
    return fingerprint(told)


class Objective(Protocol):
    """A loss that synthetic images get for behaving unlike real ones.

    Attributes:
        sums_classes: whether the loss is a sum over classes, and so noted per class.

    Those that `build_objective` makes also have `batch`, real images per class and step,
    `num_classes` and `resolution`, which the core set's are compared with, `network`, the name of
    the students that it trains on or compares by, which the set keeps, and `identity`, of what
    decides the loss: a run is continued with the same alone. One that judges latents in place of
    the images that they decode to has `space`, the prior whose latents they are.
    """

    sums_classes: bool

    @property
    def scope(self) -> Literal["class", "set"]:
        """Which synthetic images one call must see.

        `class`: any number of whole classes, the loss being a sum over them, so that each process
        works on its own, and on some classes after others of the same step. `set`: all images,
        gathered from all processes, because classes act on each other (DC's inner loop, MTT);
        every process then computes the same.
        """

    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """Add the loss's gradient to `synthetic.grad`.

        Args:
            step: index of the distillation step, which keys every draw; trials of rates have
                indices from 2**31 on.
            synthetic: (N, 3, H, W) images in [-1, 1], a leaf that requires gradients.
            labels: (N,) their classes, in class-major order, on the CPU.
            real: real images by step and class.

        Returns:
            () loss, detached.
        """

    def state(self) -> dict[str, Tensor]:
        """What the objective itself learns or trains, for checkpoints; {} for most.

        The same in every process. `LEARNED_LR`, () the learning rate of students, is also noted in
        the log and kept with the synthetic set.
        """

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""


@runtime_checkable
class Separable(Protocol):
    """An objective that sees the real images of a class through a mean alone.

    So what each of them does can be told apart, and batches be trimmed by it.
    """

    def effects(
        self,
        step: int,
        synthetic: Tensor,
        labels: Tensor,
        real: RealBatch,
        *,
        classes: Collection[int],
        form: EffectForm,
    ) -> Iterator[Tensor]:
        """How far each real image of a step moves the gradient at the synthetic images.

        To be used up before `accumulate` of the same step, whose arguments, student and draws it
        has; `real` gives at least two images of each class.

        Yields:
            For each of `classes` (B,) lengths, in the order of its real images.
        """


def at_once(images: Tensor) -> int:
    """Images of this size (..., H, W), or vectors (N, D), that a network is given at once."""
    pixels = PIXELS_CPU if images.device.type == "cpu" else PIXELS_GPU
    height = images.shape[-2] if images.ndim > 2 else 1
    return max(1, pixels // (images.shape[-1] * height))


def packs(parts: Iterable[Tensor], limit: int) -> Iterator[list[Tensor]]:
    """Neighbours of up to `limit` rows together; a part that has more rows comes alone."""
    pack: list[Tensor] = []
    for part in parts:
        if pack and sum(map(len, pack)) + len(part) > limit:
            yield pack
            pack = []
        pack.append(part)
    if pack:
        yield pack
