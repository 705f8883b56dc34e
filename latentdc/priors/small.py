"""The small priors that latentdc trains itself: their networks, and what these are trained for.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752; the autoencoder without an adversarial loss.
"""

from collections.abc import Sequence

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from latentdc.errors import InputError
from latentdc.images import contiguous
from latentdc.priors.denoisers import ClassEmbedding
from latentdc.recipe.prior_training import AutoencoderTraining, UNetTraining


def build_autoencoder(spec: AutoencoderTraining, resolution: int) -> AutoencoderKL:
    """An untrained autoencoder that halves the resolution after every level but the last."""
    levels = len(spec.channels)
    if resolution % 2 ** (levels - 1):
        raise InputError(
            f"autoencoder.channels has {levels} levels, which halve {levels - 1} times; "
            f"data.resolution={resolution} is no multiple of {2 ** (levels - 1)}."
        )
    return AutoencoderKL(
        sample_size=resolution,
        block_out_channels=tuple(spec.channels),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=spec.layers,
        latent_channels=spec.latent_channels,
        norm_num_groups=16,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_unet(
    spec: UNetTraining, latent_shape: tuple[int, int, int], class_names: Sequence[str]
) -> tuple[UNet2DConditionModel, ClassEmbedding]:
    """An untrained UNet for latents of that shape, and its class embedding."""
    channels, size, _ = latent_shape
    down = tuple("CrossAttnDownBlock2D" if flag else "DownBlock2D" for flag in spec.attention)
    up = tuple("CrossAttnUpBlock2D" if flag else "UpBlock2D" for flag in spec.attention[::-1])
    unet = UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(spec.channels),
        layers_per_block=spec.layers,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=spec.condition,
        attention_head_dim=tuple(width // spec.heads for width in spec.channels),
        norm_num_groups=16,
    )
    return unet, ClassEmbedding(list(class_names), spec.condition)


def build_scheduler() -> DDIMScheduler:
    """The schedule of CompVis' latent diffusion models, which LD3M samples from."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def autoencoder_loss(
    autoencoder: AutoencoderKL, images: Tensor, noise: Tensor, *, kl: float, edges: float
) -> Tensor:
    """() error of one reconstruction: absolute error, its edges, and the KL term of the latents.

    Args:
        autoencoder: under training.
        images: (B, 3, H, W) in [-1, 1].
        noise: (B, C, h, w) standard normal draw for the latents.
        kl: weight of the KL divergence to N(0, 1), averaged over latent elements.
        edges: weight of the absolute error between horizontal and vertical pixel differences.
    """
    posterior = autoencoder.encode(contiguous(images)).latent_dist
    decoded = autoencoder.decode(contiguous(posterior.mean + posterior.std * noise)).sample
    error = decoded - images
    edge = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss: Tensor = error.abs().mean() + edges * edge + kl * divergence
    return loss


def denoising_loss(
    unet: UNet2DConditionModel,
    embedding: ClassEmbedding,
    scheduler: DDIMScheduler,
    latents: Tensor,
    labels: Tensor,
    noise: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """() mean squared error of the predicted noise (Eq. 2 of Rombach et al.)."""
    noisy = contiguous(scheduler.add_noise(latents, noise, timesteps))
    predicted = unet(noisy, timesteps, encoder_hidden_states=embedding(labels)).sample
    loss: Tensor = (predicted - noise).square().mean()
    return loss
