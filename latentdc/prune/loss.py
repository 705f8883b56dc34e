"""The loss rule: how hard a trained classifier finds each image."""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from latentdc.data.dataset import Dataset
from latentdc.device import fetch, place, send
from latentdc.prune.classifier import Classifier


def cross_entropy_scores(
    classifier: Classifier, dataset: Dataset, *, batch: int, accelerator: Accelerator
) -> Tensor:
    """(N,) float32 cross-entropy of each sample with its label, on the CPU.

    In eval mode and without gradients. Every process scores its share, and all get the whole.
    """
    rows = _share(len(dataset), accelerator)
    losses = [
        cross_entropy(logits.float(), labels)
        for logits, labels in _predictions(classifier, dataset, rows, batch, accelerator)
    ]
    scores = torch.zeros(len(dataset), device=accelerator.device)
    scores[rows.to(scores.device)] = torch.cat(losses)
    summed: Tensor = accelerator.reduce(scores, "sum")
    return summed.cpu()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) -log softmax(logits)[label] of (B, C) logits, precise where it is tiny.

    A trained network's loss on an easy image lies below float32's resolution near log 1, where the
    usual form rounds thousands of images to the same zero; log(1 + exp(others - own)) ranks them.
    """
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
    return F.softplus(others - logits.gather(1, own).squeeze(1))


def accuracy(
    classifier: Classifier, dataset: Dataset, *, batch: int, accelerator: Accelerator
) -> float:
    """Share in [0, 1] of the samples whose largest logit is that of their label."""
    rows = _share(len(dataset), accelerator)
    right = [
        (logits.argmax(dim=1) == labels).sum()
        for logits, labels in _predictions(classifier, dataset, rows, batch, accelerator)
    ]
    return int(accelerator.reduce(torch.stack(right).sum(), "sum")) / len(dataset)


def _share(count: int, accelerator: Accelerator) -> Tensor:
    return torch.arange(accelerator.process_index, count, accelerator.num_processes)


@torch.no_grad()
def _predictions(
    classifier: Classifier, dataset: Dataset, rows: Tensor, batch: int, accelerator: Accelerator
) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, C) logits and (B,) labels of `rows` on the device, batch by batch."""
    device = accelerator.device
    classifier.to(device).eval()
    images, labels = place(dataset.images, device), dataset.labels.to(device)
    bar = tqdm(
        rows.split(batch),
        desc=f"scoring {dataset.name}",
        unit=" batches",
        leave=False,
        delay=2,  # seconds; small sets show no bar
        disable=not accelerator.is_main_process,
    )
    for chosen in bar:
        with accelerator.autocast():
            logits = classifier(fetch(images, chosen, device))
        yield logits, labels[send(chosen, device)]
