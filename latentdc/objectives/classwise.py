"""Objectives that are a sum over classes, each met by its real images under one random student.

A student is drawn anew at every step (DM; DC at one image per class; LD3M), or lives through DC's
two loops, as in Alg. 1 of Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching",
ICLR 2021, https://arxiv.org/abs/2006.05929: match and move the images (a step), train on the moved
images for `inner` epochs, match again, and so on, until `outer` steps are done; as in the released
code, the last of them is not followed by a training.

Deviations: dropout is off. The released code freezes the statistics of batch norm as a running
average that has seen one batch of 16 real images per class; here they are that batch's own, of
fewer images where 16 of each class would exceed `PIXELS_GPU` pixels.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from latentdc import draws, training
from latentdc.augment.dsa import Draw, augment, augment_classes, draw_augmentation
from latentdc.errors import InputError
from latentdc.modes import with_gradients
from latentdc.networks.base import Network, batch_norms, disable_dropout
from latentdc.networks.build import new_network, outline
from latentdc.objectives.base import (
    PIXELS_GPU,
    EffectForm,
    ObjectiveRequest,
    RealBatch,
    at_once,
    identity_of,
    packs,
)
from latentdc.objectives.effects import Effects
from latentdc.recipe import Loops, ObjectiveSettings

_FROM_CLASS = 16  # real images of each class that fix the statistics of batch norm
_NO_LOOPS = Loops(outer=1, inner=1)  # another student for each step

Match = Callable[[Network, Iterable[Tensor], Sequence[Tensor], Sequence[int]], Tensor]
"""(student, real, synthetic, labels) -> () loss of some classes, one entry of the last three each.

