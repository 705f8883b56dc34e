"""The latent space of a frozen autoencoder: z through the decoder alone, without diffusion.

Vector quantisation: van den Oord et al., https://arxiv.org/abs/1711.00937.
"""

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor

from latentdc.errors import InputError
from latentdc.images import contiguous
from latentdc.priors.base import (
    Autoencoder,
    PrecisionName,
    network_autocast,
    placed,
    require_batch,
    require_latents,
)
from latentdc.priors.memory import FAST, Needs, Plan, needed_bytes, run_steps

ROWS = 4096  # positions that are compared with a codebook at once


class AutoencoderPrior:
    """Latents of diffusers' AutoencoderKL, AutoencoderTiny or VQModel, in the units of its UNet.

    A latent is (encoder output - shift) * scaling, with the factors of the autoencoder's config;
    where it has a mean and a deviation of each channel, these are the shift and divide the scaling.
    An autoencoder of one channel sees images as grey and decodes grey ones. A VQModel encodes by
    `encoder` and `quant_conv`, and decodes by the codes of `quantize`, `post_quant_conv` and
    `decoder`.

    Args:
        autoencoder: frozen here and put into eval mode.
        resolution: of the images, which may differ from the one it was trained at.
        identity: of the weights.
        plan: how decoding trades memory for work; None where it is to be measured.
        precision: of the decoder; latents, codes and images are float32.
    """

    has_noise = False
    class_names: tuple[str, ...] | None = None

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        resolution: int,
        identity: str = "unnamed",
        plan: Plan | None = FAST,
        precision: PrecisionName = "no",
    ) -> None:
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.resolution = resolution
        self.identity = identity
        self.plan = plan
        self.precision: PrecisionName = precision
        self.grey = autoencoder.config.get("in_channels") == 1
        self.scale, self.shift = _units(autoencoder)
        blank = torch.zeros(1, 3, resolution, resolution, device=autoencoder.device)
        channels, height, width = self.encode_chunk(blank.to(self.dtype)).shape[1:]
        self.latent_shape = (channels, height, width)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        device: torch.device = self.autoencoder.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of latents: that of the encoder, which stays as it is where the decoder is in bf16."""
        dtype: torch.dtype = next(self.autoencoder.encoder.parameters()).dtype
        return dtype

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape), the mode and not quantised.

        Raises:
            InputError: something else than floats of this size.
        """
        images = placed(require_batch(images, self.resolution), self.device, self.dtype)
        return self.encode_chunk(images) if len(images) else images.new_zeros(0, *self.latent_shape)

    @torch.no_grad()
    def encode_chunk(self, images: Tensor) -> Tensor:
        """`encode` of any size, of images in the precision of the encoder."""
        encoded = self.autoencoder.encode(contiguous(_luma(images) if self.grey else images))
        raw = (
            encoded.latent_dist.mode()
            if isinstance(self.autoencoder, AutoencoderKL)
            else encoded.latents
        )
        return (raw - self.shift) * self.scale

    def condition(self, labels: Tensor) -> Tensor | None:
        """An autoencoder has no condition."""
        return None

    def quantize(self, z: Tensor) -> Tensor:
        """The nearest code of a VQ codebook, with a straight-through gradient; else z."""
        if not isinstance(self.autoencoder, VQModel):
            return z
        return (self._codes_of(z / self.scale + self.shift) - self.shift) * self.scale

    def decode(self, z: Tensor, c: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """(B, *latent_shape) -> (B, 3, H, W) in [-1, 1]; a VQ model quantises z first.

        Raises:
            InputError: z is something else.
        """
        return self.render(z, self.plan or FAST)

    def render(self, z: Tensor, plan: Plan) -> Tensor:
        """`decode` by another plan."""
        z = placed(require_latents(z, self.latent_shape), self.device, self.dtype)
        if not len(z):
            return z.new_zeros(0, 3, self.resolution, self.resolution)
        parts = z.split(plan.decoded(len(z)))
        kept = None if plan.memory == "fast" else 0  # of the decoder, which is one step
        return torch.cat([run_steps([self.decode_chunk], part, kept=kept) for part in parts])

    def decode_chunk(self, z: Tensor) -> Tensor:
        """`decode` all at once, with its graph."""
        raw = contiguous(z / self.scale + self.shift)
        with network_autocast(z.device, self.precision):
            if isinstance(self.autoencoder, VQModel):
                codes = contiguous(self._codes_of(raw))
                spatial = codes if self.autoencoder.config["norm_type"] == "spatial" else None
                images = self.autoencoder.decoder(self.autoencoder.post_quant_conv(codes), spatial)
            else:
                images = self.autoencoder.decode(raw).sample
        if self.grey:
            images = images.expand(-1, 3, -1, -1)
        return images.to(z.dtype).clamp(-1, 1)

    def needs(self) -> Needs:
        """What backward keeps of one image, measured."""
        z = torch.zeros(1, *self.latent_shape, device=self.device, requires_grad=True)
        return needed_bytes(lambda: self.decode_chunk(z))

    def _codes_of(self, raw: Tensor) -> Tensor:
        codebook = self.autoencoder.quantize.embedding.weight
        return straight_through(raw, nearest_codes(raw, codebook), codebook)


def _units(autoencoder: Autoencoder) -> tuple[float | Tensor, float | Tensor]:
    """Scale and shift of latents: numbers, or (C, 1, 1) where each channel has its own."""
    config = autoencoder.config
    names = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
    given = {name: config.get(name) for name in names}
    factor, shift, mean, std = given.values()
    try:
        scale = 1.0 if factor is None else float(factor)
        units: tuple[float | Tensor, float | Tensor] = scale, float(shift or 0.0)
        if mean is not None and std is not None:  # diffusers wants both, too
            count, device = config["latent_channels"], autoencoder.device
            means, stds = (
                torch.tensor(one, dtype=torch.float32, device=device).view(count, 1, 1)
                for one in (mean, std)
            )
            units = scale / stds, means
        sound = all(torch.as_tensor(unit).isfinite().all() for unit in units) and scale
    except (TypeError, ValueError, RuntimeError):
        sound = False
    if not sound:
        raise InputError(
            f"the autoencoder's config has {given}; they are finite numbers, the last two one for "
            "each channel of its latents, and none divides by 0."
        )
    return units


def _luma(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), with the weights of ITU-R BT.601 that Pillow has."""
    weights = images.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


@torch.no_grad()
def nearest_codes(z: Tensor, codebook: Tensor) -> Tensor:
    """(B, h, w) index of the nearest of (K, C) codes at each position of (B, C, h, w) latents.

    Distances are those of float32 under autocast too, where torch runs cdist in it.
    """
    rows = z.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1])
    codes = codebook.to(rows.dtype)
    found = [torch.cdist(some, codes).argmin(dim=1) for some in rows.split(ROWS)]
    return torch.cat(found).view(len(z), *z.shape[2:])


def straight_through(z: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """(B, C, h, w) codes by their (B, h, w) indices in place of z, with z's gradient unchanged."""
    quantised = codebook[codes].permute(0, 3, 1, 2).to(z.dtype)
    return z + (quantised - z).detach()
