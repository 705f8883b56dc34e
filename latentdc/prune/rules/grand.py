"""GraNd: the norm of each image's own gradient.

Paul et al., "Deep Learning on a Data Diet", NeurIPS 2021, https://arxiv.org/abs/2107.07075,
definition 2.1: E ||grad_theta loss(x, y)||_2, averaged over epochs and networks as EL2N is. Of the
loss of one image, never of a batch's mean, whose last and smaller batch would be inflated.
"""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from latentdc.prune.classifier import Classifier
from latentdc.prune.rules.el2n import el2n

_AT_ONCE = 64  # gradients of the whole network in memory


def last_layer(logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
    """(B,) gradient norm of a linear classifier's weight and bias, in closed form.

    With g = p - onehot(y), the gradient is (g f^T, g), so its norm is ||g|| sqrt(1 + ||f||^2).

    Args:
        logits: (B, C).
        labels: (B,).
        features: (B, D), what the linear classifier sees.
    """
    return el2n(logits, labels) * (1 + features.square().sum(dim=1)).sqrt()


def full(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """(B,) gradient norm over all parameters of the network, image by image.

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

    norms: Tensor = vmap(norm, chunk_size=_AT_ONCE)(classifier.input_of(images), labels)
    return norms
