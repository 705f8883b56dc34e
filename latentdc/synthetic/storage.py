"""What a synthetic set costs to keep, in bytes."""

from typing import TYPE_CHECKING

from latentdc.synthetic.rows import encode

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet


def storage(synthetic: "SyntheticSet") -> dict[str, int]:
    """Bytes by `part/codec`, without the containers around them.

    The images count once for each codec (choose one): PNG is how they are stored; JPEG at quality
    95 and 75 is lossy and measured by encoding. Images that 8 bits do not hold also have their
    `images/float32`. `z`, `c` and `noise` are what a user of the prior needs in place of images;
    `zca` is the whitening that students need beside them.
    """
    images = synthetic.levels()
    sizes = {
        "images/png": sum(len(encode(image)) for image in images),
        "images/jpeg95": sum(len(encode(image, "JPEG", quality=95)) for image in images),
        "images/jpeg75": sum(len(encode(image, "JPEG", quality=75)) for image in images),
        "labels/int64": synthetic.labels.nbytes,
    }
    if (zca := synthetic.whitening) is not None:
        sizes["zca/float32"] = zca.mean.nbytes + zca.matrix.nbytes
    return sizes | {
        f"{name}/{str(part.dtype).removeprefix('torch.')}": part.nbytes
        for name, part in synthetic.tensors().items()
    }
