# moved  # noqa: D100
from latentdc.images import Images as Images
from latentdc.images import MappedImages as MappedImages
from latentdc.io import reserve as reserve
