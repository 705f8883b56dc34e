"""The small priors that latentdc trains itself: their networks, and what these are trained for.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752; the autoencoder without an adversarial loss.
"""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from latentdc.images import contiguous
from latentdc.priors.convert import networks
from latentdc.priors.convert.shape import Process
from latentdc.priors.denoisers import ClassEmbedding
from latentdc.priors.schedule import separate
from latentdc.recipe.prior_training import AutoencoderTraining, UNetTraining


def build_autoencoder(spec: AutoencoderTraining, resolution: int) -> AutoencoderKL:
    """An untrained autoencoder that halves the resolution after every level but the last."""
    levels = len(spec.channels)
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
    return networks.build_scheduler(Process(linear_start=0.0015, linear_end=0.0195))


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
    min_snr: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared error of the predicted noise, or v (Eq. 2 of Rombach et al.).

    Of (B, C, h, w) clean latents and normal noise at (B,) timesteps; a label that is the number of
    classes means none. `min_snr` is the limit of `snr_weights`, None weighs all timesteps alike.

    Returns:
        () loss, (B, C, h, w) noisy latents and (B, C, h, w) the prediction at them.
    """
    noisy = contiguous(scheduler.add_noise(latents, noise, timesteps))
    predicted = unet(noisy, timesteps, encoder_hidden_states=embedding(labels)).sample
    target = noise
    if scheduler.config["prediction_type"] == "v_prediction":
        target = scheduler.get_velocity(latents, noise, timesteps)
    errors = (predicted - target).square()
    if min_snr is not None:
        errors = errors * snr_weights(scheduler, timesteps, min_snr).view(-1, 1, 1, 1).to(errors)
    return errors.mean(), noisy, predicted


def snr_weights(scheduler: DDIMScheduler, timesteps: Tensor, limit: float) -> Tensor:
    """(B,) weights of the prediction's error, by which a clean latent's counts min(SNR, limit).

    Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023,
    https://arxiv.org/abs/2303.09556, with SNR = a / (1 - a) of the cumulated alpha a: min(SNR,
    limit) / SNR where the network predicts noise, min(SNR, limit) / (SNR + 1) where it predicts v.
    """
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alphas / (1 - alphas)
    v = scheduler.config["prediction_type"] == "v_prediction"
    return snr.clamp(max=limit) / (snr + 1 if v else snr)


def clean_and_noise_at(
    scheduler: DDIMScheduler, x: Tensor, predicted: Tensor, timesteps: Tensor
) -> tuple[Tensor, Tensor]:
    """(B, C, h, w) clean latents and noise that predictions at x stand for, at (B,) timesteps."""
    alphas = scheduler.alphas_cumprod.to(x)[timesteps].view(-1, 1, 1, 1)
    v = scheduler.config["prediction_type"] == "v_prediction"
    return separate(x, predicted, alphas.sqrt(), (1 - alphas).sqrt(), v=v)


class ClassMemory(nn.Module):
    """The latest real and predicted latents of each class, first in, first out."""

    real: Tensor  # (C, M, D): classes, latents of each, values of a latent
    predicted: Tensor
    seen: Tensor  # (C,) latents that were ever kept

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        for name in ("real", "predicted"):
            self.register_buffer(name, torch.zeros(classes, size, width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.long))

    def keep(self, labels: Tensor, real: Tensor, predicted: Tensor) -> None:
        """(B, ...) latents of (B,) classes, in the place of the oldest; waits for no device."""
        if not len(labels):
            return
        places, size = torch.arange(len(labels), device=labels.device), self.real.shape[1]
        alike = labels[:, None] == labels
        slots = (self.seen[labels] + alike.tril(-1).sum(dim=1)) % size  # after those before it
        # Of a batch with more of a class than are remembered, the last one has the slot.
        last = torch.where(alike & (slots[:, None] == slots), places, -1).amax(dim=1)
        for bank, latents in ((self.real, real), (self.predicted, predicted)):
            bank[labels, slots] = latents.detach().flatten(1)[last]
        self.seen.index_add_(0, labels, torch.ones_like(labels))


def minimax_terms(memory: ClassMemory, clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """1 - min_j cos(z, real_j) and max_j cos(z, predicted_j), over the memory of z's class.

    Gu et al., "Efficient Dataset Distillation via Minimax Diffusion", CVPR 2024,
    https://arxiv.org/abs/2311.15529: predicted latents come near the real one that is most unlike
    them, and away from the predicted one that is most like them. Ours: z is the predicted x0, means
    run over the latents of a batch whose class has a memory, and a batch enters the memory after
    its loss.

    Returns:
        () representativeness and () diversity of (B, C, h, w) predicted clean latents; 0 as long as
        nothing is remembered.
    """
    filled = memory.seen[labels].clamp(max=memory.real.shape[1])
    empty = torch.arange(memory.real.shape[1], device=clean.device) >= filled[:, None]
    z = F.normalize(clean.flatten(1), dim=1)
    to_real, to_predicted = (
        torch.einsum("bd,bmd->bm", z, F.normalize(bank[labels], dim=2))
        for bank in (memory.real, memory.predicted)
    )
    known = filled > 0
    least = 1 - to_real.masked_fill(empty, 2.0).amin(dim=1)
    most = to_predicted.masked_fill(empty, -2.0).amax(dim=1)
    count = known.sum().clamp(min=1)
    return (least * known).sum() / count, (most * known).sum() / count


def inversion_term(
    scheduler: DDIMScheduler, latents: Tensor, noisy: Tensor, predicted: Tensor, timesteps: Tensor
) -> Tensor:
    """() 1 - cos of noised latents and of latents that one step of DDIM inverts to that timestep.

    IMS3 (CVPR 2026), inversion matching: sqrt(a) z + sqrt(1 - a) e, with e the noise that the
    network predicts at the clean z under that timestep. Where it is evaluated was not told apart in
    the source; so is ours, as in `sampler.invert`. All are (B, C, h, w) at (B,) timesteps:
    `predicted` is what the network makes of the clean `latents`, `noisy` are the noised ones.
    """
    _, eps = clean_and_noise_at(scheduler, latents, predicted, timesteps)
    inverted = scheduler.add_noise(latents, eps, timesteps)
    return 1 - F.cosine_similarity(noisy.flatten(1), inverted.flatten(1), dim=1).mean()
