"""The space without a prior: z is the image, as in DC, DM and MTT."""

from torch import Tensor


class PixelPrior:
    """Images as their own latents.

    Args:
        resolution: height and width in pixels.
        clamp: limit decoded images to [-1, 1]; the published pixel methods do not.
    """

    has_noise = False
    class_names: tuple[str, ...] | None = None

    def __init__(self, resolution: int, *, clamp: bool = True) -> None:
        self.latent_shape = (3, resolution, resolution)
        self.resolution = resolution
        self.clamp = clamp
        self.identity = "pixel-clamped" if clamp else "pixel"

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images.clone()

    def condition(self, labels: Tensor) -> Tensor | None:
        """Pixels have no condition."""
        return None

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """z, limited to [-1, 1] where that was asked for.

        The gradient passes through the limits unchanged (straight-through), so that a pixel which
        an update pushed over a limit can come back.
        """
        if not self.clamp:
            return z
        return z + (z.clamp(-1, 1) - z).detach()
