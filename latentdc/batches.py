# moved  # noqa: D100
from latentdc.training import Batch as Batch
from latentdc.training import epoch_batches as epoch_batches
from latentdc.training import joins as joins
from latentdc.training import split as split
