"""AlexNet as the distillation literature trains it: stride 1, no norm or dropout, one linear layer.

Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012;
this variant from https://github.com/VICO-UoE/DatasetCondensation.
"""

from torch import Tensor, nn

from latentdc.networks.base import Network


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
