"""Rules that look at a scorer's predictions of an image, at the end of an epoch.

All are computed so that the easiest images, whose probabilities round to 1, keep their ranks. Of
those that are averaged over epochs the loss alone is kept in single precision, see
`latentdc.prune.dynamics`; in half precision neighbours of the others may tie.
"""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from latentdc.prune.scorers import Classifier

_GRADIENTS = 64  # gradients of the whole network in memory


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) -log softmax(logits)[label] of (B, C) logits: how hard a classifier finds each image.

    Averaged over early or late epochs and several trainings: the static level of Xu et al.,
    "Distill Gold from Massive Ores", ECCV 2024, https://arxiv.org/abs/2305.18381 (BiLP), which
    drops the largest within each class. Under given weights: Moser et al., "Distill the Best,
    Ignore the Rest", https://arxiv.org/abs/2411.12115.

    A trained network's loss on an easy image lies below float32's resolution near log 1, where the
    usual form rounds thousands of images to the same zero; log(1 + exp(others - own)) ranks them.
    """
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
    return F.softplus(others - logits.gather(1, own).squeeze(1))


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) ||softmax(logits) - onehot(label)||_2 of (B, C) logits, in [0, sqrt 2].

    The length of the error vector, a cheap stand-in for the gradient norm early in training: Paul
    et al., "Deep Learning on a Data Diet", NeurIPS 2021, https://arxiv.org/abs/2107.07075,
    definition 2.3, averaged over networks (`prune.scorer.runs`) after a few epochs
    (`prune.window`). 1 - p_y comes from the loss, which is precise where p_y rounds to 1.
    """
    own = labels.unsqueeze(1)
    error = logits.softmax(dim=1).scatter(1, own, 0)
    missing = -torch.expm1(-cross_entropy(logits, labels))
    norm: Tensor = error.scatter(1, own, missing.unsqueeze(1)).norm(dim=1)
    return norm


def grand(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """(B,) gradient norm of a linear classifier's weight and bias, in closed form.

    GraNd of Paul et al. (see `el2n`), definition 2.1: E ||grad_theta loss(x, y)||_2, averaged over
    epochs and networks as EL2N is; of the loss of one image, never of a batch's mean. With
    g = p - onehot(y), the gradient is (g f^T, g), so its norm is ||g|| sqrt(1 + ||f||^2).

    Args:
        logits: (B, C).
        labels: (B,).
        features: (B, D), what the linear classifier sees.
    """
    return el2n(logits, labels) * (1 + features.square().sum(dim=1)).sqrt()


def grand_full(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """(B,) norm of the gradient by all parameters of the network, image by image; see `grand`.

    In eval mode: a batch norm that looks at the batch has no gradient of one image.

    Args:
        classifier: the scorer.
        images: (B, 3, H, W) in [-1, 1].
        labels: (B,).
    """
    assert not classifier.training
    parameters = {name: p.detach() for name, p in classifier.network.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(classifier.network, parameters, image.unsqueeze(0))
        return F.cross_entropy(classifier.restrict(logits).float(), label.unsqueeze(0))

    def norm(image: Tensor, label: Tensor) -> Tensor:
        gradients = grad(loss)(parameters, image, label)
        return torch.stack([g.float().square().sum() for g in gradients.values()]).sum().sqrt()

    norms: Tensor = vmap(norm, chunk_size=_GRADIENTS)(classifier.input_of(images), labels)
    return norms


# ---- How undecided the scorer is as it ends, whatever the label: uncertainty selection as in ----
# Coleman et al., "Selection via Proxy", ICLR 2020, https://arxiv.org/abs/1906.11829.


def entropy(logits: Tensor) -> Tensor:
    """(B,) -sum_c p_c log p_c of (B, C) logits, in [0, log C]."""
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def least_confidence(logits: Tensor) -> Tensor:
    """(B,) 1 - max_c p_c of (B, C) logits, in [0, 1), precise where p rounds to 1."""
    return -torch.expm1(-cross_entropy(logits, logits.argmax(dim=1)))


def margin(logits: Tensor) -> Tensor:
    """(B,) 1 - (p(1) - p(2)) of (B, C) logits, in [0, 1]; so written, high is hard."""
    runner_up = logits.softmax(dim=1).topk(2, dim=1).values[:, 1]
    return least_confidence(logits) + runner_up
