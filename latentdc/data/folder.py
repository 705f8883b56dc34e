"""Folders of data: image folders `<source>/<split>/<class>/*.jpg`, and what any folder holds.

Links to files and folders are followed; a link back to a folder that is being read is not. Hidden
names and what operating systems and tools leave in folders is skipped. Everything left out is
counted, and told in one line.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from latentdc.data.decode import SUFFIXES
from latentdc.errors import InputError
from latentdc.io import fingerprint
from latentdc.plain_text import printable
from latentdc.ranks import note
from latentdc.recipe import Data

if TYPE_CHECKING:
    from latentdc.data.cache import EncodedSplit

# Test splits, looked for in this order where none is named.
TEST_SPLITS = ("test", "validation", "val", "valid", "dev", "eval")
_LARGEST = 2**30  # bytes of an image file
# Names, in lower case, that systems and tools make inside of people's folders.
_CLUTTER = frozenset(
    {
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("thevolumesettingsfolder", "desktop db", "desktop df"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler"),  # Windows
        *("recycled", "system volume information", "msocache", "config.msi"),
        *(f"found.{number:03d}" for number in range(100)),  # of chkdsk
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),  # NAS
        *("@synoresource", "@synoeastream", "@synologydrive", "@sharebin", "@transcode", "@thumb"),
        "~snapshot",
        *("lost+found", "__pycache__"),
    }
)
LeftOut = Counter[str]  # how often what


def is_clutter(name: str) -> bool:
    """Whether a name is hidden, or one that systems and tools leave in folders of data."""
    return name.startswith((".", "~$")) or name.casefold() in _CLUTTER


def subfolders(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """The folders in a folder, links to folders too, in lexicographic order.

    Args:
        folder: exists.
        left_out: counts everything else.

    Raises:
        InputError: it cannot be read, or a name is not UTF-8.
    """
    left_out = LeftOut() if left_out is None else left_out
    found = []
    for entry in _entries(folder):
        if is_clutter(entry.name):
            left_out["hidden or system files"] += 1
        elif _kind(entry) != "folder":
            left_out["files beside the folders"] += 1
        elif not _is_text(entry.name):
            place = printable(folder / entry.name)
            raise InputError(f"the folder {place} has a name that is not UTF-8; rename it.")
        else:
            found.append(folder / entry.name)
    return found


def files_below(
    folder: Path, suffixes: Collection[str], left_out: LeftOut | None = None
) -> list[Path]:
    """Files with one of the suffixes at any depth, in lexicographic order.

    Every folder is read once, whatever leads to it, so that no arrangement of links takes long.

    Args:
        folder: exists.
        suffixes: in lower case, such as `.png`.
        left_out: counts everything else by kind.

    Raises:
        InputError: a folder that cannot be read.
    """
    left_out = LeftOut() if left_out is None else left_out
    # A link to a folder above would bring in the images of other classes.
    seen = {_identity(path) for path in _with_parents(folder)}
    waiting: list[Path] = [folder]
    found: list[Path] = []
    while waiting:
        home = waiting.pop()
        for entry in _entries(home):
            kind, suffix = _kind(entry), os.path.splitext(entry.name)[1].lower()
            if is_clutter(entry.name):
                left_out["hidden or system files"] += 1
            elif kind == "broken links":
                left_out[kind] += 1
            elif kind == "folder" and _identity(Path(entry)) in seen:
                left_out["links to folders that are read already"] += 1
            elif kind == "folder":
                seen.add(_identity(Path(entry)))
                waiting.append(home / entry.name)
            elif suffix not in suffixes:
                left_out[printable(suffix[:20]) or "no suffix"] += 1
            elif kind == "file":
                found.append(home / entry.name)
            else:
                left_out[kind] += 1
    return sorted(found)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that no file can have is none."""
    try:
        return path.exists()
    except OSError:
        return False


def tell(name: str, left_out: LeftOut) -> None:
    """Say in one line what was left out of `name`, if anything was."""
    if left_out:
        kinds = left_out.most_common(8)
        more = f", {len(left_out) - 8} more kinds" if len(left_out) > 8 else ""
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        note(f"{printable(name)}: left out {left_out.total()} ({listed}{more}).")


