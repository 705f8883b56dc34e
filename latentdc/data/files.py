"""What a folder of data holds, without what operating systems and tools leave there.

Links to files and folders are followed; a link back to a folder that is being read is not. Hidden
names and the clutter of systems are skipped. Everything left out is counted, and told in one line.
Imports neither torch nor Pillow.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from latentdc.errors import InputError, nearest
from latentdc.io import fingerprint
from latentdc.plain_text import printable
from latentdc.ranks import note
from latentdc.recipe import Data
from latentdc.recipe.data import TEST_SPLITS

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
_SHARDS = frozenset({".tar", ".parquet"})  # each of which holds many images
_SHARD = re.compile(r"(?P<split>.*)-(?P<number>\d{5,9})-of-(?P<count>\d{5,9})(?P<rest>.*)")
SPLITS = {  # words that name them
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
SAVED_SPLITS, SAVED_SPLIT = "dataset_dict.json", "state.json"  # of `save_to_disk`
_FREE = 2**28  # bytes that any file may unpack to
_MOST = 100  # times its own size that a larger one may; plain pictures of one colour reach 1000
LeftOut = Counter[str]  # how often what
Split = Literal["train", "test"]  # which recipes may call by other names


def is_clutter(name: str) -> bool:
    """Whether a name is hidden, or one that systems and tools leave in folders of data."""
    return name.startswith((".", "~$")) or name.casefold() in _CLUTTER


def subfolders(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """The folders in a folder, links to folders too, in lexicographic order; counts the rest."""
    left_out = LeftOut() if left_out is None else left_out
    found = []
    for entry in _entries(folder):
        if is_clutter(entry.name):
            left_out["hidden or system files"] += 1
        elif _kind(entry) != "folder":
            left_out["files beside the folders"] += 1
        elif entry.name.encode(errors="replace").decode() != entry.name:
            place = printable(folder / entry.name)
            raise InputError(
                f"the folder {place} has a name that is not UTF-8; rename it, or, where this "
                "locale cannot read it, set PYTHONUTF8=1."
            )
        else:
            found.append(folder / entry.name)
    return found


def files_below(
    folder: Path, suffixes: Collection[str], left_out: LeftOut | None = None
) -> list[Path]:
    """Files with one of the suffixes at any depth, in lexicographic order.

    Every folder is read once, whatever leads to it, so that no arrangement of links takes long.
    Suffixes are in lower case, such as `.png`; everything else is counted by kind.

    Raises:
        InputError: a tar or parquet file of them is a link that leads nowhere.
    """
    left_out = LeftOut() if left_out is None else left_out
    # A link to a folder above, as written or resolved, would bring in the images of other classes.
    above = {
        place for path in (folder.absolute(), folder.resolve()) for place in (path, *path.parents)
    }
    seen = set(map(_identity, above))
    waiting: list[Path] = [folder]
    found: list[Path] = []
    while waiting:
        home = waiting.pop()
        for entry in _entries(home):
            kind, suffix = _kind(entry), os.path.splitext(entry.name)[1].lower()
            if is_clutter(entry.name):
                left_out["hidden or system files"] += 1
            elif kind == "broken links":
                if suffix in suffixes and suffix in _SHARDS:
                    raise InputError(
                        f"{printable(home / entry.name)} is a link that leads nowhere; restore the "
                        "file that it leads to, or remove the link."
                    )
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


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote it: several splits, or one."""
    one = all((folder / name).is_file() for name in (SAVED_SPLIT, "dataset_info.json"))
    return one or (folder / SAVED_SPLITS).is_file()


def require_no_lost_folder(folder: Path, suffixes: Collection[str]) -> None:
    """Refuse links that lead nowhere and may be folders: those without one of the suffixes."""
    lost = [
        entry.name
        for entry in _entries(folder)
        if _kind(entry) == "broken links"
        and not is_clutter(entry.name)
        and os.path.splitext(entry.name)[1].lower() not in suffixes
    ]
    if lost:
        raise InputError(
            f"{printable(folder)}: {printable(', '.join(lost[:5]))} "
            f"{'leads' if len(lost) == 1 else 'lead'} nowhere, and may be classes; restore what "
            "such links lead to, remove them, or name the classes to keep with data.classes=[...]."
        )


