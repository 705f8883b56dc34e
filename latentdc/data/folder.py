"""Image folders: `<source>/<split>/<class>/*.jpg`, or `<source>/<class>/*.jpg` without splits.

The latter are the split `.`, which `data.test_share` divides.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
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
_SPLITS = ("train", "training", *TEST_SPLITS, "testing", "evaluation")


def is_class_tree(data: Data, split: str) -> bool:
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
    return [one.name for one in found if one.name.casefold() in _SPLITS]


def is_flat(data: Data) -> bool:
    """Whether the source, a folder, holds folders of images, which are classes and not splits."""
    if holds_splits(data):
        return False
    folders = _folders(Path(data.source), data)
    holding = (one for one in folders if files.files_below(one, SUFFIXES))
    return len(list(islice(holding, 2))) == 2


def folder_split(data: Data, split: str | None) -> EncodedSplit:
    """The image files of one split in the folders of kept classes; null looks for a test split.

    Raises:
        InputError: no such split, unknown or single class, or a class without images.
    """
    source = Path(data.source)
    split = split or _test_split(source, data)
    root, name = source / split, data.source if split == "." else f"{data.source} {split}"
    if not is_class_tree(data, split):
        raise InputError(
            f"{name}: no folder {root}/<class>/; {_holds(root if root.is_dir() else source)}."
        )
    left_out = files.LeftOut()
    homes: dict[str, list[Path]] = defaultdict(list)  # by class
    for entry in _folders(root, data, left_out):
        homes[one_form(entry.name)].append(entry)
    if data.class_names is not None:
        ids = named_classes([*homes], data, name)
        homes = dict(zip(ids, homes.values(), strict=True))
    if data.classes is None and data.subset is None:
        files.require_no_lost_folder(root, SUFFIXES)
    kept = chosen_names(sorted(homes), data, name)
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(kept):
        found = [
            p for home in homes[class_name] for p in files.files_below(home, SUFFIXES, left_out)
        ]
        paths += found
        labels += [label] * len(found)
    files.note_left_out(name, left_out)
    known, changed = files.fingerprint_and_change(paths)
    return EncodedSplit(
        name=name,
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=tuple(kept),
        fingerprint=known,
        changed=changed,
        read=lambda row: read_picture(paths[row]),
        locate=lambda row: printable(paths[row]),
    )


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


def _test_split(source: Path, data: Data) -> str:
    """A test split beside the training split, or in the folder itself, that has classes."""
    train, beside = data.train, PurePath(data.train).parent
    names = [
        str(home / name) for home in dict.fromkeys((beside, PurePath())) for name in TEST_SPLITS
    ]

    def flaw(split: str) -> str | None:
        fits = is_class_tree(data, split) and not _is_one_heap(source, split, train)
        return None if fits else "has no folders of classes"

    def there() -> Iterator[str]:  # looked at where there is none
        yield from (entry.name for entry in files.subfolders(source / beside))

    found = [split for split in names if (source / split).is_dir()]
    return files.first_test_split(str(source), found, flaw, there(), "folders of classes")


def _is_one_heap(source: Path, split: str, train: str) -> bool:
    """Whether all images lie in one folder that is no class, such as `images` of Tiny-ImageNet."""
    folders = [entry.name for entry in files.subfolders(source / split)]
    return len(folders) == 1 and not (source / train / folders[0]).is_dir()


def _holds(folder: Path) -> str:
    names = sorted(printable(entry.name) for entry in folder.iterdir())
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return f"{folder} holds {names[:10]}{more}"


def read_picture(path: Path) -> bytes:
    """The bytes of an image file; OSError where these are too many."""
    if path.stat().st_size > _LARGEST:
        raise OSError(f"it has more than {_LARGEST // 2**20} MiB")
    return path.read_bytes()
