"""Networks to measure: the shipped priors, and random weights in the shape of LD3M's."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTTransformer2DModel,
    UNet2DConditionModel,
    VQModel,
)

import latentdc.priors
from latentdc import config
from latentdc.draws import global_draws
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import (
    ClassDenoiser,
    ClassEmbedding,
    UNetDenoiser,
    place_patches,
    without_table,
)
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.schedule import load_scheduler, make_schedule
from latentdc.priors.small import build_scheduler
from latentdc.recipe import PriorSettings

CLASSES = [str(label) for label in range(10)]
CONFIGS = Path(latentdc.priors.__file__).with_name("configs")
CIN256, DIT = CONFIGS / "cin256", CONFIGS / "facebook--DiT-XL-2-256"


@dataclass
class Networks:
    """The parts of a prior as diffusers has them."""

    autoencoder: Any
    unet: UNet2DConditionModel
    embedding: ClassEmbedding
    scheduler: DDIMScheduler

    def to(self, device: torch.device) -> "Networks":
        for part in (self.autoencoder, self.unet, self.embedding):
            part.to(device).eval().requires_grad_(False)
        return self

    def prior(self, resolution: int, *, precision="no", **options) -> DiffusionPrior:
        space = AutoencoderPrior(self.autoencoder, resolution=resolution, precision=precision)
        denoiser = UNetDenoiser(self.unet, self.embedding)
        settings = PriorSettings(weights="measured", **{"memory": "fast", **options})
        schedule = make_schedule(self.scheduler, settings.steps)
        return DiffusionPrior(space, denoiser, schedule, settings, class_names=None)


@dataclass
class Transformer:
    """The parts of a DiT prior: the transformer without its table of classes, and the table."""

    autoencoder: AutoencoderKL
    network: torch.nn.Module
    table: torch.Tensor

    def to(self, device: torch.device) -> "Transformer":
        for part in (self.autoencoder, self.network):
            part.to(device).eval().requires_grad_(False)
        self.table = self.table.to(device)
        return self

    def prior(self, resolution: int, *, precision="no", **options) -> DiffusionPrior:
        space = AutoencoderPrior(self.autoencoder, resolution=resolution, precision=precision)
        denoiser = ClassDenoiser(self.network, self.table)
        settings = PriorSettings(weights="measured", **{"memory": "fast", **options})
        schedule = make_schedule(load_scheduler(DIT), settings.steps)
        return DiffusionPrior(space, denoiser, schedule, settings, class_names=None)


@dataclass(frozen=True)
class Model:
    """How to make networks, always the same ones, and what they are measured at."""

    make: Callable[[], Networks | Transformer]
    resolution: int
    steps: int


def shipped(name: str) -> Networks:
    folder = config.shipped_folder("assets/priors") / name
    return Networks(
        AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        ClassEmbedding.from_pretrained(folder / "class_embedding", torch_dtype=torch.float32),
        build_scheduler(),
    )


def drawn(unet: dict[str, Any], vq: dict[str, Any]) -> Networks:
    """Random weights; the UNet's output is made small, as that of a trained one is."""
    with global_draws(0, "unet"):
        network = UNet2DConditionModel.from_config(unet)
        network.conv_out.weight.data *= 0.1
    with global_draws(0, "vq"):
        autoencoder = VQModel.from_config(vq)
        torch.nn.init.normal_(autoencoder.quantize.embedding.weight)
    with global_draws(0, "embedding"):
        embedding = ClassEmbedding(CLASSES, unet["cross_attention_dim"])
    return Networks(autoencoder, network, embedding, build_scheduler())


def cin256(share: int = 1) -> Networks:
    """LDM's class-conditional ImageNet model, or one with every width divided by `share`."""
    unet, vq = (
        json.loads((CIN256 / part / "config.json").read_text()) for part in ("unet", "vqvae")
    )
    unet["block_out_channels"] = [width // share for width in unet["block_out_channels"]]
    unet["cross_attention_dim"] //= share
    vq["block_out_channels"] = [width // share for width in vq["block_out_channels"]]
    vq["num_vq_embeddings"] //= share
    if share > 1:
        unet["norm_num_groups"] = vq["norm_num_groups"] = 8
    return drawn(unet, vq)


def dit(layers: int | None = None) -> Transformer:
    """DiT-XL/2 with its autoencoder, random weights; or so many layers of it, ever so narrow."""
    shape, vae = (
        json.loads((DIT / part / "config.json").read_text()) for part in ("transformer", "vae")
    )
    if layers is not None:
        shape |= {"num_layers": layers, "num_attention_heads": 2, "attention_head_dim": 16}
        vae |= {"block_out_channels": [16] * 4, "norm_num_groups": 8}
    with global_draws(0, "transformer"):
        network = DiTTransformer2DModel.from_config(shape)
        network.proj_out_2.weight.data *= 0.1
    with global_draws(0, "vae"):
        autoencoder = AutoencoderKL.from_config(vae)
    space = AutoencoderPrior(autoencoder, resolution=8 * shape["sample_size"])
    place_patches(network.pos_embed, space.latent_shape[1])
    return Transformer(autoencoder, *without_table(network))


MODELS = {
    "digits": Model(lambda: shipped("digits"), resolution=16, steps=10),
    "cifar10": Model(lambda: shipped("cifar10"), resolution=32, steps=10),
    "cin256/8": Model(lambda: cin256(8), resolution=64, steps=10),
    "cin256 at 256 px": Model(cin256, resolution=256, steps=10),
    "DiT/tiny": Model(lambda: dit(2), resolution=256, steps=4),
    "DiT-XL/2 at 256 px": Model(dit, resolution=256, steps=10),
}
