"""KID: how near a set is to real images.

The distance to real images in the features of an Inception network (Binkowski et al., "Demystifying
MMD GANs", ICLR 2018, https://arxiv.org/abs/1801.01401), computed by torch-fidelity. Unlike FID it
is unbiased, so that small sets can be compared at all; with some tens of images its spread over
subsets still hides most differences, and is given beside it.
"""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from latentdc.errors import InputError
from latentdc.images import Images, as_levels, contiguous

_KID_SUBSETS = 100  # of torch-fidelity


def require_fidelity() -> None:
    """Refuse a KID that could not be computed."""
    if find_spec("torch_fidelity") is None:
        raise InputError('KID needs torch-fidelity; install it with pip install ".[metrics]".')


def kernel_distance(
    images: Images,
    real: Images,
    *,
    device: torch.device,
    extractor: str = "inception-v3-compat",
) -> tuple[float, float]:
    """Mean and standard deviation of KID over subsets of 1000 images, or of all in smaller sets.

    Images are (N, 3, H, W) uint8, or floats in [-1, 1], two or more. The extractor is one that
    torch-fidelity knows; its own Inception is downloaded once.

    Raises:
        InputError: torch-fidelity or its weights are not there.
    """
    require_fidelity()
    from torch_fidelity import calculate_metrics

    try:
        found = calculate_metrics(
            input1=_Levels(images),
            input2=_Levels(real),
            kid=True,
            kid_subsets=_KID_SUBSETS,
            kid_subset_size=min(1000, len(images), len(real)),
            feature_extractor=extractor,
            cuda=device.type == "cuda",
            cache=False,
            save_cpu_ram=True,  # read here: its worker processes would be forked from torch
            verbose=False,
            rng_seed=0,
        )
    except OSError as error:
        raise InputError(
            f"the Inception weights of KID cannot be had: {error}; put their file where the line "
            "above says, or leave out --kid."
        ) from error
    return (
        float(found["kernel_inception_distance_mean"]),
        float(found["kernel_inception_distance_std"]),
    )


class _Levels(TorchDataset[Tensor]):
    """(3, H, W) uint8 images one by one, as torch-fidelity reads them."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return contiguous(as_levels(self._images[index : index + 1][0]))
