"""YAML files as they stand beside CompVis checkpoints, of real models and of small ones."""

from copy import deepcopy
from pathlib import Path

from omegaconf import OmegaConf


def model(unet: dict, first_stage: dict, classes: dict | None, **params: object) -> dict:
    kind = "VQModelInterface" if "n_embed" in first_stage else "AutoencoderKL"
    cond = {"target": "ldm.modules.encoders.modules.ClassEmbedder", "params": classes}
    openai = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
    return {
        "model": {
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "linear_start": 0.0015,
                "linear_end": 0.0195,
                "timesteps": 1000,
                "monitor": "val/loss",
                "unet_config": {"target": openai, "params": unet},
                "first_stage_config": {
                    "target": f"ldm.models.autoencoder.{kind}",
                    "params": {**first_stage, "lossconfig": {"target": "torch.nn.Identity"}},
                },
                "cond_stage_config": cond if classes else "__is_unconditional__",
                **params,
            },
        }
    }


def coder(ch: int, ch_mult: list[int], **changes: object) -> dict:
    shape = {"double_z": False, "z_channels": 3, "resolution": 256, "in_channels": 3, "out_ch": 3}
    shape |= {"ch": ch, "ch_mult": ch_mult, "num_res_blocks": 2, "attn_resolutions": []}
    return {**shape, "dropout": 0.0, **changes}


CIN256 = model(
    {
        "image_size": 64,
        "in_channels": 3,
        "out_channels": 3,
        "model_channels": 192,
        "attention_resolutions": [8, 4, 2],
        "num_res_blocks": 2,
        "channel_mult": [1, 2, 3, 5],
        "num_heads": 1,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": 512,
    },
    {"embed_dim": 3, "n_embed": 8192, "ddconfig": coder(128, [1, 2, 4])},
    {"n_classes": 1001, "embed_dim": 512, "key": "class_label"},
    use_ema=False,
)

FFHQ = model(
    {
        "image_size": 64,
        "in_channels": 3,
        "out_channels": 3,
        "model_channels": 224,
        "attention_resolutions": [8, 4, 2],
        "num_res_blocks": 2,
        "channel_mult": [1, 2, 3, 4],
        "num_head_channels": 32,
    },
    {"embed_dim": 3, "n_embed": 8192, "ddconfig": coder(128, [1, 2, 4])},
    None,
)

SMALL_UNET = {
    "image_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "attention_resolutions": [2],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 16,
}
SMALL_CODER = coder(32, [1, 2], resolution=16, num_res_blocks=1, attn_resolutions=[8])
UNCONDITIONAL = model(SMALL_UNET, {"embed_dim": 3, "n_embed": 16, "ddconfig": SMALL_CODER}, None)
UNCONDITIONAL_KL = model(
    SMALL_UNET,
    {"embed_dim": 3, "ddconfig": {**SMALL_CODER, "double_z": True}},
    None,
    scale_by_std=True,
)
CONDITIONAL = model(
    {**SMALL_UNET, "use_spatial_transformer": True, "context_dim": 6},
    {"embed_dim": 3, "n_embed": 16, "ddconfig": SMALL_CODER},
    {"n_classes": 4, "embed_dim": 6},
    scale_factor=0.5,
)


def write(yaml: dict, path: Path, **changes: object) -> Path:
    """Write a YAML, with dotted keys below `model.params` set anew; None removes one."""
    config = OmegaConf.create(deepcopy(yaml))
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = OmegaConf.select(config, ".".join(["model.params", *parents]))
        if value is None:
            del node[last]
        else:
            node[last] = value
    OmegaConf.save(config, path)
    return path
