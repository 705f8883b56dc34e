"""Random text-conditional models, small enough for tests and saved as the Hub has the real ones."""

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from diffusers import (
    EulerAncestralDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from latentdc.draws import global_draws
from tests.priors import small

LENGTH = 12  # tokens of a prompt
LETTERS = "!abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "ca", "cat</w>"]
VOCABULARY += ["<|startoftext|>", "<|endoftext|>"]
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NOISE |= {"steps_offset": 1}


def tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """CLIP's files with a vocabulary of letters and one word."""
    folder.mkdir(parents=True, exist_ok=True)
    start, end = VOCABULARY[-2:]
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": pad}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    return CLIPTokenizer.from_pretrained(folder)


def encoder(width: int, projection: int | None = None):
    config = CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=projection or width,
        bos_token_id=len(VOCABULARY) - 2,
        eos_token_id=len(VOCABULARY) - 1,
        pad_token_id=0,
    )
    with global_draws(width, "encoder"):
        return (CLIPTextModel if projection is None else CLIPTextModelWithProjection)(config)


def unet(width: int, **more: object) -> UNet2DConditionModel:
    with global_draws(0, "text unet"):
        return UNet2DConditionModel(
            sample_size=4,
            in_channels=2,
            out_channels=2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=2,
            norm_num_groups=4,
            **more,
        )


def save_sd(folder: Path, prediction: str = "epsilon") -> StableDiffusionPipeline:
    """As stable-diffusion-v1-5/stable-diffusion-v1-5 and stabilityai/stable-diffusion-2-1 are."""
    pipeline = StableDiffusionPipeline(
        vae=small.autoencoder(),
        text_encoder=encoder(8),
        tokenizer=tokenizer(folder / "tokenizer", pad="<|endoftext|>"),
        unet=unet(8),
        scheduler=PNDMScheduler(
            skip_prk_steps=True, set_alpha_to_one=False, prediction_type=prediction, **NOISE
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return saved(pipeline, folder)


@cache
def _saved() -> TemporaryDirectory:
    saved = TemporaryDirectory()
    save_sd(Path(saved.name))
    return saved


def copy_sd(folder: Path) -> None:
    """As `save_sd`, of what it saved once."""
    shutil.copytree(_saved().name, folder, dirs_exist_ok=True)


def save_sdxl(folder: Path) -> StableDiffusionXLPipeline:
    """As stabilityai/sdxl-turbo is."""
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    pipeline = StableDiffusionXLPipeline(
        vae=small.autoencoder(),
        text_encoder=encoder(8),
        text_encoder_2=encoder(12, projection=5),
        tokenizer=tokenizer(folder / "tokenizer", pad="<|endoftext|>"),
        tokenizer_2=tokenizer(folder / "tokenizer_2", pad="!"),
        unet=unet(20, projection_class_embeddings_input_dim=5 + 6 * 4, **added),
        scheduler=EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **NOISE),
        add_watermarker=False,
    )
    return saved(pipeline, folder)


def saved(pipeline, folder: Path):
    """Saved, with the tokenizers' files as the Hub has them."""
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for made in folder.glob("tokenizer*/tokenizer.json"):
        made.unlink()
    return pipeline
