# moved  # noqa: D100
from latentdc.runtime import with_gradients as with_gradients
