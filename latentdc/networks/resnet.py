"""ResNets of basic blocks: ResNet-18, CIFAR's ResNet-20 and -56, and ResNetAP-10.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385. ResNet-18 follows the distillation literature: instance norm, or
batch norm by another name, for small images a stem of one 3x3 convolution, and PyTorch's initial
weights or, by names of their own, He's (https://arxiv.org/abs/1502.01852, fan out): IDC's, whose
stem follows the resolution (https://arxiv.org/abs/2205.14959, which Minimax scores with), and
EDC's, with batch norm (https://arxiv.org/abs/2404.13733). The "modified" ResNet-18 of SRe2L and
RDED is torchvision's with another stem, `torchvision/resnet18-small`. ResNet-20 and -56 are those
of the paper's section 4.2: batch norm and shortcuts without parameters (option A); their state
dicts have the keys of https://github.com/akamaster/pytorch_resnet_cifar10. ResNetAP-10 is IDC's
student of the ImageNet subsets, with average pooling in place of strides, which Minimax
(https://arxiv.org/abs/2311.15529) and its successors score with.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from latentdc.networks.base import Network, he_normal, instance_norm

Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added.

    Where the block changes the shape, the input goes through a strided 1x1 convolution with norm
    (`project`), or loses every second pixel and gains zero channels.
    """

    def __init__(self, channels: int, width: int, stride: int, norm: Norm, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = (
                nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), norm(width))
                if project
                else ZeroPadShortcut(stride, width - channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zero channels, half before and half after."""

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride, self.side = stride, new_channels // 2
        self.groups = 1  # of channels, each of which gains its own

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + new_channels, H / stride, W / stride)."""
        seen = x[:, :, :: self.stride, :: self.stride].unflatten(1, (self.groups, -1))
        return F.pad(seen, (0, 0, 0, 0, self.side, self.side)).flatten(1, 2)


def _stage(
    channels: int, width: int, blocks: int, stride: int, norm: Norm, project: bool
) -> nn.Module:
    """`blocks` basic blocks of one width, the first with the stride."""
    first = BasicBlock(channels, width, stride, norm, project)
    rest = [BasicBlock(width, width, 1, norm, project) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class ResNet18(Network):
    """Four stages of two blocks.

    Args:
        stem: `small`, a 3x3 convolution; `imagenet`, a 7x7 one of stride 2 and pooling; or `idc`,
            the first up to 64 px, with the pooling up to 128 px, and the second above.
        width: of the first stage.
        num_classes: size of the logits.
        resolution: of the images, in pixels.
        norm: by instance, or `nn.BatchNorm2d`.
        he: convolutions begin from He's normal distribution (fan out), not PyTorch's uniform one.
    """

    def __init__(
        self,
        *,
        stem: Literal["small", "imagenet", "idc"],
        width: int,
        num_classes: int,
        resolution: int,
        norm: Norm = instance_norm,
        he: bool = False,
    ) -> None:
        super().__init__()
        small = stem == "small" or (stem == "idc" and resolution <= 128)
        pooled = stem == "imagenet" or (stem == "idc" and resolution > 64)
        self.conv1 = (
            nn.Conv2d(3, width, 3, padding=1, bias=False)
            if small
            else nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        )
        self.bn1 = norm(width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if pooled else nn.Identity()
        self.layer1 = _stage(width, width, 2, 1, norm, project=True)
        self.layer2 = _stage(width, 2 * width, 2, 2, norm, project=True)
        self.layer3 = _stage(2 * width, 4 * width, 2, 2, norm, project=True)
        self.layer4 = _stage(4 * width, 8 * width, 2, 2, norm, project=True)
        self.linear = nn.Linear(8 * width, num_classes)
        if he:
            he_normal(self)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 8 * width), the mean over pixels of the last map."""
        out = self.pool(F.relu(self.bn1(self.conv1(images))))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        embedding: Tensor = out.mean(dim=(2, 3))
        return embedding


class CifarResNet(Network):
    """Three stages of `blocks` blocks, with batch norm. `resolution` changes no shape."""

    def __init__(self, *, blocks: int, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, nn.BatchNorm2d, project=False)
        self.layer2 = _stage(width, 2 * width, blocks, 2, nn.BatchNorm2d, project=False)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, nn.BatchNorm2d, project=False)
        self.linear = nn.Linear(4 * width, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4 * width), the mean over pixels of the last map."""
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        embedding: Tensor = out.mean(dim=(2, 3))
        return embedding


class _PooledBlock(nn.Module):
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
    """Four stages of one block, instance norm; convolutions begin from He's normal distribution.

    The stem follows the resolution: up to 64 px a 3x3 convolution, up to 128 px the same and 2x2
    pooling, above a 7x7 convolution and 4x4 pooling.
    """

    def __init__(self, *, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        kernel, pool = (3, 1) if resolution <= 64 else (3, 2) if resolution <= 128 else (7, 4)
        self.trunk = nn.Sequential(
            *(nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=False), instance_norm(width)),
            *(nn.ReLU(), nn.AvgPool2d(pool)),
            _PooledBlock(width, width, 1),
            _PooledBlock(width, 2 * width, 2),
            _PooledBlock(2 * width, 4 * width, 2),
            _PooledBlock(4 * width, 8 * width, 2),
        )
        self.linear = nn.Linear(8 * width, num_classes)
        he_normal(self)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 8 * width), the mean over pixels of the last map."""
        embedding: Tensor = self.trunk(images).mean(dim=(2, 3))
        return embedding
