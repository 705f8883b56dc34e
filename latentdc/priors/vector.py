"""The space of data sets of feature vectors: z is the standardised vector."""

from torch import Tensor

from latentdc.images import Standardization
from latentdc.priors.base import Prior


class VectorPrior:
    """Vectors as their own latents, in units in which every value varies alike.

    So one learning rate fits features of any scale.

    Args:
        standardization: of the data set.
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
        return self.standardization(images)

    def condition(self, labels: Tensor) -> Tensor | None:
        """Vectors have no condition."""
        return None

    def decode(self, z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
        """(B, D) vectors in the data set's own units."""
        return self.standardization.inverse(z)


def sample_shape(prior: Prior) -> tuple[int, ...]:
    """Of what a prior decodes: (3, H, W), or (D,)."""
    if isinstance(prior, VectorPrior):
        return prior.latent_shape
    return (3, prior.resolution, prior.resolution)
