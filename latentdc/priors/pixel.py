"""The spaces without a network: z is the image, as in DC, DM and MTT, or the feature vector."""

from torch import Tensor

from latentdc.arguments import require_a
from latentdc.io import fingerprint
from latentdc.preprocessing import Standardization, Whitening
from latentdc.priors.base import LoadRequest, Prior, require_batch, require_latents
from latentdc.recipe import PriorSettings


class PixelPrior:
    """Images as their own latents.

    Args:
        resolution: height and width in pixels.
        clamp: limit decoded images to [-1, 1]; the published pixel methods do not.
        whitening: z is the whitened image, so that an update weighs all directions of that space
            alike. For z in image space, dL/dz is the gradient at the whitened image times the
            whitening matrix, which favours directions of little variance.
    """

    has_noise = False
    class_names: tuple[str, ...] | None = None

    def __init__(
        self, resolution: int, *, clamp: bool = True, whitening: Whitening | None = None
    ) -> None:
        self.latent_shape = (3, resolution, resolution)
        self.resolution = resolution
        self.clamp = clamp
        self.whitening = whitening
        zca = [] if whitening is None else ["whitened", fingerprint(whitening.facts(), digits=8)]
        self.identity = "-".join(["pixel", *zca, *(["clamped"] if clamp else [])])

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves, whitened where the space is."""
        require_batch(images, self.resolution)
        return images.clone() if self.whitening is None else self.whitening(images)

    def condition(self, labels: Tensor) -> Tensor | None:
        """Pixels have no condition."""
        return None

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """Z as images, limited to [-1, 1] where that was asked for.

        The gradient passes through the limits unchanged (straight-through), so that a pixel which
        an update pushed over a limit can come back.
        """
        z = require_latents(z, self.latent_shape)
        images = z if self.whitening is None else self.whitening.inverse(z)
        if not self.clamp:
            return images
        return images + (images.clamp(-1, 1) - images).detach()


def load_pixel_prior(settings: PriorSettings, request: LoadRequest) -> PixelPrior:
    """The space of images, or of whitened ones where networks see these."""
    seen = request.normalization
    whitening = seen if isinstance(seen, Whitening) else None
    return PixelPrior(request.resolution, clamp=settings.clamp, whitening=whitening)


class VectorPrior:
    """Vectors as their own latents, in units in which every value varies alike.

    So one learning rate fits features of any scale.
    """

    has_noise = False
    class_names: tuple[str, ...] | None = None
    identity = "vector"

    def __init__(self, standardization: Standardization) -> None:
        self.standardization = standardization
        self.resolution = len(standardization.mean)
        self.latent_shape = (self.resolution,)

    def encode(self, images: Tensor) -> Tensor:
        """(B, D) vectors -> standardised."""
        return self.standardization(require_latents(images, self.latent_shape, "the batch"))

    def condition(self, labels: Tensor) -> Tensor | None:
        """Vectors have no condition."""
        return None

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """(B, D) vectors in the data set's own units."""
        return self.standardization.inverse(require_latents(z, self.latent_shape))


def load_vector_prior(settings: PriorSettings, request: LoadRequest) -> VectorPrior:
    """The space of vectors as networks see them."""
    hint = "it is fitted on a data set of vectors"
    require_a(Standardization, request.normalization, "normalization", hint)
    assert isinstance(request.normalization, Standardization)
    return VectorPrior(request.normalization)


def sample_shape(prior: Prior) -> tuple[int, ...]:
    """Shape of one sample that a prior decodes: (3, H, W), or (D,)."""
    if isinstance(prior, VectorPrior):
        return prior.latent_shape
    return (3, prior.resolution, prior.resolution)
