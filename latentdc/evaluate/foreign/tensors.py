"""Files of torch.save that DC, DSA, DM, MTT, TESLA, DATM and GLaD leave, and our own exports.

- DC, DSA, DM: `{"data": [[images, labels], ...], "accs_all_exps": ...}`, one pair per experiment.
- MTT and its successors, GLaD: `images_best.pt` beside `labels_best.pt`, and `lr_best.pt` where the
  learning rate was saved; floating labels of N x C are soft.
- `latentdc export --format pt`: `{"images", "labels", "class_names"}`, images in [0, 1].

The foreign tensors are what their networks were given: normalised, and whitened where ZCA was used.
They are taken back through the preprocessing of the recipe (`data.mean`, `data.std`, `data.zca`),
which has to be the one they were made with; students then see the same numbers again. Files are
read with `weights_only=True`: nothing in them is run.
"""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.evaluate.foreign.foreign_set import ForeignSet, require_classes
from latentdc.evaluate.foreign.kinds import BEST
from latentdc.evaluate.foreign.naming import class_places
from latentdc.images import Normalization, Preprocessing
from latentdc.whitening import Whitening

# What torch's unpickler raises on damaged files and on those that hold more.
DAMAGED = (
    pickle.UnpicklingError,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)

# DC keeps accuracies as NumPy scalars, whose home was numpy.core before NumPy 2.
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
    *((_SCALAR, f"numpy.{home}.multiarray.scalar") for home in ("_core", "core")),
]


def read_tensors(
    path: Path, class_names: tuple[str, ...], ipc: int | None, preprocessing: Preprocessing
) -> ForeignSet:
    """The set in a file, or in the `images_best.pt` of a folder.

    Raises:
        InputError: not one of these layouts, or labels and classes that do not fit.
    """
    path = path / BEST if path.is_dir() else path
    content = _load(path)
    if isinstance(content, dict) and {"images", "labels", "class_names"} <= content.keys():
        return _exported(content, class_names, path, ipc)
    rate = None
    if isinstance(content, dict) and content.get("data"):
        images, labels = content["data"][0][:2]
        if len(content["data"]) > 1:
            print(
                f"latentdc: note: {path} holds {len(content['data'])} sets, one per experiment; "
                "the first is scored.",
                file=sys.stderr,
            )
    elif isinstance(content, Tensor):
        images, labels = content, _load(_beside(path, "labels", required=True))
        if (beside := _beside(path, "lr")) is not None:
            rate = float(_load(beside))
    else:
        raise InputError(
            f"{path} holds neither a tensor of images nor {{'data': [[images, labels], ...]}} nor "
            "what `latentdc export --format pt` writes."
        )
    _require_images(images, labels, path)
    hard, soft = _labels(labels, len(class_names), path)
    require_classes(hard, class_names, str(path))
    whole = ForeignSet(_taken_back(images, preprocessing), hard, class_names, soft, rate)
    return whole if ipc is None else whole.first_of_each(ipc)


def _load(path: Path | None) -> Any:
    assert path is not None
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"cannot read {path}: it holds more than tensors and numbers, or is damaged ({reason})."
        ) from error


def _beside(path: Path, part: str, *, required: bool = False) -> Path | None:
    """`labels_best.pt` for `images_best.pt`, likewise `lr_best.pt`."""
    if path.stem.startswith("images_zca"):
        raise InputError(
            f"{path} holds pictures of a whitened set; score {path.name.replace('_zca', '')} with "
            "data.zca=true, which is what its students saw."
        )
    other = path.with_name(path.name.replace("images", part, 1))
    if "images" in path.name and other.is_file():
        return other
    if required:
        raise InputError(f"{path} holds images alone; their labels belong into {other}.")
    return None


def _require_images(images: Any, labels: Any, path: Path) -> None:
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
        raise InputError(f"{path}: images and labels are tensors, got something else.")
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise InputError(
            f"{path}: images are floats of N x 3 x H x W, got {tuple(images.shape)} of "
            f"{images.dtype}."
        )
    if len(labels) != len(images) or labels.ndim not in (1, 2):
        raise InputError(
            f"{path}: {len(images)} images need as many labels, or rows of soft labels, got "
            f"{tuple(labels.shape)}."
        )
    if not images.isfinite().all():
        raise InputError(f"{path}: some values of its images are not finite.")


def _labels(labels: Tensor, classes: int, path: Path) -> tuple[Tensor, Tensor | None]:
    """(N,) classes, and (N, C) logits where labels are soft; probabilities become logarithms."""
    if labels.ndim == 1:
        return labels.long(), None
    if labels.shape[1] != classes:
        raise InputError(
            f"{path}: its soft labels are of {labels.shape[1]} classes, the test set has "
            f"{classes}; open the data that it was made from (data.source, data.subset)."
        )
    soft = labels.detach().float()
    one = torch.ones(len(soft))
    if bool((soft >= 0).all()) and torch.allclose(soft.sum(dim=1), one, atol=1e-3):
        soft = soft.clamp(min=1e-12).log()
    return soft.argmax(dim=1), soft


def _taken_back(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(N, 3, H, W) float32 in the scale of [-1, 1], which `preprocessing` turns into `images`.

    Raises:
        InputError: the whitening is of images of another size.
    """
    seen = images.detach().double()
    if isinstance(preprocessing, Whitening):
        flat = seen.flatten(1)
        if flat.shape[1] != len(preprocessing.mean):
            raise InputError(
                f"the set has images of {images.shape[-1]} px, and data.zca whitens others; set "
                f"data.resolution={images.shape[-1]}."
            )
        back = torch.linalg.solve(preprocessing.matrix.double(), flat.T).T
        seen = (back + preprocessing.mean.double()).view_as(seen)
        preprocessing = preprocessing.normalization
    assert isinstance(preprocessing, Normalization)
    mean = torch.tensor(preprocessing.mean).double().view(-1, 1, 1)
    std = torch.tensor(preprocessing.std).double().view(-1, 1, 1)
    return ((seen * std + mean) * 2 - 1).float()


def _exported(
    content: dict[str, Any], class_names: tuple[str, ...], path: Path, ipc: int | None
) -> ForeignSet:
    """Our own export: images in [0, 1] and the names of its classes."""
    images, labels = content["images"], content["labels"]
    _require_images(images, labels, path)
    names = list(content["class_names"])
    require_classes(labels, names, str(path))
    labels = torch.tensor(class_places(names, class_names, str(path)))[labels]
    whole = ForeignSet((images * 2 - 1).float(), labels, class_names)
    return whole if ipc is None else whole.first_of_each(ipc)
