"""Guides of the sampler: small functions that return what corrects its steps.

Each is made for one batch of one class, and acts in the steps that its caller gives it. Scales are
the papers' where these name them; published windows mostly count steps down. Guides add up: each
sees what those before it made of the step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdc.objectives.gradient import class_gradient, rowwise_cosine
from latentdc.priors.sampler import Guide, StepState

Condition = Callable[[int], Tensor]
"""Index of a step -> (B, T, D) conditions of the denoiser."""
Embed = Callable[[Tensor, int], Tensor]
"""(x_t (B, C, h, w), index of the step) -> (B, ...) features, differentiable in x_t."""
_RHO = 0.0015  # of IGD's released code, in front of its step size


def mode(anchors: Tensor, scale: float, *, ancestral: bool = True) -> Guide:
    """Pull each image to its anchor: mean - scale (x0 - anchor) std.

    Chan-Santiago et al., "MGD3: Mode-Guided Dataset Distillation using Diffusion Models", ICML
    2025, https://arxiv.org/abs/2505.18963; x0 is the guided one. Without ancestral noise std is 0,
    and the form is ManifoldGD's: x0 - scale (x0 - anchor), with the noise that leads from there to
    x. The gradient passes through nothing.

    Args:
        anchors: (B, C, h, w) clean latents.
        scale: lambda, published 0.1.
        ancestral: whether steps add noise.
    """

    def pull(state: StepState) -> StepState:
        away = state.x0 - anchors
        if ancestral:
            return state.with_mean(state.mean - scale * away * state.std)
        return state.with_x0(state.x0 - scale * away, consistent=True)

    return Guide(pull)


def text_mode(anchors: Tensor, scale: float) -> Guide:
    """Pull the conditional branch to an anchor before it is guided: e_c - scale (anchor - x0_c).

    Zhou et al., "CoDA: From Text-to-Image Diffusion Models to Training-Free Dataset Distillation",
    ICLR 2026, https://arxiv.org/abs/2512.03844. There e_c moves by -sqrt(a) / sqrt(1 - a) scale
    sigma (anchor - x0_c), and Euler's sigma is sqrt((1 - a) / a). Where nothing is guided, the one
    branch moves. The gradient passes through nothing.

    Args:
        anchors: (B, C, h, w) clean latents.
        scale: gamma, published 0.1.
    """

    def pull(state: StepState) -> StepState:
        eps, x0 = state.text_eps, state.text_x0
        if eps is None or x0 is None:
            eps, x0 = state.eps, state.x0
        return state.with_text_eps(eps - scale * (anchors - x0))

    return Guide(pull)


def semantic(
    own: Tensor,
    other: Tensor,
    noise: Condition,
    scale: float,
    window: tuple[int, int],
    *,
    weights: tuple[float, float] = (0.01, 0.06),
    form: Literal["paper", "released"] = "paper",
) -> Condition:
    """Conditions that become the class's own: sqrt(s) f(y) + (1 - sqrt(s)) (v f(y*) + w n).

    The semantic half of DMGD (see `transport`). s, which what was read of the paper leaves open, is
    as in the released code: 0 up to the window's first step, 1 from its end on, a line in between.
    That code has sqrt(1 - s) in the place of 1 - sqrt(s), noise that is uniform in [0, 1], no
    other class before the window, and gives the mixture the mean and deviation of the class's own
    (`released`; of each image, and with f(y*) where its sampler hands on y* alone: both ours).

    Args:
        own: (B, T, D) conditions of the classes, f(y).
        other: (B, T, D) of other classes, f(y*).
        noise: (B, T, D) standard normal of a step.
        scale: share of the way from f(y) to the mixture, published 1.
        window: first step and the one after the last, published [4, 24] of 50.
        weights: v and w.
        form: of the mixture.
    """
    (first, after), (v, w) = window, weights

    def condition(index: int) -> Tensor:
        s = min(max((index - first) / (after - first), 0.0), 1.0)
        if s == 1:
            return own
        drawn = noise(index)
        if form == "paper":
            mixed: Tensor = s**0.5 * own + (1 - s**0.5) * (v * other + w * drawn)
        else:
            near = v * other if index >= first else torch.zeros_like(other)
            mixed = s**0.5 * own + (1 - s) ** 0.5 * (near + w * torch.special.ndtr(drawn))
            std, mean = torch.std_mean(mixed, dim=(1, 2), keepdim=True)
            own_std, own_mean = torch.std_mean(own, dim=(1, 2), keepdim=True)
            mixed = (mixed - mean) / std.clamp_min(1e-12) * own_std + own_mean
        return own + scale * (mixed - own)

    return condition


def features(
    embed: Embed,
    real: Callable[[int], Tensor],
    scale: float,
) -> Guide:
    """Pull the denoiser's own features to those of real latents that are as noisy.

    Su et al., "Diffusion Models as Dataset Distillation Priors" (DAP), ICLR 2026,
    https://arxiv.org/abs/2510.17421: mean - scale grad_x of the mean over real latents of
    ||phi(x, t) - phi(noised real, t)||. The gradient passes through the first half of the denoiser,
    up to its middle block. Features are taken as they are, which is ours: what was read leaves
    their normalisation open.

    Args:
        embed: of the denoiser, under the class.
        real: index of the step -> (R, C, h, w) real latents of the class, as noisy as x_t.
        scale: gamma, published 1.
    """

    def pull(state: StepState) -> StepState:
        with torch.no_grad():
            target = embed(real(state.index), state.index).flatten(1)

        def distance(x: Tensor) -> Tensor:
            own = embed(x, state.index).flatten(1)
            return _distances(own, target).mean(dim=1).sum()

        return state.with_mean(state.mean - scale * _gradient(distance, state.x))

    return Guide(pull)


def influence(
    networks: Sequence[nn.Module],
    targets: Sequence[Sequence[Tensor]],
    label: int,
    decode: Callable[[Tensor], Tensor],
    scale: float,
) -> Guide:
    """Move each image so that snapshots of a training get the gradients that real images give them.

    Chen et al., "Influence-Guided Diffusion for Dataset Distillation" (IGD), ICLR 2025: mean -
    scale rho grad_x L with rho = 0.0015 rms(e) / rms(grad_x L) sqrt(1 - a) of each image, and L the
    mean over snapshots of a distance between gradients. Which distance is not in the code that was
    read; DC's is taken here. The gradient passes through the decoder and the denoiser.

    Args:
        networks: snapshots, (B, 3, H, W) images in [-1, 1] -> (B, classes).
        targets: gradients of the class's real images at the weights of each snapshot.
        label: of the class.
        decode: clean latents -> images.
        scale: k, published 5.
    """
    weights = [[p for p in network.parameters() if p.requires_grad] for network in networks]

    def pull(state: StepState) -> StepState:
        total = state.x0.new_zeros(())
        for image in decode(state.x0).split(1):
            for network, own, target in zip(networks, weights, targets, strict=True):
                gradients = class_gradient(network, own, image, label)
                total = total + rowwise_cosine(gradients, target) / len(networks)
        gradient = state.gradient(total)
        return state.with_mean(state.mean - scale * _rho(state, gradient, _RHO) * gradient)

    return Guide(pull, through="denoiser")


def deviation(finished: Tensor, scale: float) -> Guide:
    """Keep away from the finished latent that x_t is most alike: mean - scale grad_x cos(x, m).

    IGD's second term (see `influence`), with its memory of finished latents. The gradient passes
    through nothing but the cosine.

    Args:
        finished: (M, C, h, w) of the class.
        scale: gamma, published 120 for ImageWoof.
    """

    def push(state: StepState) -> StepState:
        if not len(finished):
            return state
        x, memory = state.x.flatten(1), finished.flatten(1)
        near = memory[(F.normalize(x, dim=1) @ F.normalize(memory, dim=1).T).argmax(dim=1)]

        def alike(x: Tensor) -> Tensor:
            return F.cosine_similarity(x.flatten(1), near, dim=1).sum()

        return state.with_mean(state.mean - scale * _gradient(alike, state.x))

    return Guide(push)


def entropy(classifier: nn.Module, decode: Callable[[Tensor], Tensor], scale: float) -> Guide:
    """Make images harder: e - scale sqrt(1 - a) grad_x H(p), H a classifier's entropy at x0.

    "UAG", by the formula of an unofficial reproduction (2026): this sign raises the entropy. The
    gradient passes through the classifier and the decoder to x0, the noise being a constant.

    Args:
        classifier: (B, 3, H, W) images in [-1, 1] -> (B, classes).
        decode: clean latents -> images.
        scale: s, published 10, from timestep 795 of 1000 on.
    """

    def total(x0: Tensor) -> Tensor:
        log: Tensor = classifier(decode(x0)).to(x0.dtype).log_softmax(dim=1)
        return -(log.exp() * log).sum()

    def push(state: StepState) -> StepState:
        gradient = _gradient_by_x0(state, total)
        return state.with_eps(state.eps - scale * (1 - state.alpha) ** 0.5 * gradient)

    return Guide(push)


def learnability(
    student: nn.Module,
    teacher: nn.Module,
    labels: Tensor,
    decode: Callable[[Tensor], Tensor],
    scale: float,
    *,
    weight: float = 0.5,
    lowers: bool = False,
) -> Guide:
    """Make images that a student of earlier ones has yet to learn: e - scale rho grad_x score.

    Chan-Santiago and Shah, "Learnability-Guided Diffusion for Dataset Distillation" (LGD), CVPR
    2026, https://arxiv.org/abs/2604.00519: the score is student CE - w teacher CE, and rho = rms(e)
    / rms(gradient) sqrt(1 - a) of each image. The paper prints e + ..., and prints classifier
    guidance likewise, e + ... grad_x log p: it means towards a higher score, for which it chooses
    among candidates too, and with e as DDPM has it that is minus, the default here. By the letter
    (`lowers`) the score falls. No code of LGD was found. The gradient passes through both networks,
    the decoder and the denoiser.

    Args:
        student: of the earlier images, (B, 3, H, W) images in [-1, 1] -> (B, classes).
        teacher: of the real images, likewise.
        labels: (B,) of the images.
        decode: clean latents -> images.
        scale: lambda, published 15, in 35 of 50 steps, counted down from 45.
        weight: w.
        lowers: takes the printed sign.
    """
    sign = -1 if lowers else 1

    def push(state: StepState) -> StepState:
        images = decode(state.x0)
        losses = [
            F.cross_entropy(network(images).to(state.x0.dtype), labels, reduction="sum")
            for network in (student, teacher)
        ]
        gradient = state.gradient(losses[0] - weight * losses[1])
        return state.with_eps(state.eps - sign * scale * _rho(state, gradient) * gradient)

    return Guide(push, through="denoiser")


def transport(
    support: Tensor,
    masses: Tensor,
    finished: Tensor,
    scale: float,
    *,
    epsilon: float = 0.1,
    iterations: int = 5,
) -> Guide:
    """Move the images of a class together towards the class's weighted cluster centres.

    The distribution term of Wang et al., "DMGD: Train-Free Dataset Distillation with
    Semantic-Distribution Matching in Diffusion Models", CVPR 2026,
    https://arxiv.org/abs/2605.03877: the entropic transport cost (Sinkhorn, in the log domain here)
    between the images so far and the centres is lowered, earlier images staying as they are. The
    released code takes Euclidean distances of latents that are scaled to length 1. Ours: points
    are the predicted x0, beside which finished latents can stand; the cost is the mean squared
    difference of values; each image moves by the share `scale` towards the mean that its
    plan gives it, which is half of minus the gradient of the summed squared differences, per mass.
    The gradient passes through x0 alone.

    Args:
        support: (K, C, h, w) centres.
        masses: (K,) summing to 1.
        finished: (M, C, h, w) of the class.
        scale: share of the way, published 0.05 to 0.5, in a window of 15 of 50 steps.
        epsilon: of the entropy.
        iterations: of Sinkhorn's.
    """
    centres = support.flatten(1)

    def pull(state: StepState) -> StepState:
        points = torch.cat([state.x0.detach(), finished]).flatten(1)
        cost = _distances(points, centres).square() / points.shape[1]
        plan = sinkhorn(cost, masses, epsilon, iterations)[: len(state.x0)]
        target = (plan / plan.sum(dim=1, keepdim=True)) @ centres
        away = state.x0 - target.view_as(state.x0)
        return state.with_x0(state.x0 - scale * away, consistent=True)

    return Guide(pull)


def sinkhorn(cost: Tensor, masses: Tensor, epsilon: float, iterations: int) -> Tensor:
    """(n, K) transport plan of n equal masses to (K,) others, by updates in the log domain.

    Cuturi, "Sinkhorn Distances", NeurIPS 2013, https://arxiv.org/abs/1306.0895. The last update is
    that of the rows, so that each of these sums to 1 / n.
    """
    kernel, logs = -cost.double() / epsilon, masses.double().log()  # of a small epsilon, large
    columns = torch.zeros_like(logs)
    own = -math.log(len(cost))
    for _ in range(iterations):
        rows = own - (kernel + columns).logsumexp(dim=1)
        columns = logs - (kernel + rows[:, None]).logsumexp(dim=0)
    rows = own - (kernel + columns).logsumexp(dim=1)
    return (kernel + columns + rows[:, None]).exp().to(cost)


def diversity(
    mean: Tensor,
    finished: Tensor,
    scale: float,
    mean_scale: float,
    *,
    epsilon: float = 0.01,
) -> Guide:
    """Spread the images of a class, and hold their mean at the real one.

    "CGS", as notes on it have it: mean - scale grad_x (-log det(K + epsilon I)) - rate grad_x
    ||mean of x_t - sqrt(a) real mean||^2, K being the cosines between the x0 of the class. The
    scales are ours: the rate is mean_scale / 2 for each image, so that `mean_scale` is the share of
    the way to the real mean that a step goes, however many images there are (with one rate for all
    numbers, a single image is thrown past it). The first gradient passes through x0, the noise
    being a constant, the second through nothing.

    Args:
        mean: (C, h, w) of the class's real latents.
        finished: (M, C, h, w) of the class, which count for K and stay as they are.
        scale: of the spreading.
        mean_scale: in [0, 1], of the way to the real mean.
        epsilon: keeps the determinant finite where images are alike.
    """

    def crowding(x0: Tensor) -> Tensor:
        rows = F.normalize(torch.cat([x0, finished]).flatten(1), dim=1)
        kernel = rows @ rows.T + epsilon * torch.eye(len(rows), device=rows.device).to(rows)
        return -kernel.logdet()

    def push(state: StepState) -> StepState:
        off = state.x.mean(dim=0) - state.alpha**0.5 * mean
        gradient = scale * _gradient_by_x0(state, crowding) + mean_scale * off
        return state.with_mean(state.mean - gradient)

    return Guide(push)


def _gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of a loss () at x, all else being constant."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(loss(x), x)[0]


def _gradient_by_x0(state: StepState, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient with respect to x of a loss of x0 = (x - sqrt(1 - a) e) / sqrt(a), e a constant."""
    return _gradient(loss, state.x0) / state.signal


def _rho(state: StepState, gradient: Tensor, factor: float = 1.0) -> Tensor:
    """(B, 1, 1, 1) factor rms(e) / rms(gradient) sqrt(1 - a), of each image."""
    rho: Tensor = factor * _rms(state.eps.detach()) / _rms(gradient) * (1 - state.alpha) ** 0.5
    return rho


def _rms(values: Tensor) -> Tensor:
    """(B, 1, 1, 1) root mean square of each image's values, never 0."""
    dims = tuple(range(1, values.ndim))
    return values.square().mean(dim=dims, keepdim=True).sqrt().clamp_min(1e-12)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """(n, m) Euclidean distances, not by products, which round small ones away."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
