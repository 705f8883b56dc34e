"""What a compressed set costs to keep, in bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from latentdc.synthetic import folder as layout
from latentdc.synthetic.files import VECTORS, encode, holds_vectors

if TYPE_CHECKING:
    from latentdc.priors.base import Prior
    from latentdc.synthetic.synthetic_set import SyntheticSet

QUALITIES = (95, 75)  # of JPEG, by Pillow's scale
MOST = 20 * 10**9  # levels; more take a quarter of an hour to encode, and are not counted
CHUNK = 1024  # images at once, so that a memory-mapped set stays on disk


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
        levels = synthetic.levels()
        sizes = {"images/png": sum(len(encode(image)) for image in levels)}
        for quality in qualities:
            encoded = (encode(image, "JPEG", quality=quality) for image in levels)
            sizes[f"images/jpeg{quality}"] = sum(map(len, encoded))
    sizes["labels/int64"] = synthetic.labels.nbytes
    if (zca := synthetic.whitening) is not None:
        sizes["zca/float32"] = zca.mean.nbytes + zca.matrix.nbytes
    return sizes | {
        f"{name}/{str(part.dtype).removeprefix('torch.')}": part.nbytes
        for name, part in synthetic.tensors().items()
        if name != "grid"  # says how to look at them, as provenance does
    }


def image_bytes(synthetic: "SyntheticSet") -> int | None:
    """Bytes of the images as PNG, of floats (images or vectors) as float32, without containers.

    None where the set is so large that counting would take long.
    """
    images = synthetic.images
    values = images.shape.numel()
    if images.is_floating_point():
        return 4 * values
    if values > MOST:
        return None
    chunks = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
    return sum(len(encode(image)) for chunk in chunks for image in chunk.cpu())


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
    modules = [space, *vars(denoiser or object).values()]
    weights = (
        weight.numel()
        for module in modules
        if isinstance(module, torch.nn.Module)
        for name, weight in module.named_parameters()
        if module is not space or not name.startswith(("encoder.", "quant_conv."))
    )
    return 4 * sum(weights)


def stored_image_bytes(folder: Path) -> int:
    """Bytes of the images in a set's folder, as students are trained on them; none is decoded.

    Those of the PNGs (`images/png`), or of the float images where the set has them.
    """
    if (latents := folder / layout.LATENTS).is_file():
        with safe_open(latents, "numpy") as file:
            if "images" in file.keys():
                return 4 * torch.Size(file.get_slice("images").get_shape()).numel()
    return sum(_sample_bytes(path) for path in layout.shards(folder))


def _sample_bytes(path: Path) -> int:
    if holds_vectors(path):
        lists = pq.read_table(path, columns=[VECTORS])[VECTORS]
        return 4 * int(pc.sum(pc.list_value_length(lists)).as_py())
    groups = pq.ParquetFile(path).iter_batches(columns=["image"])
    return sum(pc.sum(pc.binary_length(g["image"].field("bytes"))).as_py() for g in groups)
