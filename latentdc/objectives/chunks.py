"""How many images a network is given at once: bounded in memory, and small enough to be fast.

Networks here treat each image alone (their norms are by instance, or frozen), so that how images
are cut changes results by rounding only.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor

PIXELS_CPU = 2**15  # 32 images of 32 px, whose feature maps stay in the caches
PIXELS_GPU = 2**21  # 32 images of 256 px: about 4 GB of a ConvNet's feature maps with a graph


def at_once(images: Tensor) -> int:
    """Images of this size (..., H, W), or vectors (N, D), that a network is given at once."""
    pixels = PIXELS_CPU if images.device.type == "cpu" else PIXELS_GPU
    height = images.shape[-2] if images.ndim > 2 else 1
    return max(1, pixels // (images.shape[-1] * height))


def packs(parts: Iterable[Tensor], limit: int) -> Iterator[list[Tensor]]:
    """Neighbours of up to `limit` rows together; a part that has more rows comes alone."""
    pack: list[Tensor] = []
    for part in parts:
        if pack and sum(map(len, pack)) + len(part) > limit:
            yield pack
            pack = []
        pack.append(part)
    if pack:
        yield pack
