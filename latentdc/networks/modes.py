# moved  # noqa: D100
from latentdc.networks.base import batch_norms as batch_norms
from latentdc.networks.base import disable_dropout as without_chance
from latentdc.networks.build import needs_two_images as needs_company

__all__ = ["batch_norms", "needs_company", "without_chance"]
