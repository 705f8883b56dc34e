# moved  # noqa: D100
from latentdc.training import InfoBatch as InfoBatch
