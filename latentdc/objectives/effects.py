"""What each real image does to the gradient of the synthetic ones: ITE, BiLP's dynamic level.

Xu et al., "Distill Gold from Massive Ores: Bi-level Data Pruning towards Efficient Dataset
Distillation", ECCV 2024, https://arxiv.org/abs/2305.18381. The individual treatment effect of a
real image x on the synthetic images S of its class is

    ITE(x) = dL(R, S)/dS - dL(R without x, S)/dS.

A separable L sees the n real images R through the mean r of vectors phi(x) alone: features, or
gradients. Leaving x out moves r by -(phi(x) - r) / (n - 1), so that, to first order in that,

    ITE(x) = d^2 L / (dS dr) (phi(x) - r) / (n - 1),

exact for distribution matching, whose L is quadratic in r. The form `taylor` of an effect is the
length of that, `bound` the length of (phi(x) - r) / (n - 1) alone, which bounds it up to a factor
that all images of a class share. The paper's code of this level is not
public; what stands here is derived from that definition, with one product per image, where the
paper speaks of one Hessian-vector product. S are the decoded images: no prior is differentiated.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.torch_version import TorchVersion

from latentdc.networks.base import Network
from latentdc.objectives.base import EffectForm, at_once
from latentdc.objectives.gradient import DISTANCES, Distance, class_gradient, real_gradient

_BATCHED = TorchVersion(torch.__version__) >= TorchVersion("2.14")  # vmap failed in backward before
NUMBERS = 2**24  # of the gradients of single images that are in memory at once

Effects = Callable[[Network, Tensor, Tensor, Callable[[Tensor], Tensor], int, EffectForm], Tensor]
"""(student, real, synthetic, treat, label, form) -> (N,) lengths of effects of a class's images.

`real` are (N, C, H, W) normalised and augmented, at least two; `synthetic` (ipc, C, H, W) decoded
images in [-1, 1]; `treat` normalises and augments them as the real ones were.
"""


def distribution_effects(
    student: Network,
    real: Tensor,
    synthetic: Tensor,
    treat: Callable[[Tensor], Tensor],
    label: int,
    form: EffectForm = "taylor",
) -> Tensor:
    """Effects under distribution matching, -2 J^T (phi(x) - r) / (n - 1) with J = d mean / dS."""
    with torch.no_grad():
        parts = real.split(at_once(real))
        features = torch.cat([student.features(part) for part in parts]).float()  # (N, D)
    mean = features.mean(dim=0)
    deviations = ((part - mean,) for part in features.split(_share(synthetic)))

    def loss(images: Tensor, means: Sequence[Tensor]) -> Tensor:
        return (student.features(treat(images)).float().mean(dim=0) - means[0]).square().sum()

    return _lengths(loss, [mean], synthetic, deviations, len(real), form)


def gradient_effects(
    student: Network,
    real: Tensor,
    synthetic: Tensor,
    treat: Callable[[Tensor], Tensor],
    label: int,
    form: EffectForm = "taylor",
    *,
    distance: Distance = "rowwise",
) -> Tensor:
    """Effects under gradient matching; phi(x) is the gradient of the loss of x at the weights."""
    weights = [p for p in student.parameters() if p.requires_grad]
    means = real_gradient(student, weights, real, label)

    def loss(images: Tensor, means: Sequence[Tensor]) -> Tensor:
        gradients = class_gradient(student, weights, treat(images), label)
        return DISTANCES[distance](gradients, means)

    size = max(1, min(_share(synthetic), NUMBERS // sum(w.numel() for w in weights)))
    singles = _single_gradients(student, real, label, size)
    deviations = ([g - mean for g, mean in zip(part, means, strict=True)] for part in singles)
    return _lengths(loss, means, synthetic, deviations, len(real), form)


def _share(synthetic: Tensor) -> int:
    """Real images whose products are formed at once: each costs a pass of all `synthetic` ones."""
    return max(1, at_once(synthetic) // len(synthetic))


def _single_gradients(
    student: Network, images: Tensor, label: int, size: int
) -> Iterator[list[Tensor]]:
    """Per weight (B, ...) gradients of the losses of single images, `size` images at once."""
    trained = {name: p.detach() for name, p in student.named_parameters() if p.requires_grad}
    target = torch.tensor([label], device=images.device)

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return cross_entropy(functional_call(student, weights, (image.unsqueeze(0),)), target)

    single = vmap(grad(loss), in_dims=(None, 0))
    for part in images.split(size):
        yield list(single(trained, part).values())


def _products(used: Sequence[Tensor], images: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """(B, *images.shape) products of the Jacobian of `used` with each of the B rows."""
    if _BATCHED:
        (found,) = torch.autograd.grad(used, images, rows, is_grads_batched=True, retain_graph=True)
        return found
    each = zip(*rows, strict=True)
    return torch.stack(
        [torch.autograd.grad(used, images, row, retain_graph=True)[0] for row in each]
    )


def _lengths(
    loss: Callable[[Tensor, Sequence[Tensor]], Tensor],
    means: Sequence[Tensor],
    synthetic: Tensor,
    deviations: Iterable[Sequence[Tensor]],
    count: int,
    form: EffectForm,
) -> Tensor:
    """(N,) lengths of d^2 L / (dS dr) v / (n - 1), or of v / (n - 1), n being `count`.

    L is `loss` of S and of r, `means`, in one tensor or several; v are the rows phi(x) - r of
    `deviations`, of some x after others, (B, ...) for each tensor of r.
    """
    images = synthetic.detach().clone().requires_grad_()
    means = [mean.detach().clone().requires_grad_() for mean in means]
    lengths = []
    with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
        slopes = torch.autograd.grad(
            loss(images, means), means, create_graph=True, allow_unused=True
        )
        for part in deviations:
            pairs = zip(slopes, part, strict=True)  # no slope of what the distance leaves out
            used, rows = zip(
                *((a, v / (count - 1)) for a, v in pairs if a is not None), strict=True
            )
            if form == "taylor":
                rows = (_products(used, images, rows),)
            squares = [row.flatten(1).square().sum(1) for row in rows]
            lengths.append(torch.stack(squares).sum(0).sqrt())
    return torch.cat(lengths).detach()
