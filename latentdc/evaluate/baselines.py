# moved  # noqa: D100
from latentdc.data.dataset import random_images as random_images
