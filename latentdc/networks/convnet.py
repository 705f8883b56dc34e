"""ConvNet-D, the student that most distillation papers optimise for.

Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018,
https://arxiv.org/abs/1804.09458, as used by Zhao et al., "Dataset Condensation with Gradient
Matching", ICLR 2021, https://arxiv.org/abs/2006.05929.
"""

from collections.abc import Callable

from torch import Tensor, nn

from latentdc.networks.base import Network, instance_norm


class ConvNet(Network):
    """`depth` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling.

    Without a depth, it has as many blocks as leave a last map of 4 to 7 px: 3 at 32 px, 5 at 128,
    7 at 512, as the literature has it. The norm is by instance; with `nn.BatchNorm2d` it is the
    ConvNet of RDED (https://arxiv.org/abs/2312.03526).
    """

    def __init__(
        self,
        *,
        depth: int | None,
        width: int,
        num_classes: int,
        resolution: int,
        norm: Callable[[int], nn.Module] = instance_norm,
    ) -> None:
        super().__init__()
        depth = depth or max(1, resolution.bit_length() - 3)  # leaves a map of 4 to 7 px
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [
                nn.Conv2d(width if block else 3, width, 3, padding=1),
                norm(width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Linear(width * (resolution // 2**depth) ** 2, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width * (H / 2**depth)**2), the flattened last map."""
        embedding: Tensor = self.trunk(images)
        return embedding
