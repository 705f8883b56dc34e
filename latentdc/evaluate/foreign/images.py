"""A folder of image files for each class, as `ImageFolder` and rethinkdc's `ImageFolderIPC` read.

The layouts of SRe2L (`new003/`), RDED (`00003/class00003_id00000.jpg`), ImageNet (`n01440764/`,
`train/n01440764/`) and of folders named by class.
"""

from pathlib import Path

import torch

from latentdc.data.files import LeftOut, tell
from latentdc.errors import InputError
from latentdc.evaluate.foreign.foreign_set import Read
from latentdc.evaluate.foreign.kinds import class_folders, image_files
from latentdc.evaluate.foreign.naming import class_places
from latentdc.evaluate.foreign.numbers import Numbers
from latentdc.evaluate.foreign.pictures import LARGEST_FILE, decode_all
from latentdc.synthetic.synthetic_set import SyntheticSet


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


def _bytes(path: Path) -> bytes:
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise InputError(f"{path} has {size:,} bytes, too many for a picture of a set.")
    return path.read_bytes()
