# moved  # noqa: D100
from latentdc.images import fetch as fetch
from latentdc.images import forward_batch as forward_batch
from latentdc.images import place as place
from latentdc.images import send as send
