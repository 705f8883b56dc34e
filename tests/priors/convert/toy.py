"""Random checkpoints of the small models of `yamls`, with the keys that CompVis gives them."""

from pathlib import Path

import torch
from torch import Tensor

from latentdc.draws import generator

Shapes = dict[str, tuple[int, ...]]


def affine(at: str, *shape: int) -> Shapes:
    return {f"{at}.weight": shape, f"{at}.bias": shape[:1]}


def resnet(at: str, come: int, go: int) -> Shapes:
    shapes = affine(f"{at}.in_layers.0", come) | affine(f"{at}.in_layers.2", go, come, 3, 3)
    shapes |= affine(f"{at}.emb_layers.1", go, 128) | affine(f"{at}.out_layers.0", go)
    shapes |= affine(f"{at}.out_layers.3", go, go, 3, 3)
    return shapes | (affine(f"{at}.skip_connection", go, come, 1, 1) if come != go else {})


def attention(at: str, width: int, context: int | None) -> Shapes:
    shapes = affine(f"{at}.norm", width)
    if context is None:
        shapes |= affine(f"{at}.qkv", 3 * width, width, 1)
        return shapes | affine(f"{at}.proj_out", width, width, 1)
    shapes |= affine(f"{at}.proj_in", width, width, 1, 1)
    shapes |= affine(f"{at}.proj_out", width, width, 1, 1)
    block = f"{at}.transformer_blocks.0"
    for name, come in (("attn1", width), ("attn2", context)):
        shapes |= {f"{block}.{name}.to_q.weight": (width, width)}
        shapes |= {f"{block}.{name}.to_{part}.weight": (width, come) for part in "kv"}
        shapes |= affine(f"{block}.{name}.to_out.0", width, width)
    shapes |= affine(f"{block}.ff.net.0.proj", 8 * width, width)
    shapes |= affine(f"{block}.ff.net.2", width, 4 * width)
    for name in ("norm1", "norm2", "norm3"):
        shapes |= affine(f"{block}.{name}", width)
    return shapes


def unet(context: int | None) -> Shapes:
    """Of two levels with 32 and 64 channels, one block each, attention on the lower one."""
    shapes = affine("time_embed.0", 128, 32) | affine("time_embed.2", 128, 128)
    shapes |= affine("input_blocks.0.0", 32, 3, 3, 3)
    shapes |= resnet("input_blocks.1.0", 32, 32) | affine("input_blocks.2.0.op", 32, 32, 3, 3)
    shapes |= resnet("input_blocks.3.0", 32, 64) | attention("input_blocks.3.1", 64, context)
    shapes |= resnet("middle_block.0", 64, 64) | attention("middle_block.1", 64, context)
    shapes |= resnet("middle_block.2", 64, 64)
    for index, come in enumerate((128, 96)):
        shapes |= resnet(f"output_blocks.{index}.0", come, 64)
        shapes |= attention(f"output_blocks.{index}.1", 64, context)
    shapes |= affine("output_blocks.1.2.conv", 64, 64, 3, 3)
    for index, come in enumerate((96, 64), start=2):
        shapes |= resnet(f"output_blocks.{index}.0", come, 32)
    return shapes | affine("out.0", 32) | affine("out.2", 3, 32, 3, 3)


def coder_resnet(at: str, come: int, go: int) -> Shapes:
    shapes = affine(f"{at}.norm1", come) | affine(f"{at}.conv1", go, come, 3, 3)
    shapes |= affine(f"{at}.norm2", go) | affine(f"{at}.conv2", go, go, 3, 3)
    return shapes | (affine(f"{at}.nin_shortcut", go, come, 1, 1) if come != go else {})


def coder_attention(at: str, width: int) -> Shapes:
    shapes = affine(f"{at}.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        shapes |= affine(f"{at}.{name}", width, width, 1, 1)
    return shapes


def first_stage(codes: int | None) -> Shapes:
    """Of two levels with 32 and 64 channels, one block each, attention on the lower one."""
    out = 3 if codes else 6
    shapes = affine("quant_conv", out, out, 1, 1) | affine("post_quant_conv", 3, 3, 1, 1)
    shapes |= {"quantize.embedding.weight": (codes, 3)} if codes else {}
    for half in ("encoder", "decoder"):
        for block in ("block_1", "block_2"):
            shapes |= coder_resnet(f"{half}.mid.{block}", 64, 64)
        shapes |= coder_attention(f"{half}.mid.attn_1", 64)
    shapes |= affine("encoder.conv_in", 32, 3, 3, 3) | affine("encoder.conv_out", out, 64, 3, 3)
    shapes |= coder_resnet("encoder.down.0.block.0", 32, 32)
    shapes |= affine("encoder.down.0.downsample.conv", 32, 32, 3, 3)
    shapes |= coder_resnet("encoder.down.1.block.0", 32, 64)
    shapes |= coder_attention("encoder.down.1.attn.0", 64) | affine("encoder.norm_out", 64)
    shapes |= affine("decoder.conv_in", 64, 3, 3, 3) | affine("decoder.conv_out", 3, 32, 3, 3)
    for index in range(2):
        shapes |= coder_resnet(f"decoder.up.1.block.{index}", 64, 64)
        shapes |= coder_attention(f"decoder.up.1.attn.{index}", 64)
    shapes |= affine("decoder.up.1.upsample.conv", 64, 64, 3, 3)
    shapes |= coder_resnet("decoder.up.0.block.0", 64, 32)
    return shapes | coder_resnet("decoder.up.0.block.1", 32, 32) | affine("decoder.norm_out", 32)


def weights(*, codes: int | None = 16, classes: int | None = None) -> dict[str, Tensor]:
    """A whole state dict, drawn wide enough that a swapped tensor shows in every output."""
    shapes = {f"model.diffusion_model.{k}": s for k, s in unet(6 if classes else None).items()}
    shapes |= {f"first_stage_model.{k}": s for k, s in first_stage(codes).items()}
    shapes |= {"cond_stage_model.embedding.weight": (classes, 6)} if classes else {}
    drawn = {}
    for key, shape in shapes.items():
        fan_in = torch.Size(shape[1:]).numel()
        draw = torch.randn(shape, generator=generator(0, key)) / fan_in**0.5
        drawn[key] = 1 + 0.3 * draw if "norm" in key and key.endswith("weight") else draw
    return drawn


def save(path: Path, state: dict[str, Tensor], **beside: object) -> Path:
    torch.save({"state_dict": state, "global_step": 3, **beside}, path)
    return path


def inside(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of one network, under its own keys."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
