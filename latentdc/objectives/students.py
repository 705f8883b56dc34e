"""The random students under which real and synthetic images are compared, and how long each lives.

A student is drawn anew at every step (DM; DC at one image per class; LD3M), or lives through DC's
two loops, as in Alg. 1 of Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching",
ICLR 2021, https://arxiv.org/abs/2006.05929: match and move the images (a step), train on the moved
images for `inner` epochs, match again, and so on, until `outer` steps are done; as in the released
code, the last of them is not followed by a training.

Deviations: dropout is off. The released code freezes the statistics of batch norm as a running
average that has seen one batch of 16 real images per class; here they are that batch's own, of
fewer images where 16 of each class would exceed `PIXELS_GPU` pixels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from latentdc.augment.dsa import augment
from latentdc.errors import InputError
from latentdc.images import Preprocessing
from latentdc.networks.base import Network
from latentdc.networks.build import new_network, outline
from latentdc.networks.modes import batch_norms, without_chance
from latentdc.objectives.base import RealBatch
from latentdc.objectives.chunks import PIXELS_GPU
from latentdc.recipe import Loops
from latentdc.training import Batch, Forward, epoch_batches, fit, joins

FROM_CLASS = 16  # real images of each class that fix the statistics of batch norm


class Students:
    """The student of each step, in eval mode.

    Args:
        network: name of the student.
        num_classes: of the data set.
        resolution: of the images, in pixels.
        normalization: of real and synthetic images alike.
        augmentation: DSA strategy of the training on synthetic images, or None.
        loops: how long a student lives, resolved.
        seed: of all draws.
    """

    def __init__(
        self,
        network: str,
        *,
        num_classes: int,
        resolution: int,
        normalization: Preprocessing,
        augmentation: str | None,
        loops: Loops,
        seed: int,
    ) -> None:
        assert loops.outer is not None and loops.inner is not None, "resolve() gives both"
        self.network = network
        self.num_classes = num_classes
        self.resolution = resolution
        self.normalization = normalization
        self.augmentation = augmentation
        self.loops = loops
        self.outer, self.inner = loops.outer, loops.inner
        self.seed = seed
        plan = outline(network, num_classes=num_classes, resolution=resolution)
        self.normalises_batches = bool(batch_norms(plan))
        self.join = self.outer > 1 and joins(
            network,
            num_classes=num_classes,
            resolution=resolution,
            count=num_classes,
            batch=loops.batch_syn,
        )
        self.living: Network | None = None  # of a run that is not over

    @property
    def see_all_classes(self) -> bool:
        """Whether the student of a step depends on images of classes other than the compared."""
        return self.outer > 1 or self.normalises_batches

    def of(self, step: int, synthetic: Tensor, labels: Tensor, real: RealBatch) -> Network:
        """The student of a step.

        Args:
            step: index of the distillation step.
            synthetic: (N, 3, H, W) images in [-1, 1] as they are now, detached.
            labels: (N,) their classes, on the CPU.
            real: real images by step and class.

        Raises:
            InputError: in the middle of a run whose student was not kept.
        """
        run, place = divmod(step, self.outer)
        if place == 0:
            student = self._new(run)
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

    def state(self) -> dict[str, Tensor]:
        """Weights of a student that goes on living after the last step."""
        return {} if self.living is None else dict(self.living.state_dict())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned."""
        if state:
            self.living = self._new(0)
            self.living.load_state_dict(dict(state))

    def _new(self, run: int) -> Network:
        return new_network(
            self.network,
            run,
            num_classes=self.num_classes,
            resolution=self.resolution,
            seed=self.seed,
        )

    def _train(self, student: Network, step: int, images: Tensor, labels: Tensor) -> None:
        """`inner` epochs of SGD on all synthetic images."""
        without_chance(student)
        labels = labels.to(images.device)

        def loss(forward: Forward, batch: Batch) -> Tensor:
            rows = batch.rows.to(images.device)
            logits = forward(augment(self.normalization(images[rows]), batch.draw))
            return cross_entropy(logits, labels[rows])

        optimizer = torch.optim.SGD(student.parameters(), lr=self.loops.lr_student)
        size = self.loops.batch_syn
        for epoch in range(self.inner):
            keys = ("student", step, epoch)
            batches = epoch_batches(
                len(images), size, self.augmentation, self.seed, *keys, join=self.join
            )
            for _ in fit(student, batches, loss, optimizer):
                pass

    @torch.no_grad()
    def _fix_statistics(self, student: Network, step: int, real: RealBatch) -> None:
        """Give batch norms mean and variance of real images of all classes."""
        room = PIXELS_GPU // (self.num_classes * self.resolution**2)
        each = max(1, min(FROM_CLASS, room))
        images = torch.cat([real(step, label)[:each] for label in range(self.num_classes)])
        for norm in batch_norms(student):
            norm.reset_running_stats()
            norm.momentum = None  # the average over all batches since, of which there is one
        without_chance(student)
        student(self.normalization(images))
