"""The share of images that a network classifies rightly: at its first guess, and among five."""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.augment.geometry import central_part
from latentdc.errors import RunError
from latentdc.images import Images, Preprocessing, fetch, forward_batch, place, send
from latentdc.networks.base import Network


class Accuracy(NamedTuple):
    """Shares in [0, 1] of a test set.

    Attributes:
        top1: of images whose class has the largest logit.
        top5: of images whose class is among the five largest; None with five classes or fewer,
            where it says nothing, and in rows that were trained before it was counted.
    """

    top1: float
    top5: float | None = None


@torch.no_grad()
def accuracy(
    network: Network,
    images: Images,
    labels: Tensor,
    *,
    normalization: Preprocessing,
    accelerator: Accelerator,
    crop: float = 1.0,
    batch: int = 512,
) -> Accuracy:
    """Accuracy on a test set, counted exactly; every image once.

    Args:
        network: on the accelerator's device; scored in eval mode.
        images: (N, 3, H, W) uint8, or floats in [-1, 1].
        labels: (N,) int64.
        normalization: from images to the network's input.
        accelerator: its device and precision are used.
        crop: side of the central part that is seen, enlarged to the images' size.
        batch: images per forward pass, at most.

    Raises:
        RunError: logits are not finite.
    """
    device = accelerator.device
    images, labels = place(images, device), labels.to(device)
    network.eval()
    first, among = torch.zeros((2,), dtype=torch.int64, device=device)
    finite, classes = torch.ones((), dtype=torch.bool, device=device), 0
    for rows in torch.arange(len(labels)).split(forward_batch(images, batch, device)):
        inputs = normalization(central_part(fetch(images, rows, device), crop))
        with accelerator.autocast():
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
