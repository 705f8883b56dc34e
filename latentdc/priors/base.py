"""The seam between distillation and the space it optimises in."""

from typing import Protocol

from torch import Tensor


class Prior(Protocol):
    """A frozen generative model whose latents are optimised in place of pixels.

    Attributes:
        resolution: height and width of decoded images; of vectors D.
        has_noise: whether `decode` needs a fixed noise tensor per image, shaped like its latent.
        class_names: classes that `condition` knows, in order; None if the prior has no classes
            of its own.
        identity: kind and content hash of the weights, for a set's provenance.
    """

    resolution: int
    has_noise: bool
    class_names: tuple[str, ...] | None
    identity: str

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) of one latent; of vectors (D,)."""

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] -> (B, *latent_shape), without gradients."""

    def condition(self, labels: Tensor) -> Tensor | None:
        """(B,) labels of this prior's classes -> (B, T, D) conditions to start from, or None."""

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """The way back to (B, 3, H, W) images: a function of its arguments, differentiable in z, c.

        Output in [-1, 1], except from a pixel prior that does not clamp; or (B, D) vectors.
        """
