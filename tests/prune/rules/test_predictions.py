"""Rules that look at one prediction, against their formulas in float64."""

import torch
from torch import nn
from torch.nn import functional as F

from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.prune.rules.predictions import (
    cross_entropy,
    el2n,
    entropy,
    grand,
    grand_full,
    least_confidence,
    margin,
)
from latentdc.prune.scorers import Classifier, preparation

LOGITS = 4 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50) % 7
P = LOGITS.double().softmax(dim=1)
ERROR = P - F.one_hot(LABELS, 7)
SURE = torch.tensor([[40.0, 0.0, -9.0], [41.0, 0.0, -9.0]])  # p rounds to 1 in float32


def test_tiny_losses_are_still_ranked():
    labels = torch.zeros(2, dtype=torch.int64)
    assert F.cross_entropy(SURE, labels, reduction="none").tolist() == [0, 0]
    exact = SURE.double().softmax(dim=1)[:, 1:].sum(dim=1)  # -log(1 - x) = x for tiny x
    torch.testing.assert_close(cross_entropy(SURE, labels), exact.float(), atol=0, rtol=1e-5)


def test_el2n_is_the_length_of_the_error():
    torch.testing.assert_close(el2n(LOGITS, LABELS).double(), ERROR.norm(dim=1))
    others = SURE.double().softmax(dim=1)[:, 1:]
    tiny = (others.square().sum(dim=1) + others.sum(dim=1).square()).sqrt()
    ours = el2n(SURE, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(ours.double(), tiny, atol=0, rtol=1e-5)


def test_entropy_follows_its_formula_and_is_highest_where_all_classes_are_alike():
    torch.testing.assert_close(entropy(LOGITS), -(P * P.log()).sum(dim=1).float())
    torch.testing.assert_close(entropy(torch.zeros(1, 7)), torch.tensor([7.0]).log())


def test_margin_and_least_confidence_follow_their_formulas():
    best = P.sort(dim=1, descending=True).values
    torch.testing.assert_close(margin(LOGITS).double(), 1 - (best[:, 0] - best[:, 1]))
    torch.testing.assert_close(least_confidence(LOGITS).double(), 1 - best[:, 0])


def test_the_surest_predictions_keep_their_ranks():
    for rule in (margin, least_confidence):
        easier = rule(SURE)
        assert easier[1] < easier[0] < 1e-15


def gradient_norms(parameters, losses):
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    return torch.stack(norms)


def test_grand_of_the_last_layer_is_what_autograd_gives_image_by_image():
    linear = nn.Linear(5, 7)
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    logits, labels = linear(features), LABELS[:6]
    expected = gradient_norms(
        list(linear.parameters()), F.cross_entropy(logits, labels, reduction="none")
    )
    torch.testing.assert_close(grand(logits.detach(), labels, features), expected)


def test_grand_of_all_layers_is_what_autograd_gives_image_by_image():
    for name in ("convnet3@4", "resnet20@2"):  # group norm, and batch norm in eval mode
        network = new_network(name, "a", num_classes=4, resolution=8, seed=0)
        classifier = Classifier(network, preparation(8, Normalization()), [3, 0, 1]).eval()
        images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
        labels = torch.tensor([0, 1, 2, 0, 1])
        losses = F.cross_entropy(classifier(images), labels, reduction="none")
        expected = gradient_norms(list(network.parameters()), losses)
        with torch.no_grad():
            torch.testing.assert_close(
                grand_full(classifier, images, labels), expected, rtol=1e-4, atol=1e-4
            )


def test_grand_does_not_depend_on_the_batch():
    """A smaller last batch is not inflated, as a gradient of the batch's mean would be."""
    network = new_network("convnet3@4", "a", num_classes=4, resolution=8, seed=0)
    classifier = Classifier(network, preparation(8, Normalization())).eval()
    images, labels = torch.rand(5, 3, 8, 8) * 2 - 1, torch.tensor([0, 1, 2, 0, 1])
    alone = torch.cat(
        [grand_full(classifier, images[i : i + 1], labels[i : i + 1]) for i in range(5)]
    )
    torch.testing.assert_close(grand_full(classifier, images, labels), alone, rtol=1e-4, atol=1e-4)
