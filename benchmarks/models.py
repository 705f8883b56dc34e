"""Networks to measure: the shipped priors, and random weights in the shape of LD3M's."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, VQModel

import latentdc.priors
from latentdc import config
from latentdc.draws import global_draws
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import ClassEmbedding, UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.small import build_scheduler
from latentdc.recipe import PriorSettings

CLASSES = [str(label) for label in range(10)]
CIN256 = Path(latentdc.priors.__file__).with_name("configs") / "cin256"


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
        return DiffusionPrior(space, denoiser, self.scheduler, settings, class_names=None)


@dataclass(frozen=True)
class Model:
    """How to make networks, always the same ones, and what they are measured at."""

    make: Callable[[], Networks]
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


MODELS = {
    "digits": Model(lambda: shipped("digits"), resolution=16, steps=10),
    "cifar10": Model(lambda: shipped("cifar10"), resolution=32, steps=10),
    "cin256/8": Model(lambda: cin256(8), resolution=64, steps=10),
    "cin256 at 128 px": Model(cin256, resolution=128, steps=10),
    "cin256 at 256 px": Model(cin256, resolution=256, steps=20),
}
