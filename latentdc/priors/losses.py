"""What an autoencoder and a denoiser are trained for.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752; the autoencoder without an adversarial loss.
"""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from latentdc.images import contiguous
from latentdc.priors.denoisers import ClassEmbedding


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
