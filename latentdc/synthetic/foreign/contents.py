"""What is in a .pt, .pth or .npz file: images and labels, under the names that people give them.

- a tuple or list (images, labels) or (images, labels, learning rate), or a list of such pairs of
  single images;
- a dictionary of them, or an .npz of arrays: `images`, `data`, `x`, ... and `labels`, `targets`,
  `y`, ..., perhaps with `class_names`;
- a dictionary, or an .npz, of the images of each class by its name or number;
- DC's `{"data": [[images, labels], ...]}`, one pair for each experiment;
- images alone.

Arrays are torch's or NumPy's. torch files are read with `weights_only=True`, NumPy's without
pickle: nothing in them is run. A small file that claims to hold gigabytes is refused before memory
is asked for.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdc.data.files import require_plausible
from latentdc.errors import InputError
from latentdc.ranks import say

# What torch's unpickler raises on damaged files and on those that hold more.
DAMAGED = (
    *(pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError, struct.error),
    zipfile.BadZipFile,
)
IMAGES = (
    *("images", "image", "imgs", "img", "data", "x", "x_train", "train_images", "images_train"),
    *("image_syn", "images_syn", "syn_images"),
)
LABELS = (
    *("labels", "label", "targets", "target", "y", "y_train", "train_labels", "labels_train"),
    *("label_syn", "labels_syn", "syn_labels"),
)
NAMES = ("class_names", "classes", "class_to_idx")


@dataclass(frozen=True)
class Contents:
    """Arrays as they lie in the file.

    Attributes:
        images: what should be N x 3 x H x W.
        labels: of them; None where the file holds images alone.
        class_names: that labels index; None where the file has none.
        learned_lr: what lies beside them as a learning rate.
    """

    images: Any
    labels: Any
    class_names: Any = None
    learned_lr: Any = None


def read_contents(path: Path) -> Contents:
    """Images and labels in a file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    content = load(path)
    if isinstance(content, Mapping):
        found = _of_mapping(content, path)
    elif isinstance(content, Tensor | np.ndarray):
        found = Contents(content, None)
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        found = _of_sequence(content)
    else:
        found = None
    if found is None:
        raise InputError(
            f"{path} holds neither a tensor of images nor {{'images': ..., 'labels': ...}} nor "
            "(images, labels) nor {'data': [[images, labels], ...]} nor the images of each class "
            "nor what `latentdc export --format pt` writes."
        )
    return found


def _of_mapping(given: Mapping[Any, Any], path: Path) -> Contents | None:
    content = {key.lower(): value for key, value in given.items() if isinstance(key, str)}
    images = next((content[key] for key in IMAGES if key in content), None)
    labels = next((content[key] for key in LABELS if key in content), None)
    found = (content[key] for key in NAMES if key in content)
    names = next((value for value in found if not isinstance(value, int)), None)  # else their count
    if labels is not None and images is not None:
        return Contents(images, labels, names)
    if isinstance(images, list | tuple) and images and "data" in content:
        if len(images) > 1:
            several = f"{path} holds {len(images)} sets, one per experiment"
            say("note", f"{several}; the first is scored.")
        first = images[0]
        if isinstance(first, list | tuple) and len(first) >= 2:
            return Contents(first[0], first[1])
    if images is None and {"arr_0", "arr_1"} <= content.keys():  # numpy.savez without names
        return Contents(content["arr_0"], content["arr_1"])
    return _by_class(given, path)


def _by_class(given: Mapping[Any, Any], path: Path) -> Contents | None:
    """The images of two or more classes, N x 3 x H x W or N x H x W x 3 each."""
    keys = list(given)
    alike = all(isinstance(key, str) for key in keys) or all(type(key) is int for key in keys)
    if len(keys) < 2 or not alike or not all(map(_holds_images, given.values())):
        return None
    parts = [dense(images, "images", path) for images in given.values()]
    _require_one_size([tuple(part.shape[1:]) for part in parts], "images", path)
    require_plausible(sum(part.nbytes for part in parts), path)
    labels = [key for key, part in zip(keys, parts, strict=True) for _ in range(len(part))]
    return Contents(torch.cat(parts), labels)


def _holds_images(value: Any) -> bool:
    shape = tuple(value.shape) if isinstance(value, Tensor | np.ndarray) else ()
    return len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3))