def files_fingerprint(paths: Sequence[Path]) -> str:
    """Of files by their places, sizes and times: another one where one of them has changed."""
    stats = [(os.fsencode(path.absolute()), path.stat()) for path in paths]
    return fingerprint([(ascii(name), stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def is_class_tree(source: Path, split: str) -> bool:
    """Whether the split, a folder such as `train` or `data/train`, holds one folder per class.

    Folders of parquet files are none.
    """
    folders = subfolders(source / split) if (source / split).is_dir() else []
    tables = bool(folders) and bool(files_below(folders[0], {".parquet"}))
    return bool(folders) and not (tables and not files_below(folders[0], SUFFIXES))


def folder_split(data: Data, split: str | None) -> "EncodedSplit":
    """The image files of one split; null looks for a test split.

    Raises:
        InputError: no such split, unknown or single class, or a class without images.
    """
    import torch  # here alone: commands look into folders before they need torch

    from latentdc.data.cache import EncodedSplit
    from latentdc.data.classes import chosen_names, one_form

    source = Path(data.source).expanduser()
    split = split or _test_split(source, data.train)
    root, name = source / split, f"{data.source} {split}"
    if not is_class_tree(source, split):
        raise InputError(
            f"{name}: no folder {root}/<class>/; {_holds(root if root.is_dir() else source)}."
        )
    left_out = LeftOut()
    homes: dict[str, list[Path]] = defaultdict(list)
    for entry in subfolders(root, left_out):
        homes[one_form(entry.name)].append(entry)
    kept = chosen_names(sorted(homes), data, name)
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(kept):
        found = [p for home in homes[class_name] for p in files_below(home, SUFFIXES, left_out)]
        paths += found
        labels += [label] * len(found)
    tell(name, left_out)
    return EncodedSplit(
        name=name,
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=tuple(kept),
        fingerprint=files_fingerprint(paths),
        read=lambda row: _content(paths[row]),
        locate=lambda row: printable(paths[row]),
    )


def _test_split(source: Path, train: str) -> str:
    """A test split beside the training split, or in the folder itself, that has classes."""
    beside = PurePath(train).parent
    names = [
        str(home / name) for home in dict.fromkeys((beside, PurePath())) for name in TEST_SPLITS
    ]
    passed_over: list[str] = []
    for split in names:
        if is_class_tree(source, split) and not _is_one_heap(source, split, train):
            if passed_over:
                note(
                    f"{printable(source)}: {', '.join(passed_over)} has no folders of classes; the "
                    f"test split is {split}."
                )
            return split
        if (source / split).is_dir():
            passed_over.append(split)
    without = f" ({', '.join(passed_over)} has no folders of classes)" if passed_over else ""
    raise InputError(
        f"{source} has none of the test splits {', '.join(TEST_SPLITS)} with folders of classes, "
        f"only {[entry.name for entry in subfolders(source / beside)]}{without}; name one with "
        "data.test=..."
    )


def _is_one_heap(source: Path, split: str, train: str) -> bool:
    """Whether all images lie in one folder that is no class, such as `images` of Tiny-ImageNet."""
    folders = [entry.name for entry in subfolders(source / split)]
    return len(folders) == 1 and not (source / train / folders[0]).is_dir()


def _holds(folder: Path) -> str:
    names = sorted(printable(entry.name) for entry in folder.iterdir())
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return f"{folder} holds {names[:10]}{more}"


def _content(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise OSError(f"it has more than {_LARGEST // 2**20} MiB")
    return path.read_bytes()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"cannot read the folder {printable(folder)}: {error.strerror or error}."
        ) from error


def _kind(entry: os.DirEntry[str]) -> str:
    """`folder`, `file`, or why it is neither; asks the disk about links alone."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        entry.stat()
    except OSError:  # no such file, or links in a circle
        return "broken links"
    return "devices, pipes or sockets"


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _with_parents(folder: Path) -> set[Path]:
    """The folder and all above it, as written and with links resolved."""
    here, there = folder.absolute(), folder.resolve()
    return {here, *here.parents, there, *there.parents}


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
