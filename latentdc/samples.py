# moved  # noqa: D100
from latentdc.images import Kind as Kind
from latentdc.images import as_floats as as_floats
from latentdc.images import kind_of as kind_of
