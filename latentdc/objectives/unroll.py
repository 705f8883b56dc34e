"""The gradient of trajectory matching through a student's training, in three forms.

A student starts at weights w_0 and takes M steps on synthetic images X,

    w_{m+1} = w_m - lr g_m(w_m, X),    g_m = dL_m / dw,

and its loss is the distance that is left, ||w_M - w*||^2 / ||w_0 - w*||^2 (Cazenavette et al.,
"Dataset Distillation by Matching Training Trajectories", CVPR 2022,
https://arxiv.org/abs/2203.11932, Eq. 2). With a_M = 2 (w_M - w*) / ||w_0 - w*||^2 and, backwards,

    a_m = a_{m+1} - lr (dg_m / dw)^T a_{m+1},

its gradients are dX = -lr sum_m (dg_m / dX)^T a_{m+1} and dlr = -sum_m g_m . a_{m+1}.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]
InnerLoss = Callable[[Weights, Tensor], Tensor]
"""(weights, all synthetic images) -> () loss of one inner step: its batch and its augmentation."""


@dataclass(frozen=True, eq=False)
class Matched:
    """What one student learned from the synthetic images.

    Attributes:
        loss: () distance to the target, 1 at the start.
        images: (N, 3, H, W) its gradient at the synthetic images.
        lr: () its gradient at the learning rate.
    """

    loss: Tensor
    images: Tensor
    lr: Tensor


def unrolled(
    losses: Sequence[InnerLoss], start: Weights, target: Weights, images: Tensor, lr: Tensor
) -> Matched:
    """Exact, by one backward pass through all steps, whose graphs are kept together.

    Args:
        losses: of the inner steps.
        start: w_0.
        target: w*, with the names and shapes of `start`.
        images: (N, 3, H, W) X.
        lr: () learning rate.
    """
    images, lr = _leaf(images), _leaf(lr)
    weights = _leaves(start)
    for loss in losses:
        weights = _step(weights, _gradient(loss, weights, images, keep=True), lr)
    left = _distance(weights, target) / _distance(start, target)
    return Matched(left.detach(), *torch.autograd.grad(left, [images, lr]))


def replayed(
    losses: Sequence[InnerLoss], start: Weights, target: Weights, images: Tensor, lr: Tensor
) -> Matched:
    """Exact as `unrolled`, with the graph of one inner step at a time and the weights of each.

    The first pass takes the steps, the second goes back over them and takes each once more.
    Arguments as of `unrolled`.
    """
    path = [start]
    for loss in losses:
        path.append(_taken(loss, path[-1], images, lr))
    left, ahead = _end(path.pop(), start, target)
    to_images, to_lr = torch.zeros_like(images), torch.zeros_like(lr)
    for loss in reversed(losses):
        weights, leaf = _leaves(path.pop()), _leaf(images)
        product = _product(_gradient(loss, weights, leaf, keep=True), ahead)
        towards, *back = torch.autograd.grad(
            product, [leaf, *weights.values()], materialize_grads=True
        )
        to_images -= lr * towards
        to_lr -= product.detach()
        ahead = {name: a - lr * b for (name, a), b in zip(ahead.items(), back, strict=True)}
    return Matched(left, to_images, to_lr)


def constant(
    losses: Sequence[InnerLoss], start: Weights, target: Weights, images: Tensor, lr: Tensor
) -> Matched:
    """An approximation in memory that does not grow with the steps: a_m = a_M for all of them.

    Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory" (TESLA), ICML
    2023, https://arxiv.org/abs/2211.10586: left out is how the images of a step move the weights
    at which later steps are taken, so it is exact for a single step. The second pass takes all
    steps once more and keeps nothing of them. Arguments as of `unrolled`.
    """
    weights = start
    for loss in losses:
        weights = _taken(loss, weights, images, lr)
    left, ahead = _end(weights, start, target)
    to_images, to_lr = torch.zeros_like(images), torch.zeros_like(lr)
    weights = start
    for loss in losses:
        leaf = _leaf(images)
        gradient = _gradient(loss, _leaves(weights), leaf, keep=True)
        product = _product(gradient, ahead)
        to_images -= lr * torch.autograd.grad(product, leaf)[0]
        to_lr -= product.detach()
        weights = _step(weights, {name: g.detach() for name, g in gradient.items()}, lr)
    return Matched(left, to_images, to_lr)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _leaves(weights: Weights) -> Weights:
    return {name: _leaf(w) for name, w in weights.items()}


def _gradient(loss: InnerLoss, weights: Weights, images: Tensor, *, keep: bool = False) -> Weights:
    """g_m at `weights`, by name; with its own graph if `keep`."""
    value = loss(weights, images)
    torch.clear_autocast_cache()  # it would hold the weights of every step, and their graphs
    found = torch.autograd.grad(value, list(weights.values()), create_graph=keep)
    return dict(zip(weights, found, strict=True))


def _step(weights: Weights, gradient: Weights, lr: Tensor) -> Weights:
    return {name: w - lr * gradient[name] for name, w in weights.items()}


def _taken(loss: InnerLoss, weights: Weights, images: Tensor, lr: Tensor) -> Weights:
    """w_{m+1}, without a graph."""
    return _step(weights, _gradient(loss, _leaves(weights), images), lr)


def _product(a: Weights, b: Weights) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def _distance(a: Weights, b: Weights) -> Tensor:
    """() sum of squared differences."""
    return torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum()


def _end(last: Weights, start: Weights, target: Weights) -> tuple[Tensor, Weights]:
    """The loss and a_M, its gradient at the last weights."""
    whole = _distance(start, target)
    ahead = {name: 2 * (w - target[name]) / whole for name, w in last.items()}
    return _distance(last, target) / whole, ahead


# The keys are those of recipe.Trajectory.
FORMS: dict[str, Callable[[Sequence[InnerLoss], Weights, Weights, Tensor, Tensor], Matched]] = {
    "unrolled": unrolled,
    "replayed": replayed,
    "constant": constant,
}
