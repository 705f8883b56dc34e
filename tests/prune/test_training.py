from itertools import pairwise

import torch
from accelerate import Accelerator

from latentdc.images import Normalization
from latentdc.prune.loss import accuracy
from latentdc.prune.training import train_scorer
from tests.prune.toys import colours


def weights_after(epochs: int, seed: int = 0, of: int = 3) -> list[torch.Tensor]:
    """A copy of the first convolution after each of the first `epochs`."""
    training = train_scorer(
        colours(32),
        network="convnet3@4",
        epochs=of,
        lr=0.05,
        batch=8,
        resolution=8,
        normalization=Normalization(),
        seed=seed,
        accelerator=Accelerator(),
    )
    return [next(iter(next(training).parameters())).detach().clone() for _ in range(epochs)]


def test_training_follows_from_the_seed_and_not_from_the_global_stream():
    torch.manual_seed(1)
    first = weights_after(3)
    torch.manual_seed(2)
    again, other = weights_after(3), weights_after(3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_scoring_between_epochs_does_not_change_the_training():
    training = train_scorer(
        colours(32),
        network="resnet20@2",
        epochs=2,
        lr=0.05,
        batch=8,
        resolution=8,
        normalization=Normalization(),
        seed=0,
        accelerator=Accelerator(),
    )
    classifier = next(training)
    accuracy(classifier, colours(8), batch=8, accelerator=Accelerator())
    assert not classifier.training
    next(training)
    assert classifier.training


def test_the_last_step_of_the_cosine_hardly_moves():
    weights = weights_after(12, of=12)
    moves = [float((b - a).norm()) for a, b in pairwise(weights)]
    assert moves[-1] < 0.2 * moves[0]


def test_a_trained_scorer_tells_the_classes_apart():
    *_, classifier = train_scorer(
        colours(32),
        network="convnet3@16",
        epochs=5,
        lr=0.1,
        batch=8,
        resolution=8,
        normalization=Normalization(),
        seed=0,
        accelerator=Accelerator(),
    )
    assert accuracy(classifier, colours(64, seed=1), batch=64, accelerator=Accelerator()) == 1
