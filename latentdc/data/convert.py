"""What a `Dataset` holds, from arrays, torch's and Hugging Face's data sets, and folders.

Images keep their size, or are cut to their central square and resized as files are. Those that
come as pixels are hashed by these, at their own size, as lossless files are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from latentdc.arguments import class_names_of, path_of, require_a, require_whole
from latentdc.data.classes import require_members
from latentdc.data.decode import UNREADABLE, fit_square, hash_array, open_picture, to_rgb
from latentdc.data.encoded import EncodedSplit, Fields
from latentdc.data.folder import class_folders, holds_splits
from latentdc.errors import InputError, first_line
from latentdc.modes import in_plain_modes
from latentdc.plain_text import printable
from latentdc.ranks import note
from latentdc.recipe import Data
from latentdc.recipe.fields import show

Range = tuple[float, float]
_Pixels = NDArray[np.uint8]  # (H, W, 3)
_TWICE = 20  # images of a data set of torch, at most, that are asked for twice

_FORMS = "images are (N, H, W, 3) or (N, 3, H, W), grey ones with 1 in place of 3"
_RESIZE = "pass resolution=... to cut each to its central square and resize it"


@in_plain_modes
def from_arrays(
    images: object,
    labels: object,
    class_names: Sequence[str] | None,
    value_range: Range | None,
    resolution: int | None,
    name: str,
) -> Fields:
    """See `Dataset.from_arrays`."""
    array = _array(images, name)
    if array.ndim == 2:
        raise InputError(
            f"{name}: {_FORMS}, got {array.shape}; feature vectors are opened by data.kind=vectors "
            "(docs/data.md), or make a Dataset of them itself."
        )
    see = _layout(array.shape, name)
    bounds = _bounds(array.dtype, value_range, name)
    numbers = _numbers(labels, name)
    if len(numbers) != len(array):
        raise InputError(
            f"{name} has {len(array)} images and {len(numbers)} labels; give one each."
        )
    pixels = (see(_levels(image, bounds, name)) for image in array)
    return _fields(*_gathered(pixels, resolution, name), numbers, class_names, value_range, name)


@in_plain_modes
def from_torch(
    dataset: Any,
    class_names: Sequence[str] | None,
    value_range: Range | None,
    resolution: int | None,
    name: str,
) -> Fields:
    """See `Dataset.from_torch`."""
    rows = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not rows or isinstance(dataset, type | IterableDataset):
        got = dataset if isinstance(dataset, type) else type(dataset)
        raise InputError(
            f"{name} is a map-style data set of torch, which has a length and rows, got a "
            f"{got.__name__}; collect its images and labels for from_arrays."
        )
    labels: list[object] = []

    def sample(row: int) -> tuple[_Pixels, object]:
        pair = dataset[row]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"{name}: a row is (image, label), got {show(type(pair).__name__)}.")
        return _pixels(pair[0], value_range, name), pair[1]

    again = max(1, -(-len(dataset) // _TWICE))  # a flip shows in every second of them

    def pixels() -> Iterator[_Pixels]:
        for row in range(len(dataset)):
            image, label = sample(row)
            if row % again == 0 and not np.array_equal(image, sample(row)[0]):
                raise InputError(
                    f"{name} gives another image each time that row {row} is asked for; take its "
                    "random transforms out."
                )
            labels.append(label)
            yield image

    found = _gathered(pixels(), resolution, name)
    inner = dataset
    while not hasattr(inner, "classes") and hasattr(inner, "dataset"):
        inner = inner.dataset  # of a torch.utils.data.Subset
    names = _names_in(inner) if class_names is None else class_names
    return _fields(*found, _numbers([*map(_number, labels)], name), names, value_range, name)


def _names_in(dataset: Any) -> Any:
    """Class names of a data set of torchvision, in label order; None where it has none.

    Its ImageNet and Imagenette have a tuple of names for each class, beside WordNet ids. A folder
    whose `find_classes` is one's own may number the names in another order than it lists them.
    """
    names, places = getattr(dataset, "classes", None), getattr(dataset, "class_to_idx", None)
    if not isinstance(names, list | tuple):
        return names
    if any(isinstance(name, tuple) for name in names):
        return getattr(dataset, "wnids", names)
    if isinstance(places, dict) and all(isinstance(name, str) for name in names):
        with suppress(TypeError, ValueError):  # places are no numbers
            found = {int(place): name for name, place in places.items()}
            if {*names} == {*places} and {*found} == {*range(len(names))}:
                return [found[place] for place in range(len(names))]
    return names


@in_plain_modes
def from_datasets(
    table: Any, image: str | None, label: str | None, resolution: int | None, name: str
) -> Fields:
    """See `Dataset.from_datasets`."""
    import datasets  # takes a second

    from latentdc.data.parquet import of_datasets
    from latentdc.data.tables import encoded_table

    if not isinstance(table, datasets.Dataset):
        splits = f", such as data[{next(iter(table))!r}]" if isinstance(table, dict) else ""
        raise InputError(
            f"{name} is one split, a datasets.Dataset, got a {type(table).__name__}; pass one"
            f"{splits}."
        )
    for key, column in (("image", image), ("label", label)):
        if column is not None:
            require_a(str, column, key, "the name of a column")
    rows = of_datasets(table)
    split = encoded_table(
        rows,
        name,
        image,
        label,
        advice="name it with image=... or label=...",
        may_read=lambda path: rows.names_files and path.is_file(),
    )
    return _decoded(split, resolution)


@in_plain_modes
def from_folder(path: Any, resolution: int | None) -> Fields:
    """See `Dataset.from_folder`."""
    folder = path_of(path, "path")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; from_folder reads FOLDER/CLASS/*.jpg.")
    data = Data(source=str(folder))
    if splits := holds_splits(data):
        raise InputError(
            f"{folder} holds the splits {', '.join(splits)} and not classes; name one of them, "
            f"such as {folder / splits[0]}."
        )
    return _decoded(class_folders(data, "."), resolution)


# ---- Images ----


def _array(images: object, name: str) -> NDArray[Any]:
    try:
        if isinstance(images, Tensor):
            images = images.detach().cpu()
            images = images.float() if images.dtype == torch.bfloat16 else images  # not in NumPy
        array = _unmasked(images, name)
    except (TypeError, ValueError, NotImplementedError) as error:  # of lists of unequal lengths
        told = first_line(error).rstrip(".")
        raise InputError(f"{name}: {_FORMS}; {told}.") from error
    if array.dtype.kind not in "uif" or (array.ndim and len(array) and not array.size):
        raise InputError(f"{name}: {_FORMS}, of numbers; got {array.dtype} of {array.shape}.")
    return array


def _unmasked(values: Any, name: str) -> NDArray[Any]:
    if np.ma.is_masked(values):
        count = int(np.ma.getmaskarray(values).sum())
        raise InputError(
            f"{name}: a masked array has {count} values that are none; leave these samples out, or "
            "fill them with .filled(...)."
        )
    return np.asarray(values)


def _layout(shape: tuple[int, ...], name: str) -> Callable[[NDArray[Any]], _Pixels]:
    """What makes (H, W, 3) of each of such images."""
    first, last = (len(shape) == 4 and shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        raise InputError(
            f"{name}: {_FORMS}, and {shape} could be either; leave out images with a side of "
            f"{min(shape[1], shape[3])} px."
        )
    if not first and not last:
        hint = ""
        if len(shape) == 3:
            hint = "; make grey ones (N, H, W, 1) with images[..., None], a single one images[None]"
        elif len(shape) == 4 and 4 in (shape[1], shape[3]):
            hint = "; leave out the channel of transparency"
        raise InputError(f"{name}: {_FORMS}, got {shape}{hint}.")
    channels = shape[1 if first else 3]

    def see(image: NDArray[Any]) -> _Pixels:
        upright = image.transpose(1, 2, 0) if first else image
        return np.ascontiguousarray(upright.repeat(3, axis=-1) if channels == 1 else upright)

    return see


def _bounds(dtype: Any, value_range: Range | None, name: str) -> Range | None:
    """Values that become 0 and 255; None of levels as they are."""
    if value_range is None:
        if dtype == np.uint8:
            return None
        raise InputError(
            f"{name}: images are uint8, got {dtype}, whose range is not known; pass "
            "value_range=(0, 1), (-1, 1), (0, 255) or whatever its black and white are."
        )
    try:
        low, high = (0, 0) if isinstance(value_range, str) else map(float, value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise InputError(
            f"{name}: value_range is the values of black and white, such as (0, 1), got "
            f"{show(value_range)}."
        )
    return low, high


def _levels(image: NDArray[Any], bounds: Range | None, name: str) -> _Pixels:
    if bounds is None:
        return image
    low, high = bounds
    slack = 1e-3 * (high - low)  # what rounding and interpolation leave
    if not (image.min() >= low - slack and image.max() <= high + slack):  # nor NaN
        raise InputError(
            f"{name}: values lie from {image.min():.4g} to {image.max():.4g}, and value_range is "
            f"({low:g}, {high:g}); give the range that they have, and take normalised images back "
            "first."
        )
    levels = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def _pixels(image: object, value_range: Range | None, name: str) -> _Pixels:
    """Pixels of a single image: one of Pillow, a tensor or an array."""
    if isinstance(image, Image.Image):
        try:
            return np.asarray(to_rgb(image))
        except UNREADABLE as error:
            raise InputError(f"{name}: an image of Pillow {error}; convert it.") from error
    array = _array(image, name)[None]
    bounds = _bounds(array.dtype, value_range, name)
    return _layout(array.shape, name)(_levels(array[0], bounds, name))


def _gathered(
    images: Iterable[_Pixels], resolution: int | None, name: str
) -> tuple[list[_Pixels], list[int]]:
    """(3, H, H) levels and content hash of each image."""
    levels: list[_Pixels] = []
    hashes: list[int] = []
    size = None if (side := _side(resolution)) is None else (side, side)
    for image in images:
        height, width = image.shape[:2]
        size = size or (height, width)
        if resolution is None:
            _require_size((height, width), size, name)
        levels.append(fit_square(Image.fromarray(image), size[0]))
        hashes.append(hash_array(image))
    return levels, hashes


def _side(resolution: int | None) -> int | None:
    return None if resolution is None else require_whole(resolution, "resolution")


def _require_size(found: tuple[int, int], first: tuple[int, int], name: str) -> None:
    height, width = found
    if height != width or found != first:
        other = f" and {first[1]} x {first[0]}" if found != first else ""
        what = "are of one size" if other else "are square"
        raise InputError(f"{name}: images {what}, got {width} x {height}{other} px; {_RESIZE}.")


def _decoded(split: EncodedSplit, resolution: int | None) -> Fields:
    """All images of a split, in memory."""
    resolution = _side(resolution)
    if resolution is None:
        first: tuple[int, int] | None = None
        for row in range(len(split)):
            try:
                with open_picture(split.read(row)) as picture:
                    size = picture.height, picture.width
            except UNREADABLE:
                continue  # which is told when it is decoded
            first = first or size
            _require_size(size, first, split.name)
        resolution = first[0] if first else 1
    require_members(split.labels, split.class_names, split.name, _CLASSES)
    return split.in_memory(resolution)


# ---- Labels ----

_LABELS = "labels are whole numbers (N,), indices into class_names"
_CLASSES = "every class has an image; leave empty ones out, and number the others from 0"


def _number(label: object) -> object:
    return label.item() if isinstance(label, Tensor | np.generic) and label.ndim == 0 else label


def _numbers(labels: object, name: str) -> Tensor:
    try:
        array = _unmasked(labels.detach().cpu() if isinstance(labels, Tensor) else labels, name)
    except (TypeError, ValueError) as error:  # of lists of unequal lengths
        raise InputError(f"{name}: {_LABELS}; {first_line(error)}.") from error
    if array.ndim != 1 or (array.dtype.kind not in "ui" and len(array)):
        hint = ""
        if array.ndim == 2:
            taken = "[:, 0]" if array.shape[1] == 1 else ".argmax(1)"
            hint = f"; of one row per image take labels{taken}"
        elif array.dtype.kind in "US" or all(isinstance(label, str) for label in array.flat):
            hint = "; class_names, labels = numpy.unique(labels, return_inverse=True) numbers them"
        raise InputError(f"{name}: {_LABELS}, got {array.dtype} of shape {array.shape}{hint}.")
    if len(array) and int(array.max()) >= 2**63:
        raise InputError(f"{name}: {_LABELS}, got {array.max()}; number the classes from 0.")
    return torch.from_numpy(array.astype(np.int64))


def _fields(
    levels: list[_Pixels],
    hashes: list[int],
    labels: Tensor,
    class_names: Sequence[str] | None,
    value_range: Range | None,
    name: str,
) -> Fields:
    if not levels:
        raise InputError(f"{name} holds no images.")
    if class_names is None:
        if len(labels) and int(labels.max()) >= len(labels):
            raise InputError(
                f"{name} has labels up to {int(labels.max())} and {len(labels)} images; {_CLASSES}."
            )
        class_names = [str(label) for label in range(int(labels.max()) + 1)]
    names = class_names_of(class_names, name)
    if bool(((labels >= 0) & (labels < len(names))).all()):  # others are refused by Dataset
        require_members(labels, names, name, _CLASSES)
    images = torch.from_numpy(np.stack(levels))
    brightest = int(images.max())
    if brightest == 1:
        advice = "give those of 0 and 1 with value_range=(0, 1)"
        if value_range is not None:
            advice = f"give the range that they have in place of value_range={show(value_range)}"
        told = "none of its levels 0 to 255 is above 1, so all its images are black"
        raise InputError(f"{name}: {told}; {advice}.")
    if brightest == 0:
        note(f"{printable(name)}: all its images are black.")
    return {
        "images": images,
        "labels": labels,
        "class_names": names,
        "hashes": torch.tensor(hashes),
        "name": name,
    }
