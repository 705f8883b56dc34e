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
from typing import NamedTuple

import torch
from torch import Tensor

from latentdc.networks.base import Weights

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

    The first pass takes the steps, the second goes back over them and takes each once more but the
    last, whose graph is there. Arguments as of `unrolled`.
    """
    path = [start]
    for loss in losses[:-1]:
        path.append(_taken(loss, path[-1], images, lr))
    graph = _graph(losses[-1], path[-1], images)
    left, ahead = _end(graph.after(lr), start, target)
    to_images, to_lr = torch.zeros_like(images), torch.zeros_like(lr)
    for at in reversed(range(len(losses))):
        product = _product(graph.gradient, ahead)
        towards, *back = torch.autograd.grad(
            product, [graph.images, *graph.weights.values()], materialize_grads=True
        )
        to_images -= lr * towards
        to_lr -= product.detach()
        ahead = {name: a - lr * b for (name, a), b in zip(ahead.items(), back, strict=True)}
        if at > 0:
            graph = _graph(losses[at - 1], path[at - 1], images)
    return Matched(left, to_images, to_lr)


def constant(
    losses: Sequence[InnerLoss], start: Weights, target: Weights, images: Tensor, lr: Tensor
) -> Matched:
    """An approximation in memory that does not grow with the steps: a_m = a_M for all of them.

    Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory" (TESLA), ICML
    2023, https://arxiv.org/abs/2211.10586: left out is how the images of a step move the weights
    at which later steps are taken, so it is exact for a single step. The second pass takes all
    steps but the last, whose graph is there, once more, and keeps nothing of them. Arguments as of
    `unrolled`.
    """
    weights = start
    for loss in losses[:-1]:
        weights = _taken(loss, weights, images, lr)
    graph = _graph(losses[-1], weights, images)
    left, ahead = _end(graph.after(lr), start, target)
    last = _towards(graph, ahead)
    to_images, to_lr = torch.zeros_like(images), torch.zeros_like(lr)
    weights = start
    for loss in losses[:-1]:
        graph = _graph(loss, weights, images)
        towards, product = _towards(graph, ahead)
        to_images -= lr * towards
        to_lr -= product
        weights = graph.after(lr)
    return Matched(left, to_images - lr * last[0], to_lr - last[1])


class _Graph(NamedTuple):
    """An inner step that can be differentiated: g_m at leaves of the weights and the images."""

    weights: Weights
    images: Tensor
    gradient: Weights

    def after(self, lr: Tensor) -> Weights:
        """w_{m+1}, without a graph."""
        weights, gradient = (
            {name: tensor.detach() for name, tensor in of.items()}
            for of in (self.weights, self.gradient)
        )
        return _step(weights, gradient, lr)


def _graph(loss: InnerLoss, weights: Weights, images: Tensor) -> _Graph:
    weights, images = _leaves(weights), _leaf(images)
    return _Graph(weights, images, _gradient(loss, weights, images, keep=True))


def _towards(graph: _Graph, ahead: Weights) -> tuple[Tensor, Tensor]:
    """Gradient of g_m . a at the images, and () g_m . a; the graph is used up."""
    product = _product(graph.gradient, ahead)
    return torch.autograd.grad(product, graph.images)[0], product.detach()


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
