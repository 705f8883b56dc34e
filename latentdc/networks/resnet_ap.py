"""ResNetAP-10, a student of the ImageNet subsets: average pooling in place of strides.

Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022,
https://arxiv.org/abs/2205.14959, as Minimax (https://arxiv.org/abs/2311.15529) and its successors
score with: four stages of one basic block, instance norm. The stem follows the resolution: up to
64 px a 3x3 convolution, up to 128 px the same and 2x2 pooling, above a 7x7 convolution and 4x4
pooling.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from latentdc.networks.base import Network, he_normal, instance_norm


class PooledBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added, with pooling where the map shrinks."""

    def __init__(self, channels: int, width: int, pool: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(pool)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = instance_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = instance_norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), nn.AvgPool2d(pool), instance_norm(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, width, H / pool, W / pool)."""
        out = self.pool(F.relu(self.bn1(self.conv1(x))))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNetAP10(Network):
    """A stem and four blocks; convolutions begin from He's normal distribution (fan out)."""

    def __init__(self, *, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        kernel, pool = (3, 1) if resolution <= 64 else (3, 2) if resolution <= 128 else (7, 4)
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=False), instance_norm(width)),
            *(nn.ReLU(), nn.AvgPool2d(pool)),
            PooledBlock(width, width, 1),
            PooledBlock(width, 2 * width, 2),
            PooledBlock(2 * width, 4 * width, 2),
            PooledBlock(4 * width, 8 * width, 2),
        )
        self.linear = nn.Linear(8 * width, num_classes)
        he_normal(self)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 8 * width), the mean over pixels of the last map."""
        embedding: Tensor = self.trunk(images).mean(dim=(2, 3))
        return embedding
