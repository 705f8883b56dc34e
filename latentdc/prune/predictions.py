"""A scorer's predictions of all images, block by block, shared by the processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from latentdc.data.dataset import Dataset
from latentdc.images import fetch, place, send
from latentdc.prune.classifier import Classifier

BLOCK = 64  # batches between two gatherings; the same for any number of processes


@dataclass(frozen=True)
class Batch:
    """What a rule may look at, on the device.

    Attributes:
        classifier: in eval mode.
        images: (B, 3, H, W) floats in [-1, 1].
        labels: (B,).
        logits: (B, C) float32.
        features: (B, D) float32 that the last layer sees; empty unless they were asked for.
        rows: (B,) positions in the data set, on the CPU.
    """

    classifier: Classifier
    images: Tensor
    labels: Tensor
    logits: Tensor
    features: Tensor
    rows: Tensor


def measure(
    classifier: Classifier,
    dataset: Dataset,
    quantities: Callable[[Batch], Tensor],
    *,
    width: int,
    batch: int,
    accelerator: Accelerator,
    start: int = 0,
    embed: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """First row and (n, Q) float32 on the CPU of consecutive blocks, the same on every process.

    In eval mode and without gradients. Whole batches are dealt to the processes, so that every
    batch holds the same images, and gives the same numbers, for any number of them.

    Args:
        classifier: the scorer.
        dataset: what to look at.
        quantities: from a batch of B images to (B, Q).
        width: Q.
        batch: images in one forward pass.
        accelerator: device, precision and processes.
        start: row to begin with, a multiple of `batch`.
        embed: whether to give the batches their features.
    """
    device = accelerator.device
    classifier.to(device).eval()
    images, labels = place(dataset.images, device), dataset.labels.to(device)
    batches = torch.arange(start, len(dataset)).split(batch)
    bar = tqdm(
        total=len(batches),
        desc=f"scoring {dataset.name}",
        unit=" batches",
        leave=False,
        delay=2,  # seconds; small sets show no bar
        disable=not accelerator.is_main_process,
    )
    with torch.no_grad(), bar:
        for first in range(0, len(batches), BLOCK):
            block = batches[first : first + BLOCK]
            begin, own = int(block[0][0]), {}
            for index in range(accelerator.process_index, len(block), accelerator.num_processes):
                rows = block[index]
                pixels = fetch(images, rows, device)
                with accelerator.autocast():
                    logits, features = (
                        classifier.embed(pixels)
                        if embed
                        else (
                            classifier(pixels),
                            torch.empty(0),
                        )
                    )
                seen = Batch(
                    classifier,
                    pixels,
                    labels[send(rows, device)],
                    logits.float(),
                    features.float(),
                    rows,
                )
                own[index] = quantities(seen).float()
            yield begin, _gathered(own, block, width, accelerator)
            bar.update(len(block))


def _gathered(
    own: dict[int, Tensor], block: tuple[Tensor, ...], width: int, accelerator: Accelerator
) -> Tensor:
    """(n, Q) of all processes; what others measured is zero here, so that sums are exact."""
    nothing = torch.zeros(len(block[0]), width, device=accelerator.device)
    parts = [own.get(index, nothing[: len(rows)]) for index, rows in enumerate(block)]
    summed: Tensor = accelerator.reduce(torch.cat(parts), "sum")
    return summed.cpu()


def accuracy(
    classifier: Classifier, dataset: Dataset, *, batch: int, accelerator: Accelerator
) -> float:
    """Share in [0, 1] of the samples whose largest logit is that of their label."""

    def right(seen: Batch) -> Tensor:
        return (seen.logits.argmax(dim=1) == seen.labels).unsqueeze(1)

    blocks = measure(classifier, dataset, right, width=1, batch=batch, accelerator=accelerator)
    return sum(int(block.sum()) for _, block in blocks) / len(dataset)
