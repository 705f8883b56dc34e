"""What surrounds the sets of an evaluation, and the accuracy of a network on its test images."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator

from latentdc import io, tf32, training
from latentdc.augment.geometry import central_part
from latentdc.data.dataset import Dataset
from latentdc.errors import RunError
from latentdc.images import Preprocessing, fetch, forward_batch, place, send
from latentdc.networks.base import Network
from latentdc.synthetic.synthetic_set import set_hash


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The real images, how networks see images, and where they are trained.

    Attributes:
        test: real images, on which teachers are tried and each student is tested once, after its
            last step.
        normalization: from images to the students' input, the same for training and test images.
        accelerator: devices, precision and processes.
        train: real training images, for teachers without weights; None where there are none.
        folder: of finished trainings and trained teachers, beside which soft labels are stored;
            None keeps none.
        on_step: is told `student`, `seed`, `step` and `loss` of each step of a student's training,
            on the process that trains it.
    """

    test: Dataset
    normalization: Preprocessing
    accelerator: Accelerator
    train: Dataset | None = None
    folder: Path | None = None
    on_step: training.OnStep | None = None

    def hash(self, teachers: str | None) -> str:
        """8 hex digits of what an accuracy depends on beside set, protocol, student and seed.

        Args:
            teachers: hash of the teachers, None where labels are hard or the sets' own.
        """
        facts = {
            "test": set_hash(self.test),
            "preprocessing": self.normalization.facts(),
            "precision": tf32.precision_of(self.accelerator),
            "labels": teachers,
        }
        return io.fingerprint(facts, digits=8)


class Accuracy(NamedTuple):
    """Shares in [0, 1] of a test set.

    Attributes:
        top1: of images whose class has the largest logit.
        top5: of images whose class is among the five largest; None with five classes or fewer,
            where it says nothing.
    """

    top1: float
    top5: float | None = None


@torch.no_grad()
def accuracy(
    network: Network, setting: Setting, *, crop: float = 1.0, batch: int = 512
) -> Accuracy:
    """Accuracy on the test images, counted exactly; every image once.

    Args:
        network: on the accelerator's device; scored in eval mode.
        setting: its test images, normalisation and accelerator are used.
        crop: side of the central part that is seen, enlarged to the images' size.
        batch: images per forward pass, at most.

    Raises:
        RunError: logits are not finite.
    """
    device = setting.accelerator.device
    images, labels = place(setting.test.images, device), setting.test.labels.to(device)
    network.eval()
    first, among = torch.zeros((2,), dtype=torch.int64, device=device)
    finite, classes = torch.ones((), dtype=torch.bool, device=device), 0
    for rows in torch.arange(len(labels)).split(forward_batch(images, batch, device)):
        inputs = setting.normalization(central_part(fetch(images, rows, device), crop))
        with setting.accelerator.autocast():
            logits = network(inputs)
        finite &= logits.isfinite().all()
        right, classes = labels[send(rows, device)], logits.shape[1]
        first += (logits.argmax(dim=1) == right).sum()
        if classes > 5:
            among += (logits.topk(5, dim=1).indices == right[:, None]).sum()
    if not finite:
        raise RunError(
            "a student's logits of test images are NaN or infinite, which say no class; train it "
            "in full precision or with a smaller lr."
        )
    return Accuracy(int(first) / len(labels), int(among) / len(labels) if classes > 5 else None)
