# moved  # noqa: D100
from latentdc.data.dataset import hash_samples as hash_samples
from latentdc.data.decode import hash_pixels as hash_pixels
