"""The vision transformer of the latent distillation literature: no layer norm at all.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929,
in the form that GLaD (https://arxiv.org/abs/2305.01649) and LD3M score with: its pre-norm is a
pass-through, so all LayerNorms are missing, and they are left out here for comparable numbers.
Published at 128 and 256 px with patches of 16 px; ours alone: images under 128 px are cut into
8 x 8 patches, because fewer say too little.
"""

import torch
from torch import Tensor, nn

from latentdc.networks.base import Network

_DEPTH, _HEADS, _DROPOUT = 10, 8, 0.1


class ViT(Network):
    """Ten residual pairs of attention and MLP over patches and a class token."""

    def __init__(self, *, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        patch = min(16, resolution // 8)  # px
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, (resolution // patch) ** 2 + 1, width))
        self.dropout = nn.Dropout(_DROPOUT)
        self.attentions = nn.ModuleList(Attention(width) for _ in range(_DEPTH))
        self.mlps = nn.ModuleList(_mlp(width) for _ in range(_DEPTH))
        self.linear = nn.Linear(width, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width), the class token after the last layer."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (B, T, width)
        x = torch.cat([self.token.expand(len(images), -1, -1), tokens], dim=1)
        x = self.dropout(x + self.position)
        for attention, perceptron in zip(self.attentions, self.mlps, strict=True):
            x = x + attention(x)
            x = x + perceptron(x)
        embedding: Tensor = x[:, 0]
        return embedding


class Attention(nn.Module):
    """Self-attention of eight heads, written out: fused kernels cannot be differentiated twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(_DROPOUT))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> same shape."""
        q, k, v = self.qkv(x).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)  # (B, _HEADS, T, T)
        out: Tensor = self.out((attention @ v).transpose(1, 2).flatten(2))
        return out


def _mlp(width: int) -> nn.Module:
    """Two linear layers of the tokens' own width."""
    return nn.Sequential(
        *(nn.Linear(width, width), nn.GELU(), nn.Dropout(_DROPOUT)),
        *(nn.Linear(width, width), nn.Dropout(_DROPOUT)),
    )
