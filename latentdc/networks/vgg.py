"""VGG-11 with instance norm, as the distillation literature trains it.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, https://arxiv.org/abs/1409.1556, in two forms. Under 64 px that of DC, DSA, DM and MTT
(https://github.com/VICO-UoE/DatasetCondensation, at 32 px): the last pooling leaves one pixel, and
one linear layer classifies it. From 64 px that of GLaD and LD3M (at 128 px): the last map is
max-pooled to 7x7 whatever its size (a 4x4 map grows to 7x7) and classified by one linear layer.
Ours alone: a pooling before the last that would leave a single pixel, which an instance norm turns
into zero, is left out, so that images under 32 px work.
"""

from torch import Tensor, nn

from latentdc.networks.base import Network, instance_norm

BLOCKS = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # widths of each block's convolutions, in base widths


class VGG11(Network):
    """Eight 3x3 convolutions in five blocks, each block followed by 2x2 max pooling."""

    def __init__(self, *, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 3, resolution
        for number, block in enumerate(BLOCKS, start=1):
            for multiple in block:
                layers += [
                    nn.Conv2d(channels, multiple * width, 3, padding=1),
                    instance_norm(multiple * width),
                    nn.ReLU(),
                ]
                channels = multiple * width
            if size // 2 >= 2 or number == len(BLOCKS):
                layers.append(nn.MaxPool2d(2))
                size //= 2
        side = 1 if size == 1 else 7
        if side == 7:
            layers.append(nn.AdaptiveMaxPool2d(side))
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.linear = nn.Linear(channels * side * side, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 8 * width * 49), the flattened 7x7 map; or (B, 8 * width)."""
        embedding: Tensor = self.trunk(images)
        return embedding