def note_left_out(name: str, left_out: LeftOut) -> None:
    """Say in one line what was left out of `name`, if anything was."""
    if left_out:
        kinds = left_out.most_common(8)
        more = f", {len(left_out) - 8} more kinds" if len(left_out) > 8 else ""
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds)
        note(f"{printable(name)}: left out {left_out.total()} ({listed}{more}).")


def require_plausible(unpacked: int, path: Path) -> None:
    """Refuse contents, of so many bytes in memory, that a file of this size cannot hold."""
    size = path.stat().st_size
    if unpacked > _FREE and unpacked > _MOST * size:
        raise InputError(
            f"{path} would unpack {size:,} bytes to {unpacked:,}; a set of images does not shrink "
            f"to less than a {_MOST}th. Save it again without compression."
        )


def fingerprint_and_change(paths: Sequence[Path]) -> tuple[str, int]:
    """What tells files from others without reading them.

    A link to a folder stands for that folder, since it may come to lead to another one.

    Returns:
        Hex digits of their places, sizes and times, which change where one of the files does;
        nanoseconds at which the system last saw one change, which no program can set.
    """
    homes = {home: os.path.realpath(home) for home in {path.parent for path in paths}}
    stats = [(os.fsencode(f"{homes[path.parent]}/{path.name}"), path.stat()) for path in paths]
    facts = [(ascii(name), stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return fingerprint(facts), max((stat.st_ctime_ns for _, stat in stats), default=0)


# ---- Splits and shards by the names of files ----


def split_files(names: Mapping[str, Path], source: Path) -> dict[str, list[Path]]:
    """Files by the split in their names and folders, "" where these say none.

    Raises:
        InputError: files of one split lie in several folders, as those of several data sets do.
    """
    splits: dict[str, list[Path]] = defaultdict(list)
    homes: dict[str, set[str]] = defaultdict(set)
    for name, path in names.items():
        split, home = _split_of(name)
        splits[split].append(path)
        homes[split].add(home or ".")
    for split, paths in splits.items():
        if split and len(homes[split]) > 1:
            folders = ", ".join(sorted(homes[split]))
            raise InputError(
                f"{source} has files of {split} in several folders, {folders[:300]}, which may be "
                "several data sets; name one of these folders, or put the files into one."
            )
        own = {re.sub(r"[^A-Za-z]*\d.*", "", p.stem) for p in paths if usual_split(p.stem)}
        if len(own) > 1:
            note(f"{printable(source)}: {split} is made of {', '.join(sorted(own))}.")
    return dict(splits)


def _split_of(name: str) -> tuple[str, str]:
    """Split of a file, and the folder that holds its splits; no split where the name says none.

    `train` and `data` of `data/train-00000-of-00002.parquet` or `data/train/part-0.parquet`.
    """
    *folders, file = parts = name.split("/")
    shard = _SHARD.fullmatch(file)
    own = shard["split"] if shard and re.fullmatch(r"\w+(\.\w+)*", shard["split"]) else ""
    if own and usual_split(own):
        return own, "/".join(folders)
    parts[-1] = file.rpartition(".")[0]
    for depth in reversed(range(len(parts))):
        if found := usual_split(parts[depth]):
            return found, "/".join(folders[:depth])
    return own, "/".join(folders)


def usual_split(text: str) -> str | None:
    """The split that a word in a name stands for."""
    return next((SPLITS[w] for w in re.split(r"[^a-z]+", text.lower()) if w in SPLITS), None)


def require_plain_splits(data: Data, source: str | Path) -> None:
    """Refuse names of splits where these are `train` and `test`."""
    if data.train != "train" or data.test not in (None, "test"):
        raise InputError(
            f"{source} has the splits train and test, got data.train={data.train} and "
            f"data.test={data.test}; leave both out."
        )


def require_all_shards(paths: Sequence[Path], source: Path) -> None:
    """Refuse files of which some are missing, or that are of two downloads.

    The Hub writes `train-00000-of-00002.parquet`, once with a hash of each before the suffix.
    """
    found: dict[tuple[Path, str], dict[int, tuple[int, Path]]] = defaultdict(dict)
    for path in paths:
        if shard := _SHARD.fullmatch(path.name):
            number, count = int(shard["number"]), int(shard["count"])
            others = found[path.parent, shard["split"]]
            other = others.get(number) or next((o for o in others.values() if o[0] != count), None)
            if other is not None:
                raise InputError(
                    f"{source} has {other[1].name} and {path.name}, which are of two downloads of "
                    f"{shard['split']}; remove the older."
                )
            others[number] = count, path
    for (_, split), shards in found.items():
        count, _ = next(iter(shards.values()))
        absent = next((n for n in range(count) if n not in shards), None)
        if absent is not None:
            raise InputError(
                f"{source} has {len(shards)} of the {count} files of {split}; "
                f"{split}-{absent:05d}-of-{count:05d} is missing. Download it again (hf download), "
                "or rename the files to use these alone."
            )


def require_no_gap(paths: Sequence[Path]) -> None:
    """Refuse shards `train-000000.tar`, ... of which one in the middle is missing.

    Bare numbers are shards where the first is 0 or 1; `1998.tar`, `2000.tar` are classes.
    """
    found: dict[tuple[str, int], set[int]] = {}  # by what comes before the number, and its digits
    for path in paths:
        if shard := re.fullmatch(r"(.*\D)?(\d{4,9})", path.stem):
            if "-of-" not in path.stem:
                before = f"{path.parent}/{shard[1] or ''}"
                found.setdefault((before, len(shard[2])), set()).add(int(shard[2]))
    for (start, digits), numbers in found.items():
        gap = next((n for n in range(min(numbers), max(numbers)) if n not in numbers), None)
        if start.endswith("/") and min(numbers) > 1:
            continue
        if gap is not None and max(numbers) - min(numbers) < 2 * len(numbers):
            raise InputError(
                f"the shard {printable(start)}{gap:0{digits}d}.tar is missing, and those up to "
                f"{max(numbers)} are there; download it, or rename the others to use these alone."
            )


def chosen_split(
    data: Data, split: Split, splits: Collection[str], flaw: Callable[[str], str | None]
) -> str:
    """The one of some splits that a recipe names, else the `first_test_split` of them."""
    name = data.train if split == "train" else data.test
    if name is None:
        usual = filter(splits.__contains__, TEST_SPLITS)
        return first_test_split(data.source, usual, flaw, splits)
    if name not in splits:
        raise InputError(
            f"{data.source} has no split {name!r}{nearest(name, splits)}; its splits: "
            f"{', '.join(splits)}."
        )
    return name


def first_test_split(
    source: str,
    names: Iterable[str],
    flaw: Callable[[str], str | None],
    there: Iterable[str],
    needs: str = "labels",
) -> str:
    """The first of some splits that can be tested on; those that were passed over are told.

    `flaw` is what speaks against a split, such as `has no labels`, None where nothing does; `there`
    and `needs` are what an error says there is, and what test splits need.
    """
    passed_over: list[str] = []
    for name in names:
        why = flaw(name)
        if why is None:
            if passed_over:
                told = ", ".join(passed_over)
                note(f"{printable(source)}: {told}; the test split is {name}.")
            return name
        passed_over.append(f"{name} {why}")
    raise InputError(
        f"{printable(source)} has none of the test splits {', '.join(TEST_SPLITS)} with {needs}, "
        f"only {', '.join(there)}; name one with data.test=..., or test on a share of the others: "
        "data.test_share=0.2" + (f" ({', '.join(passed_over)})." if passed_over else ".")
    )


# ---- Entries of folders ----


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
