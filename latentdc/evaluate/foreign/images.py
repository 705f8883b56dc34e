"""A folder of image files for each class, as `ImageFolder` and rethinkdc's `ImageFolderIPC` read.

The layouts of SRe2L (`new003/`), RDED (`00003/class00003_id00000.jpg`), ImageNet (`n01440764/`) and
of folders named by class.
"""

from pathlib import Path

import torch

from latentdc.errors import InputError
from latentdc.evaluate.foreign.foreign_set import ForeignSet
from latentdc.evaluate.foreign.kinds import image_files
from latentdc.evaluate.foreign.naming import class_places
from latentdc.evaluate.foreign.pictures import decode_all


def read_images(folder: Path, class_names: tuple[str, ...], ipc: int | None) -> ForeignSet:
    """The images in lexicographic order, of each class the first `ipc` or all.

    Raises:
        InputError: other classes than the test set's, an empty folder, or images that do not fit.
    """
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    places = class_places([entry.name for entry in folders], class_names, str(folder))
    paths, labels = [], []
    for entry, place in sorted(zip(folders, places, strict=True), key=lambda pair: pair[1]):
        found = image_files(entry)[:ipc]
        if not found:
            raise InputError(f"{entry} has no images; every class needs some.")
        paths += found
        labels += [place] * len(found)
    encoded = ((str(path), path.read_bytes()) for path in paths)
    return ForeignSet(
        decode_all(encoded, range(len(labels)), str(folder)), torch.tensor(labels), class_names
    )
