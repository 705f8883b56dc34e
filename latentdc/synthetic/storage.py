"""What a compressed set costs to keep, in bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import safe_open

from latentdc.synthetic import folder as layout
from latentdc.synthetic.rows import encode
from latentdc.synthetic.vector_rows import COLUMN, holds_vectors

if TYPE_CHECKING:
    from torch import Tensor

    from latentdc.priors.base import Prior
    from latentdc.synthetic.synthetic_set import SyntheticSet

QUALITIES = (95, 75)  # of JPEG, by Pillow's scale


def storage(synthetic: "SyntheticSet", qualities: Sequence[int] = QUALITIES) -> dict[str, int]:
    """Bytes by `part/codec`, without the containers around them.

    The images count once for each codec (choose one): PNG is how they are stored; JPEG is lossy and
    measured by encoding. Images that 8 bits do not hold also have their `images/float32`. `z`, `c`
    and `noise` are what a user of the prior needs in place of images, beside its `decoder_bytes`;
    `zca` is the whitening that students need beside them.
    """
    if synthetic.kind == "vectors":
        sizes = {"vectors/float32": synthetic.images.nbytes}
    else:
        sizes = image_storage(synthetic.levels(), qualities)
    sizes["labels/int64"] = synthetic.labels.nbytes
    if (zca := synthetic.whitening) is not None:
        sizes["zca/float32"] = zca.mean.nbytes + zca.matrix.nbytes
    return sizes | {
        f"{name}/{str(part.dtype).removeprefix('torch.')}": part.nbytes
        for name, part in synthetic.tensors().items()
        if name != "grid"  # says how to look at them, as provenance does
    }


def image_storage(levels: "Tensor", qualities: Sequence[int] = QUALITIES) -> dict[str, int]:
    """Bytes of (N, 3, H, W) uint8 images as PNG, and as JPEG at each quality."""
    sizes = {"images/png": sum(len(encode(image)) for image in levels)}
    for quality in qualities:
        encoded = (encode(image, "JPEG", quality=quality) for image in levels)
        sizes[f"images/jpeg{quality}"] = sum(map(len, encoded))
    return sizes


def soft_label_bytes(
    images: int,
    classes: int,
    *,
    epochs: int = 1,
    precision: Literal["float16", "uint8"] = "float16",
    top: int | None = None,
) -> int:
    """Bytes of soft labels as `label_store` keeps them, without safetensors' headers.

    2 bytes per logit, or 1 and a range (8 bytes) per image; with `top`, those of the largest
    logits, 4 for the class of each and 2 for the mean of the others.

    Args:
        images: N.
        classes: C.
        epochs: for which labels are kept; 1 for one fixed label per image.
        precision: of a logit.
        top: logits that are kept of each image, None for all.
    """
    kept = classes if top is None else min(top, classes)
    each = 2 * kept if precision == "float16" else kept + 8
    return images * epochs * (each if kept == classes else each + 4 * kept + 2)


def decoder_bytes(prior: "Prior") -> int:
    """Bytes in float32 of the weights that turn latents into images; 0 for pixels.

    The encoder is left out: only a distillation needs it.
    """
    space = getattr(prior, "autoencoder", None)
    space = getattr(space, "autoencoder", space)
    denoiser = getattr(prior, "denoiser", None)
    modules = [part for part in (space, *vars(denoiser or object).values()) if _has_weights(part)]
    count: int = sum(
        weight.numel()
        for module in modules
        for name, weight in module.named_parameters()
        if module is not space or not name.startswith(("encoder.", "quant_conv."))
    )
    return 4 * count


def _has_weights(part: object) -> bool:
    return hasattr(part, "named_parameters")


def stored_image_bytes(folder: Path) -> int:
    """Bytes of the images in a set's folder, as students are trained on them; none is decoded.

    Those of the PNGs (`images/png`), or of the float images where the set has them.
    """
    if (latents := folder / layout.LATENTS).is_file():
        with safe_open(latents, "numpy") as file:
            if "images" in file.keys():
                count, *rest = file.get_slice("images").get_shape()
                return 4 * int(count) * int(rest[0] * rest[1] * rest[2])
    return sum(_sample_bytes(path) for path in layout.shards(folder))


def _sample_bytes(path: Path) -> int:
    if holds_vectors(path):
        lists = pq.read_table(path, columns=[COLUMN])[COLUMN]
        return 4 * int(pc.sum(pc.list_value_length(lists)).as_py())
    groups = pq.ParquetFile(path).iter_batches(columns=["image"])
    return sum(pc.sum(pc.binary_length(g["image"].field("bytes"))).as_py() for g in groups)
