"""Scorers trained on the spot, on the images that they will rank."""

import math
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from latentdc.data.dataset import Dataset
from latentdc.device import fetch, place, send
from latentdc.draws import generator
from latentdc.images import Normalization
from latentdc.networks import new_network
from latentdc.prune.classifier import Classifier
from latentdc.prune.scorer import preparation


def train_scorer(
    train: Dataset,
    *,
    network: str,
    epochs: int,
    lr: float,
    batch: int,
    resolution: int,
    normalization: Normalization,
    seed: int,
    accelerator: Accelerator,
) -> Iterator[Classifier]:
    """Train a new network, yielding it after each epoch so that the caller can score with it.

    SGD with momentum 0.9, cosine schedule, no augmentation: scores are of the images as they are.
    Every process trains the same network on all of the data.

    Args:
        train: images to learn and, later, to rank.
        network: name of one of our networks.
        epochs: passes over the data.
        lr: peak learning rate.
        batch: images per step.
        resolution: in pixels, to which images are resized.
        normalization: of the images.
        seed: initial weights and batch order follow from it.
        accelerator: its device and precision are used.
    """
    device = accelerator.device
    model = new_network(
        network, "scorer", num_classes=train.num_classes, resolution=resolution, seed=seed
    )
    classifier = Classifier(model, preparation(resolution, normalization)).to(device)
    optimizer = SGD(classifier.parameters(), lr=lr, momentum=0.9)
    steps = epochs * math.ceil(len(train) / batch)
    schedule = LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    scaler = torch.amp.GradScaler(device.type, enabled=accelerator.mixed_precision == "fp16")
    images, labels = place(train.images, device), train.labels.to(device)
    bar = tqdm(total=steps, desc="training the scorer", disable=not accelerator.is_main_process)
    for epoch in range(epochs):
        classifier.train()
        order = torch.randperm(len(train), generator=generator(seed, "scorer", epoch))
        for rows in order.split(batch):
            with accelerator.autocast():
                logits = classifier(fetch(images, rows, device))
            loss = F.cross_entropy(logits.float(), labels[send(rows, device)])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            bar.update()
        yield classifier
    bar.close()
