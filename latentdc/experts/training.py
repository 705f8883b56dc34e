"""Train experts: SGD at a constant rate, as MTT's are, their weights kept after every epoch.

Cazenavette et al. 2022, https://arxiv.org/abs/2203.11932; the released code's settings are the
defaults of `recipe.Experts`. All of an expert's draws follow from (seed, its number).
"""

import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from tqdm import tqdm

from latentdc import runtime
from latentdc.augment.dsa import augment
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, RunError
from latentdc.experts.files import expert_path, missing_experts
from latentdc.images import Preprocessing, fetch, place, send
from latentdc.io import save_tensors
from latentdc.networks.build import new_network, outline
from latentdc.recipe import Experts
from latentdc.runtime import with_gradients
from latentdc.training import Batch, Forward, Precision, epoch_batches, fit, joins

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@with_gradients
def train_experts(
    coreset: Dataset,
    folder: Path,
    settings: Experts,
    *,
    network: str,
    normalization: Preprocessing,
    seed: int,
    accelerator: Accelerator,
) -> None:
    """Train the experts that a folder lacks, shared out over the processes.

    Args:
        coreset: real images.
        folder: gets a file per expert as soon as it is trained.
        settings: of the trainings.
        network: its name.
        normalization: from images to its input.
        seed: of all draws.
        accelerator: devices, precision and processes.

    Raises:
        InputError: the disk has no room for them; before anything is trained.
        RunError: a training diverged.
    """
    lacking = runtime.broadcast(accelerator, missing_experts(folder, settings.count))
    assert isinstance(lacking, list)
    size = len(lacking) * expert_bytes(settings, network, coreset.num_classes, coreset.resolution)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{len(lacking)} experts take {size:,} bytes and {folder} has room for {free:,}; lower "
            "experts.count or experts.epochs, take experts.dtype=bfloat16, or another disk "
            "(objective.trajectory.experts=FOLDER)."
        )
    mine = lacking[accelerator.process_index :: accelerator.num_processes]
    for index in tqdm(mine, "experts", disable=not accelerator.is_main_process):
        snapshots = train_expert(
            index,
            coreset,
            settings,
            network=network,
            normalization=normalization,
            seed=seed,
            accelerator=accelerator,
        )
        save_tensors(expert_path(folder, index), snapshots)
    accelerator.wait_for_everyone()


def train_expert(
    index: int,
    coreset: Dataset,
    settings: Experts,
    *,
    network: str,
    normalization: Preprocessing,
    seed: int,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """Weights by name, (epochs + 1, ...): before the training and after each epoch.

    Arguments but its number as of `train_experts`.
    """
    device, count = accelerator.device, len(coreset)
    images, labels = place(coreset.images, device), coreset.labels.to(device)
    sizes = {"num_classes": coreset.num_classes, "resolution": coreset.resolution}
    expert = new_network(network, "expert", index, **sizes, seed=seed).to(device)
    join = joins(network, **sizes, count=count, batch=settings.batch)
    precision = Precision(accelerator)
    optimizer = SGD(expert.parameters(), lr=settings.lr, momentum=settings.momentum)
    snapshots = {
        name: torch.empty((settings.epochs + 1, *weight.shape), dtype=DTYPES[settings.dtype])
        for name, weight in expert.named_parameters()
    }

    def loss(forward: Forward, batch: Batch) -> Tensor:
        inputs = augment(normalization(fetch(images, batch.rows, device)), batch.draw)
        return F.cross_entropy(forward(inputs), labels[send(batch.rows, device)])

    def keep(epoch: int) -> None:
        for name, weight in expert.named_parameters():
            snapshots[name][epoch].copy_(weight.detach())  # which the optimiser goes on to change

    keep(0)
    for epoch in range(settings.epochs):
        keys = ("expert", index, epoch)
        batches = epoch_batches(count, settings.batch, settings.augment, seed, *keys, join=join)
        dropout = (seed, "dropout", *keys)
        for _ in fit(expert, batches, loss, optimizer, precision=precision, dropout=dropout):
            pass
        keep(epoch + 1)
    if not all(bool(weights.isfinite().all()) for weights in snapshots.values()):
        raise RunError(f"expert {index} diverged; experts before it are kept. Lower experts.lr.")
    return snapshots


def expert_bytes(settings: Experts, network: str, num_classes: int, resolution: int) -> int:
    """Bytes of one expert on disk."""
    plan = outline(network, num_classes=num_classes, resolution=resolution)
    weights = sum(weight.numel() for weight in plan.parameters())
    return (settings.epochs + 1) * weights * DTYPES[settings.dtype].itemsize
