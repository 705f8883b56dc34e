"""Any torchvision classifier as a student: untrained, with a classifier of the set's size."""

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision import models

from latentdc.networks.base import Network
from latentdc.recipe.networks import SMALL_STEM


class TorchvisionStudent(Network):
    """A torchvision classifier whose last linear layer is set apart as `linear`."""

    def __init__(self, name: str, *, num_classes: int, resolution: int) -> None:
        super().__init__()
        sized = {"image_size": resolution} if name.startswith("vit_") else {}
        self.trunk: nn.Module = models.get_model(
            name.removesuffix(SMALL_STEM), weights=None, num_classes=num_classes, **sized
        )
        if name.endswith(SMALL_STEM):
            _shrink_stem(self.trunk)
        self._head, self.linear = _take_last_linear(self.trunk)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), what the classifier of torchvision's network sees."""
        embedding: Tensor = self.trunk(images)
        return embedding

    def named(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of torchvision, such as `classifier.1.weight`, become this student's."""
        if any(key.startswith("trunk.") for key in state):
            return dict(state)
        head = f"{self._head}."
        return {
            f"linear.{key.removeprefix(head)}" if key.startswith(head) else f"trunk.{key}": value
            for key, value in state.items()
        }


def _shrink_stem(resnet: nn.Module) -> None:
    """The "modified" ResNet of papers on small images: a 3x3 convolution in front, no pooling."""
    resnet.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    resnet.maxpool = nn.Identity()


def _take_last_linear(trunk: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the classifier, in whose place the trunk keeps an identity."""
    name, linear = [(n, m) for n, m in trunk.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    setattr(trunk.get_submodule(parent), last, nn.Identity())
    return name, linear
