"""An objective of one's own: a function of one class, whose sum over classes is the loss.

    def mine(student, real, synthetic, label): ...

gets a randomly initialised student (a `Network`: `student.features(images)` -> (B, D),
`student(images)` -> (B, C) logits), real images (N, 3, H, W) and synthetic ones (M, 3, H, W) of the
class, both normalised and augmented alike, and the class's index. It returns the () loss, through
which the synthetic images get their gradient.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.networks.base import Network
from latentdc.networks.build import new_network
from latentdc.recipe.networks import input_shape
from latentdc.recipe.own import failed, resolve

_OfClass = Callable[[Network, Tensor, Tensor, int], Tensor]


def own_match(
    kind: str, network: str, *, num_classes: int, resolution: int
) -> Callable[[Network, Iterable[Tensor], Sequence[Tensor], Sequence[int]], Tensor]:
    """The loss of some classes, as `Classwise` takes it, of a function of one class.

    A student of the name `network` tries it on random images. A function that is not there, fails,
    or returns no finite () loss that depends on the synthetic images is refused.
    """
    function: _OfClass = resolve(kind, "objective.kind")
    label = f"objective.kind={kind.partition('#')[0]}"
    if not callable(function) or isinstance(function, type):
        raise InputError(
            f"{label} is a function (student, real, synthetic, label) -> loss, got "
            f"{function!r:.80}."
        )
    sizes = {"num_classes": num_classes, "resolution": resolution}
    student = new_network(network, "try", **sizes, seed=0).eval()
    _try(function, label, student, input_shape(network, resolution))

    def match(
        student: Network,
        real: Iterable[Tensor],
        synthetic: Sequence[Tensor],
        labels: Sequence[int],
    ) -> Tensor:
        parts = zip(real, synthetic, labels, strict=True)
        losses = [function(student, one, some, label) for one, some, label in parts]
        return torch.stack(losses).sum()

    return match


def _try(function: _OfClass, label: str, student: Network, shape: tuple[int, ...]) -> None:
    """One batch of random images through the function, and back to the synthetic ones."""
    source = torch.Generator().manual_seed(0)
    real, synthetic = (torch.randn(count, *shape, generator=source) for count in (4, 2))
    synthetic.requires_grad_()
    try:
        with torch.enable_grad():
            loss = function(student, real, synthetic, 0)
    except Exception as error:
        raise failed(label, "fails on random images", error) from error
    if not isinstance(loss, Tensor) or loss.shape != ():
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"{label} returns a loss of shape (), got {got}; sum or average it.")
    gradient = None
    if loss.requires_grad:
        try:
            (gradient,) = torch.autograd.grad(loss, [synthetic], allow_unused=True)
        except RuntimeError as error:
            raise failed(label, "has no gradient", error) from error
    if gradient is None:
        raise InputError(f"{label}: the loss does not depend on the synthetic images.")
    if not bool(loss.isfinite() & gradient.isfinite().all()):
        raise InputError(f"{label}: loss or gradient of random images is not finite.")
