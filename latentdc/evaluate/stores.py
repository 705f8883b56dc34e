# moved  # noqa: D100
from latentdc.evaluate.soft_labels import Stores as Stores
