# moved  # noqa: D100
from latentdc.data.open import preprocessing as preprocessing
