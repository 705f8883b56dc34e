"""ConvNet-D, the student that most distillation papers optimise for.

Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018,
https://arxiv.org/abs/1804.09458, as used by Zhao et al., "Dataset Condensation with Gradient
Matching", ICLR 2021, https://arxiv.org/abs/2006.05929.
"""

from torch import Tensor, nn

from latentdc.networks.base import Network, instance_norm


class ConvNet(Network):
    """`depth` blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling."""

    def __init__(self, *, depth: int, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [
                nn.Conv2d(width if block else 3, width, 3, padding=1),
                instance_norm(width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Linear(width * (resolution // 2**depth) ** 2, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width * (H / 2**depth)**2), the flattened last map."""
        embedding: Tensor = self.trunk(images)
        return embedding
