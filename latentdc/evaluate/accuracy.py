"""The share of images that a network classifies rightly."""

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.mapped import Images
from latentdc.device import fetch, place, send
from latentdc.evaluate.geometry import central_part
from latentdc.images import Preprocessing
from latentdc.networks.base import Network


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
) -> float:
    """Top-1 accuracy in [0, 1], counted exactly; every image once.

    Args:
        network: on the accelerator's device; scored in eval mode.
        images: (N, 3, H, W) uint8, or floats in [-1, 1].
        labels: (N,) int64.
        normalization: from images to the network's input.
        accelerator: its device and precision are used.
        crop: side of the central part that is seen, enlarged to the images' size.
        batch: images per forward pass.
    """
    device = accelerator.device
    images, labels = place(images, device), labels.to(device)
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    for rows in torch.arange(len(labels)).split(batch):
        inputs = normalization(central_part(fetch(images, rows, device), crop))
        with accelerator.autocast():
            logits = network(inputs)
        right += (logits.argmax(dim=1) == labels[send(rows, device)]).sum()
    return int(right) / len(labels)
