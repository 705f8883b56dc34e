# moved  # noqa: D100
from latentdc.data.dataset import different_rows as different_rows
