# moved  # noqa: D100
from latentdc.data.open import Size as Size
from latentdc.data.open import class_count as class_count
from latentdc.data.open import kept_size as kept_size