Images are normalised and augmented; real ones are drawn when their turn comes.
"""


class Classwise:
    """Per class one real batch and one augmentation, for real and synthetic images alike.

    `effect` is that of each real image of a class on the gradient of the loss; None if not known.
    """

    sums_classes = True

    def __init__(self, students: "Students", match: Match, effect: Effects | None) -> None:
        self.students, self.match, self.effect = students, match, effect
        settings, request = students.settings, students.request
        self.batch, self.network = settings.batch, settings.network
        self.num_classes, self.resolution = request.num_classes, request.resolution
        self.period = students.outer  # steps under one student, the first at a multiple of them
        self.identity = identity_of(settings, request)
        self.current: tuple[int, Network] | None = None  # the student of a step that has begun

    @property
    def scope(self) -> Literal["class", "set"]:
        """`set` where the student of a step depends on images of classes besides the compared."""
        students = self.students
        return "set" if students.outer > 1 or students.normalises_batches else "class"

    @with_gradients
    def accumulate(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Tensor:
        """See `Objective.accumulate`."""
        student = self._student(step, synthetic, labels, real)
        self.current = None
        total = torch.zeros((), device=synthetic.device)
        classes, counts = labels.unique_consecutive(return_counts=True)
        remaining = iter(classes.tolist())
        for parts in packs(synthetic.split(counts.tolist()), at_once(synthetic)):
            together = list(islice(remaining, len(parts)))
            drawn = [self._draw(step, label) for label in together]
            pairs = zip(together, drawn, strict=True)
            real_parts = (self.students.see(real(step, label), draw) for label, draw in pairs)
            sizes = [len(part) for part in parts]
            normalised = self.students.normalization(torch.cat(parts))
            inputs = augment_classes(normalised, drawn, sizes)
            loss = self.match(student, real_parts, inputs.split(sizes), together)
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
        form: EffectForm,
    ) -> Iterator[Tensor]:
        """See `Separable.effects`; in float32 under autocast too."""
        if self.effect is None:
            raise InputError("the effect of a real image on this objective is not known.")
        student = self._student(step, synthetic, labels, real)
        self.current = (step, student)
        for label in classes:
            treat = partial(self.students.see, draw=self._draw(step, label))
            images = synthetic.detach()[labels == label]
            with torch.autocast(synthetic.device.type, enabled=False):
                lengths = self.effect(student, treat(real(step, label)), images, treat, label, form)
            yield lengths

    def state(self) -> dict[str, Tensor]:
        """Weights of a student that goes on living after the last step."""
        living = self.students.living
        return {} if living is None else dict(living.state_dict())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Objective.restore`."""
        if state:
            self.students.living = self.students.new(0)
            self.students.living.load_state_dict(dict(state))

    def _student(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Network:
        """The student of a step: the one by which effects were looked at, or a new one."""
        if self.current is not None and self.current[0] == step:
            return self.current[1]
        return self.students.of(step, synthetic.detach(), labels, real)

    def _draw(self, step: int, label: int) -> Draw | None:
        source = draws.generator(self.students.seed, "augment", step, label)
        return draw_augmentation(self.students.settings.augment, source)


class Students:
    """The student of each step, in eval mode; by `loops`, or another one for each step.

    Loops without numbers, or with batches that the network cannot train on, are refused.
    """

    def __init__(
        self, settings: ObjectiveSettings, request: ObjectiveRequest, loops: Loops = _NO_LOOPS
    ) -> None:
        self.settings, self.request, self.loops = settings, request, loops
        self.normalization, self.seed = request.normalization, request.seed
        if loops.outer is None or loops.inner is None:
            raise InputError(
                "the loops of dc have both numbers here, such as Loops(outer=1, inner=1), or "
                f"Loops().resolve(ipc) for DC's own; got outer={loops.outer} and "
                f"inner={loops.inner}."
            )
        self.outer, self.inner = loops.outer, loops.inner
        network, sizes = settings.network, request.sizes
        self.normalises_batches = bool(batch_norms(outline(network, **sizes)))
        self.join = self.outer > 1 and training.joins(
            network, **sizes, count=request.num_classes, batch=loops.batch_syn
        )
        self.living: Network | None = None  # of a run that is not over

    def of(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Network:
        """The student of a step; arguments as of `Objective.accumulate`, `synthetic` detached."""
        run, place = divmod(step, self.outer)
        if place == 0:
            student = self.new(run)
        elif self.living is None:
            raise InputError(
                f"step {step} goes on with a student that the checkpoint does not hold: it was "
                "made with other objective.loops. Give this run a folder of its own."
            )
        else:
            student = self.living
        student.to(synthetic.device)
        if place > 0:
            self._train(student, step, synthetic, labels)
        if self.normalises_batches:
            self._fix_statistics(student, step, real)
        self.living = student if place + 1 < self.outer else None
        return student.eval()

    def new(self, run: int) -> Network:
        """The student that a run of steps begins with."""
        return new_network(self.settings.network, run, **self.request.sizes, seed=self.seed)

    def see(self, images: Tensor, draw: Draw | None) -> Tensor:
        """Images in [-1, 1] as students see them: normalised and augmented."""
        return augment(self.normalization(images), draw)

    def _train(self, student: Network, step: int, images: Tensor, labels: Tensor) -> None:
        """`inner` epochs of SGD on all synthetic images."""
        disable_dropout(student)
        labels = labels.to(images.device)
        loops, strategy = self.loops, self.settings.augment

        def loss(forward: training.Forward, batch: training.Batch) -> Tensor:
            rows = batch.rows.to(images.device)
            logits = forward(self.see(images[rows], batch.draw))
            return cross_entropy(logits, labels[rows])

        optimizer = torch.optim.SGD(student.parameters(), lr=loops.lr_student)
        for epoch in range(self.inner):
            keys = ("student", step, epoch)
            batches = training.epoch_batches(
                len(images), loops.batch_syn, strategy, self.seed, *keys, join=self.join
            )
            for _ in training.fit(student, batches, loss, optimizer):
                pass

    @torch.no_grad()
    def _fix_statistics(self, student: Network, step: int, real: RealBatch) -> None:
        """Give batch norms mean and variance of real images of all classes."""
        classes, resolution = self.request.num_classes, self.request.resolution
        each = max(1, min(_FROM_CLASS, PIXELS_GPU // (classes * resolution**2)))
        images = torch.cat([real(step, label)[:each] for label in range(classes)])
        for norm in batch_norms(student):
            norm.reset_running_stats()
            norm.momentum = None  # the average over all batches since, of which there is one
        disable_dropout(student)
        student(self.normalization(images))
