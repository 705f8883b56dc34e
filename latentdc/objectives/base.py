"""The seam between the distillation loop and what it minimises."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

RealBatch = Callable[[int, int], Tensor]
"""(step, label) -> (B, 3, H, W) real images of one class in [-1, 1]."""

LEARNED_LR = "learned_lr"  # in the state of an objective


class Objective(Protocol):
    """A loss that synthetic images get for behaving unlike real ones.

    Attributes:
        sums_classes: whether the loss is a sum over classes, and so noted per class.
    """

    sums_classes: bool

    @property
    def scope(self) -> Literal["class", "set"]:
        """Which synthetic images one call must see.

        `class`: any number of whole classes, the loss being a sum over them, so that each process
        works on its own. `set`: all images, gathered from all processes, because classes act on
        each other (DC's inner loop, MTT); every process then computes the same.
        """

    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """Add the loss's gradient to `synthetic.grad`.

        Args:
            step: index of the distillation step, which keys every draw.
            synthetic: (N, 3, H, W) images in [-1, 1], a leaf that requires gradients.
            labels: (N,) their classes, in class-major order, on the CPU.
            real: real images by step and class.

        Returns:
            () loss, detached.
        """

    def state(self) -> dict[str, Tensor]:
        """What the objective itself learns or trains, for checkpoints; {} for most.

        The same in every process. `LEARNED_LR`, () the learning rate of students, is also noted in
        the journal and kept with the synthetic set.
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
        form: Literal["taylor", "bound"],
    ) -> Iterator[Tensor]:
        """How far each real image of a step moves the gradient at the synthetic images.

        To be used up before `accumulate` of the same step, under the same student and draws.

        Args:
            step: as in `Objective.accumulate`, like the next three.
            synthetic: (N, 3, H, W).
            labels: (N,).
            real: real images by step and class, at least two of each class.
            classes: to look at.
            form: see `latentdc.objectives.effects.Form`.

        Yields:
            For each of `classes` (B,) lengths, in the order of its real images.
        """
