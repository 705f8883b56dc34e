"""A random prior small enough for tests, made of the components that real ones have."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel, VQModel

from latentdc.draws import global_draws
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import ClassEmbedding, UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.load import load_prior
from latentdc.priors.schedule import make_schedule
from latentdc.priors.small import build_scheduler
from latentdc.recipe import PriorSettings

CLASSES = ("zero", "one", "two")


def autoencoder(seed: int = 0) -> AutoencoderKL:
    with global_draws(seed, "vae"):
        return AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=2,
            norm_num_groups=4,
            sample_size=8,
            mid_block_add_attention=False,
            scaling_factor=0.5,
            shift_factor=0.1,
        )


def vq(seed: int = 0) -> VQModel:
    with global_draws(seed, "vq"):
        model = VQModel(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=2,
            num_vq_embeddings=16,
            norm_num_groups=4,
            sample_size=8,
            scaling_factor=1.0,
        )
        torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


def unet(seed: int = 0) -> UNet2DConditionModel:
    with global_draws(seed, "unet"):
        return UNet2DConditionModel(
            sample_size=4,
            in_channels=2,
            out_channels=2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=6,
            attention_head_dim=2,
            norm_num_groups=4,
        )


def dit(seed: int = 0, classes: int = 3) -> DiTTransformer2DModel:
    with global_draws(seed, "dit"):
        model = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=2,
            out_channels=4,
            num_layers=2,
            sample_size=4,
            patch_size=2,
            num_embeds_ada_norm=classes,
        )
        tables = [b.norm1.emb.class_embedder.embedding_table for b in model.transformer_blocks]
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        for table in tables[1:]:
            table.load_state_dict(tables[0].state_dict())
    return model


def embedding(seed: int = 0) -> ClassEmbedding:
    with global_draws(seed, "embedding"):
        return ClassEmbedding(list(CLASSES), 6)


def settings(**options) -> PriorSettings:
    """Settings of a prior that is built here and not loaded."""
    return PriorSettings(**{"weights": "small", "memory": "fast", "steps": 4, **options})


def prior(precision: str = "no", **options: object) -> DiffusionPrior:
    space = AutoencoderPrior(autoencoder(), resolution=8, precision=precision)
    denoiser = UNetDenoiser(unet(), embedding())
    own = settings(**options)
    schedule = make_schedule(build_scheduler(), own.steps, own.flow)
    return DiffusionPrior(space, denoiser, schedule, own, class_names=CLASSES)


def in_double(prior: DiffusionPrior) -> DiffusionPrior:
    prior.autoencoder.autoencoder.double()
    prior.denoiser.network.double()
    prior.denoiser.null = prior.denoiser.null.double()
    return prior


@cache
def _saved() -> TemporaryDirectory:
    saved = TemporaryDirectory()
    folder = Path(saved.name)
    autoencoder().half().save_pretrained(folder / "vae")
    unet().half().save_pretrained(folder / "unet")
    embedding().half().save_pretrained(folder / "class_embedding")
    build_scheduler().save_pretrained(folder / "scheduler")
    return saved


def save(folder) -> None:
    shutil.copytree(_saved().name, folder, dirs_exist_ok=True)


FACTS = ("resolution", "class_names", "normalization", "seed", "precision", "device")


def load(weights, kind: str = "diffusion", **options):
    """`load_prior` of a folder; `prompts` are the texts of classes by name."""
    if prompts := options.pop("prompts", None):
        options |= {"class_names": [*prompts], "prompt": "{}", "names": prompts}
    facts = {"resolution": 8} | {key: options.pop(key) for key in FACTS if key in options}
    return load_prior(PriorSettings(kind=kind, weights=weights, **options), **facts)
