"""Cross-attention to one token, computed once per decode instead of once per step.

The softmax over a single token is 1, so that LDM's cross-attention to its class token (Rombach et
al., https://arxiv.org/abs/2112.10752) is W_o W_v c + b whatever x is: one vector per layer, alike
at all positions and in all steps. This is exact, for the gradient to c too.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


class OneToken:
    """The cross-attentions of a UNet, replaced here by what they make of a single token.

    From then on the UNet expects as `encoder_hidden_states` what this makes of its conditions.

    Args:
        unet: changed in place; its weights stay where they are.

    Raises:
        ValueError: conditions enter it in another way; see `possible`.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        if not OneToken.possible(unet):
            raise ValueError("conditions enter this UNet otherwise than by plain cross-attention.")
        self.layers: list[Attention] = []
        start = 0
        for block in _blocks(unet):
            stop = start + block.attn2.to_out[0].out_features
            block.attn2.set_processor(_Columns(start, stop))
            block.norm2 = _Unread(block.norm2)
            self.layers.append(block.attn2)
            start = stop

    @staticmethod
    def possible(unet: UNet2DConditionModel) -> bool:
        """Whether conditions enter the UNet through plain cross-attention alone."""
        blocks = _blocks(unet)
        known = {id(block.attn2) for block in blocks}
        crossing = [m for m in unet.modules() if isinstance(m, Attention) and m.is_cross_attention]
        return (
            bool(blocks)
            and unet.encoder_hid_proj is None
            and all(id(layer) in known for layer in crossing)
            and all(_plain(block) for block in blocks)
        )

    def __call__(self, c: Tensor) -> Tensor:
        """(B, 1, D) -> (B, 1, sum of the layers' widths), what each layer adds to its input."""
        return torch.cat([layer.to_out[0](layer.to_v(c)) for layer in self.layers], dim=2)


class _Columns:
    """A processor of diffusers' Attention that finds its output among those of all layers."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, 1, width), to be added at every position."""
        return encoder_hidden_states[:, :, self.start : self.stop]


class _Unread(nn.Module):
    """A norm whose output nobody reads any more."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """X itself."""
        return x


def _blocks(unet: UNet2DConditionModel) -> list[Any]:
    return [m for m in unet.modules() if isinstance(m, BasicTransformerBlock) and m.attn2]


def _plain(block: Any) -> bool:
    layer = block.attn2
    return (
        block.norm_type == "layer_norm"
        and block.pos_embed is None
        and not block.only_cross_attention
        and not layer.residual_connection
        and layer.rescale_output_factor == 1
        and layer.spatial_norm is None
        and layer.group_norm is None
        and not layer.norm_cross
        and layer.added_kv_proj_dim is None
    )
