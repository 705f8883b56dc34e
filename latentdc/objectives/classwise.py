"""Objectives that are a sum over classes, each met by its real images under one random student."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from latentdc import draws
from latentdc.augment.dsa import Draw, augment, augment_classes, draw_augmentation
from latentdc.autograd import with_gradients
from latentdc.images import Preprocessing
from latentdc.networks.base import Network
from latentdc.objectives.base import RealBatch
from latentdc.objectives.chunks import at_once, packs
from latentdc.objectives.effects import Effects, Form
from latentdc.objectives.students import Students

Match = Callable[[Network, Iterable[Tensor], Sequence[Tensor], Sequence[int]], Tensor]
"""(student, real, synthetic, labels) -> () loss of some classes, each with its entry in all three.

Images are normalised and augmented; real ones are drawn when their turn comes.
"""


class Classwise:
    """Per class one real batch and one augmentation, for real and synthetic images alike.

    Args:
        match: loss of some classes.
        effect: of each real image of a class on the gradient of that loss.
        students: who compares.
        normalization: of real and synthetic images alike.
        augmentation: DSA strategy, or None.
        seed: of all draws.
    """

    sums_classes = True

    def __init__(
        self,
        match: Match,
        effect: Effects,
        students: Students,
        *,
        normalization: Preprocessing,
        augmentation: str | None,
        seed: int,
    ) -> None:
        self.match = match
        self.effect = effect
        self.ready: tuple[int, Network] | None = None  # the student of a step that has begun
        self.students = students
        self.normalization = normalization
        self.augmentation = augmentation
        self.seed = seed

    @property
    def num_classes(self) -> int:
        """Of the data set that it was built for."""
        return self.students.num_classes

    @property
    def resolution(self) -> int:
        """Of the images that it was built for, in pixels."""
        return self.students.resolution

    @property
    def scope(self) -> Literal["class", "set"]:
        """See `Objective.scope`."""
        return "set" if self.students.see_all_classes else "class"

    @with_gradients
    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """See `Objective.accumulate`."""
        student = self._student(step, synthetic, labels, real)
        self.ready = None
        total = torch.zeros((), device=synthetic.device)
        classes, counts = labels.unique_consecutive(return_counts=True)
        remaining = iter(classes.tolist())
        for made in packs(synthetic.split(counts.tolist()), at_once(synthetic)):
            together = list(islice(remaining, len(made)))
            drawn = [self._draw(step, label) for label in together]
            genuine = self._real(step, together, drawn, real)
            loss = self.match(student, genuine, self._treated(made, drawn), together)
            loss.backward(inputs=[synthetic])
            total += loss.detach()
        return total

    @with_gradients
    def effects(
        self,
        step: int,
        synthetic: Tensor,
        labels: Tensor,
        real: RealBatch,
        *,
        classes: Collection[int],
        form: Form,
    ) -> Iterator[Tensor]:
        """See `Separable.effects`; in float32 under autocast too."""
        student = self._student(step, synthetic, labels, real)
        self.ready = (step, student)
        for label in classes:
            treat = partial(self._treat, draw=self._draw(step, label))
            made = synthetic.detach()[labels == label]
            with torch.autocast(synthetic.device.type, enabled=False):
                genuine = treat(real(step, label))
                lengths = self.effect(student, genuine, made, treat, label, form)
            yield lengths

    def state(self) -> dict[str, Tensor]:
        """A student that lives on."""
        return self.students.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective.restore`."""
        self.students.restore(state)

    def _student(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Network:
        """Of a step, once: the one whose effects were looked at, or a new one."""
        if self.ready is not None and self.ready[0] == step:
            return self.ready[1]
        return self.students.of(step, synthetic.detach(), labels, real)

    def _treat(self, images: Tensor, draw: Draw | None) -> Tensor:
        return augment(self.normalization(images), draw)

    def _draw(self, step: int, label: int) -> Draw | None:
        source = draws.generator(self.seed, "augment", step, label)
        return draw_augmentation(self.augmentation, source)

    def _real(
        self, step: int, labels: Sequence[int], drawn: Sequence[Draw | None], real: RealBatch
    ) -> Iterator[Tensor]:
        """Real images of each class, treated as its synthetic ones."""
        for label, draw in zip(labels, drawn, strict=True):
            yield self._treat(real(step, label), draw)

    def _treated(self, parts: Sequence[Tensor], drawn: Sequence[Draw | None]) -> Sequence[Tensor]:
        """Synthetic images of each class, normalised and augmented together."""
        counts = [len(part) for part in parts]
        together = self.normalization(torch.cat(list(parts)))
        treated: Sequence[Tensor] = augment_classes(together, drawn, counts).split(counts)
        return treated
