"""AlexNet and VGG-11 as the distillation literature trains them.

AlexNet: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks",
NeurIPS 2012; here with stride 1, without norm or dropout, with one linear layer, as in
https://github.com/VICO-UoE/DatasetCondensation.

VGG-11: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556, with instance norm, in two forms. Under
64 px that of DC, DSA, DM and MTT (same link, at 32 px): the last pooling leaves one pixel, and one
linear layer classifies it. From 64 px that of GLaD and LD3M (at 128 px): the last map is max-pooled
to 7x7 whatever its size (a 4x4 map grows to 7x7) and classified by one linear layer. Ours alone: a
pooling before the last that would leave a single pixel, which an instance norm turns into zero, is
left out, so that images under 32 px work.
"""

from torch import Tensor, nn

from latentdc.networks.base import Network, instance_norm

# Widths of each block's convolutions, in base widths.
_BLOCKS = ((1,), (2,), (4, 4), (8, 8), (8, 8))


class VGG11(Network):
    """Eight 3x3 convolutions in five blocks, each block followed by 2x2 max pooling."""

    def __init__(self, *, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 3, resolution
        for number, block in enumerate(_BLOCKS, start=1):
            for multiple in block:
                layers += [
                    nn.Conv2d(channels, multiple * width, 3, padding=1),
                    instance_norm(multiple * width),
                    nn.ReLU(),
                ]
                channels = multiple * width
            if size // 2 >= 2 or number == len(_BLOCKS):
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


class AlexNet(Network):
    """Five convolutions and three 2x2 max poolings. `width` is the first convolution's."""

    def __init__(self, *, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        middle = width * 3 // 2
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, middle, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(middle, 2 * width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(2 * width, middle, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(middle, middle, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
        )
        self.linear = nn.Linear(middle * (resolution // 8) ** 2, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1.5 * width * (H / 8)**2), the flattened last map."""
        embedding: Tensor = self.trunk(images)
        return embedding
