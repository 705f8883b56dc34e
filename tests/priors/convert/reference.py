"""CompVis' networks written out over a dictionary of weights, independently of diffusers.

A block is what its keys say that it is, so a walk over the keys of a checkpoint is the network.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def conv(w: Weights, at: str, x: Tensor, **how: object) -> Tensor:
    return F.conv2d(x, w[f"{at}.weight"], w[f"{at}.bias"], **how)


def linear(w: Weights, at: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{at}.weight"], w.get(f"{at}.bias"))


def norm(w: Weights, at: str, x: Tensor, eps: float) -> Tensor:
    return F.group_norm(x, 32, w[f"{at}.weight"], w[f"{at}.bias"], eps)


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def resnet(w: Weights, at: str, x: Tensor, emb: Tensor) -> Tensor:
    h = conv(w, f"{at}.in_layers.2", F.silu(norm(w, f"{at}.in_layers.0", x, 1e-5)), padding=1)
    h = h + linear(w, f"{at}.emb_layers.1", F.silu(emb))[:, :, None, None]
    h = conv(w, f"{at}.out_layers.3", F.silu(norm(w, f"{at}.out_layers.0", h, 1e-5)), padding=1)
    skip = f"{at}.skip_connection"
    return h + (conv(w, skip, x) if f"{skip}.weight" in w else x)


def attention(w: Weights, at: str, x: Tensor, heads: int) -> Tensor:
    """Each head's q, k and v lie side by side in the joint projection."""
    size, channels, height, width = x.shape
    flat = norm(w, f"{at}.norm", x, 1e-5).flatten(2)
    joint = F.conv1d(flat, w[f"{at}.qkv.weight"], w[f"{at}.qkv.bias"])
    out = []
    for q, k, v in (head.chunk(3, dim=1) for head in joint.chunk(heads, dim=1)):
        logits = torch.einsum("bct,bcs->bts", q, k) / math.sqrt(channels // heads)
        out.append(torch.einsum("bts,bcs->bct", logits.softmax(dim=-1), v))
    mixed = F.conv1d(torch.cat(out, 1), w[f"{at}.proj_out.weight"], w[f"{at}.proj_out.bias"])
    return x + mixed.reshape(size, channels, height, width)


def cross(w: Weights, at: str, x: Tensor, context: Tensor, heads: int) -> Tensor:
    q, k, v = linear(w, f"{at}.to_q", x), linear(w, f"{at}.to_k", context), None
    v = linear(w, f"{at}.to_v", context)
    out = []
    for qh, kh, vh in zip(*(part.chunk(heads, dim=-1) for part in (q, k, v)), strict=True):
        out.append((qh @ kh.mT / math.sqrt(qh.shape[-1])).softmax(dim=-1) @ vh)
    return linear(w, f"{at}.to_out.0", torch.cat(out, dim=-1))


def transformer(w: Weights, at: str, x: Tensor, c: Tensor, heads: int) -> Tensor:
    size, channels, height, width = x.shape
    h = conv(w, f"{at}.proj_in", norm(w, f"{at}.norm", x, 1e-6)).flatten(2).mT
    block = f"{at}.transformer_blocks.0"

    def ln(name: str, h: Tensor) -> Tensor:
        return F.layer_norm(h, (channels,), w[f"{block}.{name}.weight"], w[f"{block}.{name}.bias"])

    inner = ln("norm1", h)
    h = h + cross(w, f"{block}.attn1", inner, inner, heads)
    h = h + cross(w, f"{block}.attn2", ln("norm2", h), c, heads)
    value, gate = linear(w, f"{block}.ff.net.0.proj", ln("norm3", h)).chunk(2, dim=-1)
    h = h + linear(w, f"{block}.ff.net.2", value * F.gelu(gate))
    return x + conv(w, f"{at}.proj_out", h.mT.reshape(size, channels, height, width))


def unet(w: Weights, x: Tensor, t: Tensor, c: Tensor | None, head_channels: int) -> Tensor:
    """(B, C, h, w) noisy latents at timesteps (B,) under conditions (B, T, D) or none."""
    emb = timestep_embedding(t, w["time_embed.0.weight"].shape[1])
    emb = linear(w, "time_embed.2", F.silu(linear(w, "time_embed.0", emb)))

    def run(at: str, h: Tensor) -> Tensor:
        if f"{at}.weight" in w:
            return conv(w, at, h, padding=1)
        if f"{at}.in_layers.0.weight" in w:
            return resnet(w, at, h, emb)
        if f"{at}.op.weight" in w:
            return conv(w, f"{at}.op", h, stride=2, padding=1)
        if f"{at}.conv.weight" in w:
            return conv(w, f"{at}.conv", F.interpolate(h, scale_factor=2), padding=1)
        heads = h.shape[1] // head_channels
        if f"{at}.qkv.weight" in w:
            return attention(w, at, h, heads)
        return transformer(w, at, h, c, heads)

    def sequence(name: str, h: Tensor) -> Tensor:
        for index in range(3):
            if any(key.startswith(f"{name}.{index}.") for key in w):
                h = run(f"{name}.{index}", h)
        return h

    def count(name: str) -> int:
        return 1 + max(int(key.split(".")[1]) for key in w if key.startswith(name))

    stack, h = [], x
    for index in range(count("input_blocks.")):
        h = sequence(f"input_blocks.{index}", h)
        stack.append(h)
    h = sequence("middle_block", h)
    for index in range(count("output_blocks.")):
        h = sequence(f"output_blocks.{index}", torch.cat([h, stack.pop()], dim=1))
    return conv(w, "out.2", F.silu(norm(w, "out.0", h, 1e-5)), padding=1)


def coder_resnet(w: Weights, at: str, x: Tensor) -> Tensor:
    h = conv(w, f"{at}.conv1", F.silu(norm(w, f"{at}.norm1", x, 1e-6)), padding=1)
    h = conv(w, f"{at}.conv2", F.silu(norm(w, f"{at}.norm2", h, 1e-6)), padding=1)
    skip = f"{at}.nin_shortcut"
    return h + (conv(w, skip, x) if f"{skip}.weight" in w else x)


def coder_attention(w: Weights, at: str, x: Tensor) -> Tensor:
    h = norm(w, f"{at}.norm", x, 1e-6)
    q, k, v = (conv(w, f"{at}.{name}", h).flatten(2) for name in "qkv")
    weights = (q.mT @ k / math.sqrt(x.shape[1])).softmax(dim=-1)
    return x + conv(w, f"{at}.proj_out", (v @ weights.mT).view_as(x))


def _middle(w: Weights, half: str, h: Tensor) -> Tensor:
    h = coder_resnet(w, f"{half}.mid.block_1", h)
    h = coder_attention(w, f"{half}.mid.attn_1", h)
    return coder_resnet(w, f"{half}.mid.block_2", h)


def _level(w: Weights, at: str, h: Tensor, blocks: int) -> Tensor:
    for index in range(blocks):
        h = coder_resnet(w, f"{at}.block.{index}", h)
        if f"{at}.attn.{index}.q.weight" in w:
            h = coder_attention(w, f"{at}.attn.{index}", h)
    return h


def encode(w: Weights, x: Tensor, levels: int, blocks: int) -> Tensor:
    """Images -> latents of a codebook, or mean and log-variance of a KL first stage."""
    h = conv(w, "encoder.conv_in", x, padding=1)
    for level in range(levels):
        h = _level(w, f"encoder.down.{level}", h, blocks)
        if level < levels - 1:  # padded on the right and below
            h = conv(w, f"encoder.down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), stride=2)
    h = F.silu(norm(w, "encoder.norm_out", _middle(w, "encoder", h), 1e-6))
    return conv(w, "quant_conv", conv(w, "encoder.conv_out", h, padding=1))


def decode(w: Weights, z: Tensor, levels: int, blocks: int) -> Tensor:
    """Latents -> images, through the nearest codes where there is a codebook."""
    if "quantize.embedding.weight" in w:
        codes = w["quantize.embedding.weight"]
        rows = z.permute(0, 2, 3, 1)[..., None, :]
        z = codes[(rows - codes).square().sum(-1).argmin(-1)].permute(0, 3, 1, 2)
    h = conv(w, "decoder.conv_in", conv(w, "post_quant_conv", z), padding=1)
    h = _middle(w, "decoder", h)
    for level in reversed(range(levels)):
        h = _level(w, f"decoder.up.{level}", h, blocks + 1)
        if level:
            upsampled = F.interpolate(h, scale_factor=2)
            h = conv(w, f"decoder.up.{level}.upsample.conv", upsampled, padding=1)
    return conv(w, "decoder.conv_out", F.silu(norm(w, "decoder.norm_out", h, 1e-6)), padding=1)
