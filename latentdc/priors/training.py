"""An autoencoder first, then a class-conditional UNet on its latents.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752. Both see the training split alone; the autoencoder has no
adversarial loss, the kept weights are exponential moving averages.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from latentdc import config, draws
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.images import contiguous, from_uint8
from latentdc.io import writing
from latentdc.priors.denoisers import ClassEmbedding
from latentdc.priors.losses import autoencoder_loss, denoising_loss
from latentdc.priors.portrait import describe
from latentdc.priors.recipe import PriorRecipe
from latentdc.priors.small import build_autoencoder, build_scheduler, build_unet
from latentdc.priors.stage import Stage
from latentdc.runtime import use_threads, with_gradients


@with_gradients
def train_prior(recipe: PriorRecipe, name: str, folder: Path, command: str) -> None:
    """Train, or continue to train, and write the finished prior to `folder/prior`."""
    use_threads(recipe.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test = open_splits(recipe.data)
    with draws.global_draws(recipe.seed, "autoencoder"):
        autoencoder = build_autoencoder(recipe.autoencoder, recipe.data.resolution).to(device)
    config.claim(
        recipe,
        folder,
        may_change=["threads", "checkpoint_every", "licence", "data.source", "data.cache"],
    )
    first = _train_autoencoder(recipe, train, autoencoder, folder / "checkpoints/autoencoder.pt")
    latents, labels = _encode(recipe, train, autoencoder, device)
    shift, scale = float(latents.mean()), 1 / float(latents.std())
    autoencoder.register_to_config(scaling_factor=scale, shift_factor=shift)
    latents = (latents - shift) * scale
    space = (latents.shape[1], latents.shape[2], latents.shape[3])
    with draws.global_draws(recipe.seed, "unet"):
        unet, embedding = build_unet(recipe.unet, space, train.class_names)
    pair = nn.ModuleDict({"unet": unet, "embedding": embedding}).to(device)
    scheduler = build_scheduler()
    second = _train_unet(recipe, latents, labels, pair, scheduler, folder / "checkpoints/unet.pt")
    with writing(folder / "prior") as part:
        part.mkdir()
        autoencoder.half().save_pretrained(part / "vae")
        unet.half().save_pretrained(part / "unet")
        embedding.half().save_pretrained(part / "class_embedding")
        scheduler.save_pretrained(part / "scheduler")
        describe(recipe, name, part, test, device, first, second, command)
    print(f"prior: {folder / 'prior'}")


def _draw_images(recipe: PriorRecipe, train: Dataset, step: int, device: torch.device) -> Tensor:
    source = draws.generator(recipe.seed, "autoencoder", step)
    chosen = torch.randint(len(train), (recipe.autoencoder.batch,), generator=source)
    images = from_uint8(train.images[chosen].to(device))
    if recipe.flip:
        mirrored = (torch.rand(len(chosen), generator=source) < 0.5).to(device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def _train_autoencoder(
    recipe: PriorRecipe, train: Dataset, autoencoder: AutoencoderKL, path: Path
) -> Stage:
    spec = recipe.autoencoder
    stage = Stage(autoencoder.train(), path, steps=spec.steps, lr=spec.lr, ema=spec.ema)
    device = autoencoder.device
    size = recipe.data.resolution // 2 ** (len(spec.channels) - 1)

    def loss(step: int) -> Tensor:
        images = _draw_images(recipe, train, step, device)
        shape = (len(images), spec.latent_channels, size, size)
        noise = torch.randn(shape, generator=draws.generator(recipe.seed, "posterior", step))
        return autoencoder_loss(autoencoder, images, noise.to(device), kl=spec.kl, edges=spec.edges)

    stage.run(loss, every=recipe.checkpoint_every, title="autoencoder")
    autoencoder.eval().requires_grad_(False)
    return stage


@torch.no_grad()
def _encode(
    recipe: PriorRecipe, train: Dataset, autoencoder: AutoencoderKL, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Unscaled latents of all training images, and of their mirror images if these are drawn."""
    parts = []
    for mirrored in (False, True) if recipe.flip else (False,):
        for chosen in torch.arange(len(train)).split(500):
            images = from_uint8(train.images[chosen].to(device))
            images = images.flip(-1) if mirrored else images
            parts.append(autoencoder.encode(contiguous(images)).latent_dist.mode())
    latents = torch.cat(parts)
    return latents, train.labels.repeat(len(latents) // len(train)).to(device)


def _train_unet(
    recipe: PriorRecipe,
    latents: Tensor,
    labels: Tensor,
    pair: nn.ModuleDict,
    scheduler: DDIMScheduler,
    path: Path,
) -> Stage:
    spec = recipe.unet
    stage = Stage(pair.train(), path, steps=spec.steps, lr=spec.lr, ema=spec.ema)
    unet, embedding = pair["unet"], pair["embedding"]
    assert isinstance(unet, UNet2DConditionModel) and isinstance(embedding, ClassEmbedding)
    device, null = latents.device, len(embedding.config["class_names"])

    def loss(step: int) -> Tensor:
        source = draws.generator(recipe.seed, "unet", step)
        chosen = torch.randint(len(latents), (spec.batch,), generator=source).to(device)
        noise = torch.randn((spec.batch, *latents.shape[1:]), generator=source).to(device)
        timesteps = torch.randint(1000, (spec.batch,), generator=source).to(device)
        dropped = (torch.rand(spec.batch, generator=source) < spec.drop).to(device)
        known = labels[chosen].masked_fill(dropped, null)
        return denoising_loss(unet, embedding, scheduler, latents[chosen], known, noise, timesteps)

    stage.run(loss, every=recipe.checkpoint_every, title="unet")
    pair.eval().requires_grad_(False)
    return stage
