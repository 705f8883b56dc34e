"""Image folders: `<source>/<split>/<class>/*.jpg`, or `<source>/<class>/*.jpg` without splits.

The latter are the split `.`, which `data.test_share` divides.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath

import torch

from latentdc.arguments import one_form
from latentdc.data import files
from latentdc.data.classes import chosen_names, named_classes
from latentdc.data.decode import SUFFIXES
from latentdc.data.encoded import EncodedSplit, holds_decoded
from latentdc.errors import InputError
from latentdc.plain_text import printable
from latentdc.recipe import Data
from latentdc.recipe.data import TEST_SPLITS

_LARGEST = 2**30  # bytes of an image file
# Of data whose files are read by their names alone: `save_to_disk`'s and CIFAR's.
_BY_NAME = (files.SAVED_SPLITS, files.SAVED_SPLIT, "cifar-10-batches-bin", "cifar-100-binary")


def folder_split(data: Data, split: files.Split) -> EncodedSplit | None:
    """One split of folders `<source>/<split>/<class>/`; None where training has no such ones."""
    source = Path(data.source)
    if not source.is_dir() or not _is_class_tree(data, data.train):
        return None
    return class_folders(data, data.train if split == "train" else data.test or _test_split(data))


def flat_split(data: Data, split: files.Split) -> EncodedSplit | None:
    """All of folders `<source>/<class>/`, of which a share is tested on; None without such ones."""
    source = Path(data.source)
    if data.train != "train" or not source.is_dir() or not _is_flat(data):
        return None
    if data.test_share is None:
        raise InputError(
            f"{source} has folders of classes and no splits; test on a share of each class with "
            f"data.test_share=0.2, or put the classes into {source / 'train'} and "
            f"{source / 'test'}."
        )
    return class_folders(data, ".")


def reads(data: Data, place: Path, *, tables: bool) -> bool:
    """Whether what is written below the source, a folder, would be read as images of it.

    `place` is where, with links resolved; `tables` says whether images or tables are written.
    """
    home = Path(os.path.realpath(data.source))
    if any((home / name).exists() for name in _BY_NAME):
        return False
    if _is_class_tree(data, data.train):
        tested = [] if data.test_share is not None else _test_places(data)
        splits = (home / split for split in (data.train, *tested))
        homes = [one for split in splits for one in _homes(split, data)]
    elif data.train == "train" and _is_flat(data):
        homes = _homes(home, data)
    else:
        homes = [home] if tables or _is_flat(data) else []
    real = filter(place.is_relative_to, map(os.path.realpath, homes))
    return any(not any(map(files.is_clutter, place.relative_to(one).parts)) for one in real)


def _homes(split: Path, data: Data) -> list[Path]:
    """Folders of a split that are read: those of named classes, or all where one is not there.

    Classes of ImageNet may be named by position, and accents be written in two ways.
    """
    if data.classes is None or data.class_names is not None:
        return [split]
    homes = [split / name for name in data.classes]
    return [split] if split.is_dir() and not all(one.is_dir() for one in homes) else homes


def class_folders(data: Data, split: str) -> EncodedSplit:
    """The image files of one split in the folders of kept classes.

    Raises:
        InputError: no such split, unknown or single class, or a class without images.
    """
    source = Path(data.source)
    root, name = source / split, data.source if split == "." else f"{data.source} {split}"
    if not _is_class_tree(data, split):
        raise InputError(
            f"{name}: no folder {root}/<class>/; {_holds(root if root.is_dir() else source)}."
        )
    left_out = files.LeftOut()
    homes: dict[str, list[Path]] = defaultdict(list)  # by class
    for entry in _folders(root, data, left_out):
        homes[one_form(entry.name)].append(entry)
    if data.class_names is not None:
        homes = dict(zip(named_classes([*homes], data, name), homes.values(), strict=True))
    if data.classes is None and data.subset is None:
        files.require_no_lost_folder(root, SUFFIXES)
    kept = chosen_names(sorted(homes), data, name)
    return picture_files(name, {one: homes[one] for one in kept}, left_out)


def picture_files(
    name: str, homes: Mapping[str, Sequence[Path]], left_out: files.LeftOut
) -> EncodedSplit:
    """The image files in the folders of each class, by class and then in lexicographic order."""
    found = [
        [path for home in some for path in files.files_below(home, SUFFIXES, left_out)]
        for some in homes.values()
    ]
    files.note_left_out(name, left_out)
    paths = [path for some in found for path in some]
    known, changed = files.fingerprint_and_change(paths)
    return EncodedSplit(
        name=name,
        labels=torch.arange(len(found)).repeat_interleave(torch.tensor([*map(len, found)])),
        class_names=tuple(homes),
        fingerprint=known,
        changed=changed,
        read=lambda row: read_picture(paths[row]),
        locate=lambda row: printable(paths[row]),
    )


def _is_class_tree(data: Data, split: str) -> bool:
    """Whether the split, a folder such as `train` or `data/train`, holds one folder per class.

    Folders of parquet files are none.
    """
    home = Path(data.source) / split
    first = next(_folders(home, data), None) if home.is_dir() else None
    if first is None:
        return False
    tables = bool(files.files_below(first, {".parquet"}))
    return not tables or bool(files.files_below(first, SUFFIXES))


def holds_splits(data: Data) -> list[str]:
    """Which folders of the source have a name that splits have."""
    found = _folders(Path(data.source), data)
    return [one.name for one in found if one.name.casefold() in files.SPLITS]


def _is_flat(data: Data) -> bool:
    """Whether the source, a folder, holds folders of images, which are classes and not splits."""
    if holds_splits(data):
        return False
    folders = _folders(Path(data.source), data)
    holding = (one for one in folders if files.files_below(one, SUFFIXES))
    return len(list(islice(holding, 2))) == 2


def _folders(folder: Path, data: Data, left_out: files.LeftOut | None = None) -> Iterator[Path]:
    """The folders in a folder but those of a cache, which are counted."""
    left_out = files.LeftOut() if left_out is None else left_out
    for entry in files.subfolders(folder, left_out):
        if _is_cache(entry, data):
            left_out["folders of the cache"] += 1
        else:
            yield entry


def _is_cache(folder: Path, data: Data) -> bool:
    """Whether a folder without images is, or leads to, the cache of this run or of an earlier one.

    Of a class the first image is enough to tell.
    """
    try:
        with os.scandir(folder) as entries:
            if any(os.path.splitext(one.name)[1].lower() in SUFFIXES for one in entries):
                return False
        cache = data.cache_folder.resolve()
    except (OSError, RuntimeError):  # unreadable; or below the home of a user who has none
        return False
    if folder.resolve() not in (cache, *cache.parents) and not holds_decoded(folder):
        return False
    return not files.files_below(folder, SUFFIXES)


def _test_places(data: Data) -> list[str]:
    """Where a test split may lie: beside the training split or in the source, if it has no name."""
    homes = dict.fromkeys((PurePath(data.train).parent, PurePath()))
    usual = [str(home / name) for home in homes for name in TEST_SPLITS]
    return usual if data.test is None else [data.test]


def _test_split(data: Data) -> str:
    """The first of its places that has classes."""
    source = Path(data.source)

    def flaw(split: str) -> str | None:
        inside = [entry.name for entry in files.subfolders(source / split)]
        # All images in one folder that is no class, such as `images` of Tiny-ImageNet.
        heap = len(inside) == 1 and not (source / data.train / inside[0]).is_dir()
        return "has no folders of classes" if heap or not _is_class_tree(data, split) else None

    def there() -> Iterator[str]:  # looked at where there is none
        yield from (entry.name for entry in files.subfolders(source / PurePath(data.train).parent))

    found = [split for split in _test_places(data) if (source / split).is_dir()]
    return files.first_test_split(str(source), found, flaw, there(), "folders of classes")


def _holds(folder: Path) -> str:
    names = sorted(printable(entry.name) for entry in folder.iterdir())
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return f"{folder} holds {names[:10]}{more}"


def read_picture(path: Path) -> bytes:
    """The bytes of an image file; OSError where these are too many."""
    if path.stat().st_size > _LARGEST:
        raise OSError(f"it has more than {_LARGEST // 2**20} MiB")
    return path.read_bytes()