def _of_sequence(content: Sequence[Any]) -> Contents | None:
    pairs = all(isinstance(item, list | tuple) and len(item) == 2 for item in content)
    if pairs and content and getattr(content[0][0], "ndim", 0) == 4:  # one for each experiment
        return Contents(content[0][0], content[0][1])
    if pairs and content:
        return Contents([pair[0] for pair in content], [pair[1] for pair in content])
    if len(content) == 3 and _is_rate(content[2]):
        return Contents(content[0], content[1], learned_lr=content[2])
    return Contents(content[0], content[1]) if len(content) == 2 else None


def _is_rate(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.size == 1 and value.dtype.kind == "f")
    one = isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point()
    return one or isinstance(value, float | np.floating)


def load(path: Path) -> Any:
    """The content of one file; of an .npz a dictionary of its arrays.

    Raises:
        InputError: it cannot be read, or holds more than tensors, arrays and numbers.
    """
    try:
        if zipfile.is_zipfile(path):  # what torch.save and numpy.savez write
            with zipfile.ZipFile(path) as archive:
                require_plausible(sum(m.file_size for m in archive.infolist()), path)
        if path.suffix.lower() == ".npz":
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if isinstance(archive, np.ndarray):
                    return archive
                wanted = [k for k in archive.files if k.lower() in (*IMAGES, *LABELS, *NAMES)]
                return {key: archive[key] for key in wanted or archive.files}
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    except InputError:
        raise
    except DAMAGED as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"cannot read {path}: it holds more than tensors and numbers, or is damaged ({reason})."
        ) from error


def dense(values: Any, what: str, path: Path) -> Tensor:
    """A plain tensor in memory of a tensor, an array, a list of them or a list of numbers.

    Raises:
        InputError: it is something else, or its parts differ in size.
    """
    try:
        if isinstance(values, list | tuple) and _all(values, Tensor | np.ndarray):
            return _stacked([dense(value, what, path) for value in values], what, path)
        if isinstance(values, list | tuple) and _all(values, int | float):
            values = np.array(values)
        if isinstance(values, np.ndarray):
            require_plausible(values.nbytes, path)
            values = np.ascontiguousarray(values)
            values = torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{path}: {what} are tensors, got something else ({error}).") from error
    if not isinstance(values, Tensor):
        raise InputError(f"{path}: {what} are tensors, got something else.")
    strange = values.is_sparse or values.is_quantized or values.is_meta or values.is_nested
    if strange or values.layout != torch.strided or values.is_complex():
        raise InputError(
            f"{path}: {what} are plain tensors of numbers, got {values.dtype} of layout "
            f"{values.layout} on {values.device}."
        )
    require_plausible(values.numel() * values.element_size(), path)
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return values.to(torch.int64)
    if values.is_floating_point() and values.element_size() == 1:
        return values.detach().float()
    return values.detach()


def _all(values: Sequence[Any], kind: Any) -> bool:
    return bool(values) and all(isinstance(value, kind) for value in values)


def _stacked(parts: Sequence[Tensor], what: str, path: Path) -> Tensor:
    _require_one_size([tuple(part.shape) for part in parts], what, path)
    require_plausible(sum(part.nbytes for part in parts), path)  # one may stand there many times
    return torch.stack(list(parts))


def _require_one_size(shapes: Sequence[tuple[int, ...]], what: str, path: Path) -> None:
    if len(sizes := dict.fromkeys(shapes)) > 1:
        raise InputError(
            f"{path}: its {what} have different sizes: {', '.join(map(str, [*sizes][:3]))}."
        )


def _empty_array(cls: type, shape: Sequence[int], kind: bytes) -> Any:
    """What NumPy pickles an array with, before its values are set: of no size."""
    if cls is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array that claims a size before it has values")
    return np.ndarray((0,), np.int8)


# DC keeps accuracies as NumPy scalars, and others whole arrays; their home was numpy.core before
# NumPy 2.
_SCALAR = np.float64(0).__reduce__()[0]
_KINDS = (
    *("float16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_PLAIN: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in _KINDS),
    *((_SCALAR, f"numpy.{home}.multiarray.scalar") for home in ("_core", "core")),
    *((_empty_array, f"numpy.{home}.multiarray._reconstruct") for home in ("_core", "core")),
]
