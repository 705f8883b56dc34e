# moved  # noqa: D100
from latentdc.recipe.data import refuse_image_keys as refuse_image_keys
from latentdc.recipe.data import require_images as require_images
