"""VGG-11 with instance norm, as the distillation literature trains it.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, https://arxiv.org/abs/1409.1556. The last map is max-pooled to 7x7 whatever its size (at
128 px a 4x4 map grows to 7x7) and classified by one linear layer. Ours alone: a pooling that would
leave a single pixel, which an instance norm turns into zero, is left out, so that images under
64 px work.
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
        for block in BLOCKS:
            for multiple in block:
                layers += [
                    nn.Conv2d(channels, multiple * width, 3, padding=1),
                    instance_norm(multiple * width),
                    nn.ReLU(),
                ]
                channels = multiple * width
            if size // 2 >= 2:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        self.trunk = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(7), nn.Flatten())
        self.linear = nn.Linear(channels * 7 * 7, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 8 * width * 49), the flattened 7x7 map."""
        embedding: Tensor = self.trunk(images)
        return embedding
