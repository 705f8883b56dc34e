"""A folder of image files for each class, as `ImageFolder` and rethinkdc's `ImageFolderIPC` read.

The layouts of SRe2L (`new003/`), RDED (`00003/class00003_id00000.jpg`), ImageNet (`n01440764/`,
`train/n01440764/`) and of folders named by class.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentdc.data.decode import FORMATS, UNREADABLE, open_picture, to_rgb
from latentdc.data.files import LeftOut, tell
from latentdc.errors import InputError
from latentdc.synthetic.foreign.kinds import class_folders, image_files
from latentdc.synthetic.foreign.naming import Read, class_places
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.synthetic_set import SyntheticSet

LARGEST_FILE = 2**28  # bytes


def read_images(
    folder: Path,
    class_names: tuple[str, ...],
    ipc: int | None,
    numbers: Numbers | None = None,
    size: int | None = None,
) -> Read:
    """The images in lexicographic order, of each class the first `ipc` or all.

    Args:
        folder: of the set.
        class_names: of the test set.
        ipc: images of each class to read.
        numbers: the user's answer to what numbers count.
        size: height and width of the test set's images; None takes any.

    Raises:
        InputError: other classes than the test set's, an empty folder, or images that do not fit.
    """
    folders = class_folders(folder)
    names = [entry.name for entry in folders]
    order, numbering = class_places(names, class_names, str(folder), numbers)
    paths, labels, left_out = [], [], LeftOut()
    for entry, place in sorted(zip(folders, order, strict=True), key=lambda pair: pair[1]):
        found = image_files(entry, left_out)[:ipc]
        if not found:
            raise InputError(f"{entry} has no images; every class needs some.")
        paths += found
        labels += [place] * len(found)
    tell(str(folder), left_out)
    encoded = ((str(path), _bytes(path)) for path in paths)
    images = decode_all(encoded, range(len(labels)), str(folder), size)
    return SyntheticSet(images, torch.tensor(labels), class_names), numbering


def decode_all(
    encoded: Iterable[tuple[str, bytes]],
    places: Sequence[int],
    source: str,
    size: int | None = None,
) -> Tensor:
    """(N, 3, H, W) uint8 of named encoded images, of which memory holds one copy.

    Nothing larger than the first image is decoded, nor that one where it has not the given size.

    Args:
        encoded: N images.
        places: where each belongs among the N.
        source: named in messages.
        size: height and width in pixels, of the test set; None takes any.

    Raises:
        InputError: one that cannot be decoded, or images of different sizes.
    """
    levels = torch.empty(0)
    first = ""
    wanted = None if size is None else (size, size)
    for place, (name, content) in zip(places, encoded, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = open_picture(content)
            with image:
                if wanted is not None and image.size != wanted and image.size[::-1] != wanted:
                    raise _other_size(image.size, wanted, name, first, source)
                picture = to_rgb(image)
        except InputError:
            raise
        except UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            if "cannot identify" in reason:
                reason = f"it is none of {', '.join(FORMATS)}, or is damaged"
            raise InputError(f"cannot decode {name}: {reason}.") from error
        shown = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        if not first:
            first, wanted = name, picture.size
            levels = shown.new_empty((len(places), *shown.shape))
        if picture.size != wanted:
            raise _other_size(picture.size, wanted, name, first, source)
        levels[place] = shown
    return levels


def _other_size(
    found: tuple[int, int], wanted: tuple[int, int] | None, name: str, first: str, source: str
) -> InputError:
    """Widths and heights; `first` names the image that has the wanted one, empty for the data."""
    (w, h), (width, height) = wanted or (0, 0), found
    if first:
        return InputError(
            f"{source} has images of different sizes: {w}x{h} px in {first}, {width}x{height} px "
            f"in {name}; a set has one size."
        )
    how = f"open the data with data.resolution={width}" if width == height else "a set has one size"
    return InputError(
        f"{name} is an image of {width}x{height} px, and the test set's are {w}x{h} px; {how}."
    )


def _bytes(path: Path) -> bytes:
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise InputError(f"{path} has {size:,} bytes, too many for a picture of a set.")
    return path.read_bytes()
