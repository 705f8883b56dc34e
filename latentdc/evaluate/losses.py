"""What a student's logits are compared with: classes, or the logits of teachers."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from latentdc.evaluate.mixing import mix_targets


def hard_loss(
    logits: Tensor,
    labels: Tensor,
    partners: Tensor | None = None,
    kept: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """() cross-entropy with the classes of the images, mixed where the images are.

    Args:
        logits: (B, C).
        labels: (B,).
        partners: (B,) classes of the images that were mixed in, None where none was.
        kept: (B,) share of the image itself.
        smoothing: share of the target that is spread over all classes.
    """
    if partners is None or kept is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    own, other = (F.one_hot(y, logits.shape[1]).to(logits.dtype) for y in (labels, partners))
    return F.cross_entropy(logits, mix_targets(own, other, kept), label_smoothing=smoothing)


def soft_loss(
    logits: Tensor, taught: Tensor, kind: Literal["ce", "kl", "mse"], temperature: float
) -> Tensor:
    """() loss of student logits (B, C) under the teacher's (B, C).

    `kl` is the mean over images of KL(softmax(t / T) || softmax(s / T)), without the factor T^2 of
    Hinton et al. (https://arxiv.org/abs/1503.02531), as SRe2L and its successors have it; `ce` is
    the cross-entropy of softmax(s) with softmax(t / T); `mse` compares logits.
    """
    if kind == "mse":
        return F.mse_loss(logits, taught)
    if kind == "ce":
        return F.cross_entropy(logits, (taught / temperature).softmax(dim=1))
    return F.kl_div(
        (logits / temperature).log_softmax(dim=1),
        (taught / temperature).log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )


def mix_logits(
    own: Tensor, partners: Tensor, kept: Tensor, kind: Literal["ce", "kl", "mse"], t: float
) -> Tensor:
    """(B, C) logits of two mixed labels: mixed themselves for `mse`, by their probabilities else.

    Then softmax(logits / t) = kept softmax(own / t) + (1 - kept) softmax(partners / t).
    """
    if kind == "mse":
        return mix_targets(own, partners, kept)
    mixed = mix_targets((own / t).softmax(dim=1), (partners / t).softmax(dim=1), kept)
    return mixed.clamp(min=1e-38).log() * t
