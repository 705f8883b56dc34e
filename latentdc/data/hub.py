"""Tables by split: of a Hub data set, or of a folder of parquet files or of `save_to_disk`.

Strangers write cards and tables, and `datasets` reads them. Before it does, this file refuses what
names files elsewhere, takes long, is a pointer, lacks a part, or claims more than it can hold.
"""

import errno
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.info import DatasetInfosDict
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging

from latentdc import ranks
from latentdc.data import files
from latentdc.data.card import configuration, in_short, read_card
from latentdc.data.decode import pointer
from latentdc.errors import InputError, is_full
from latentdc.io import read_json
from latentdc.plain_text import printable
from latentdc.recipe import Data

_SHARD = re.compile(r"(?P<split>.*)-(?P<number>\d{5,9})-of-(?P<count>\d{5,9})(?P<rest>.*)")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_LARGEST_JSON = 64 * 2**20  # bytes
# What `datasets` and pyarrow raise on files that are damaged or of another kind.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError),
    *(ArithmeticError, pa.ArrowException, datasets.exceptions.DatasetsError),
)

Tables = Mapping[str, Callable[[], datasets.Dataset]]  # by split: opens its table


def open_tables(data: Data) -> Tables:
    """The splits of a folder or of a Hub data set; each is read when it is opened.

    Raises:
        InputError: no such data set or configuration, no network, a card that names files
            elsewhere.
    """
    if ranks.rank() != 0:
        datasets.disable_progress_bars()
    source = Path(data.source).expanduser()
    if source.is_dir():
        return (
            saved_tables(source) if files.is_saved(source) else _folder_tables(source, data.config)
        )
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # its retries would drown the one line of the error
    try:
        _check_card(data)
        tables = datasets.load_dataset(data.source, data.config, revision=data.revision)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if is_full(error):
            raise  # a full disk is not the data set's fault
        raise InputError(
            f"cannot open data.source={data.source}: {in_short(error, 300)}; it is no folder here, "
            "and the Hub does not give it. Without network, download it elsewhere (hf download "
            "REPO --repo-type dataset --local-dir FOLDER) and pass data.source=FOLDER."
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)
    return {split: partial(tables.__getitem__, split) for split in tables}


def holds_tables(source: Path) -> bool:
    """Whether a folder holds parquet files at any depth, or what `save_to_disk` wrote."""
    return files.is_saved(source) or bool(files.files_below(source, {".parquet"}))


def _check_card(data: Data) -> None:
    """Refuse a repository whose card names files outside of it, such as files of this machine."""
    for name in ("README.md", datasets.config.REPOYAML_FILENAME):
        try:
            path = hf_hub_download(data.source, name, repo_type="dataset", revision=data.revision)
        except (OSError, ValueError, HfHubHTTPError):
            continue  # it has none, or `datasets` says why nothing can be had
        read_card(Path(path), Path(data.source) / name)


def _info(source: Path, card: dict[str, Any], config: str) -> Any:
    """What the card says of a configuration's columns and splits; None where it says nothing."""
    try:
        return DatasetInfosDict.from_dataset_card_data(card).get(config)
    except _UNREADABLE as error:
        raise InputError(f"cannot read the dataset_info of {source}: {in_short(error)}.") from error


# ---- Parquet files and their splits ----


def _folder_tables(source: Path, config: str | None) -> Tables:
    left_out = files.LeftOut()
    paths = files.files_below(source, {".parquet"}, left_out)
    names = {path.relative_to(source).as_posix(): path for path in paths}
    card = source / "README.md"
    content = read_card(card) if card.is_file() else {}
    entry = configuration(content, config, source)
    if isinstance(folder := entry.get("data_dir"), str):
        home = source / folder
        names = {p.relative_to(home).as_posix(): p for p in paths if p.is_relative_to(home)}
    if entry.get("data_files"):
        splits = _named(entry["data_files"], names, source)
    else:
        splits = split_files(names, source)
        nameless = splits.pop("", [])
        if not splits and nameless:
            splits = {"train": nameless}
        elif nameless:
            files.tell(
                str(source), files.LeftOut({".parquet whose name names no split": len(nameless)})
            )
    info = _info(source, content, str(entry.get("config_name", "default")))
    return {s: partial(read_parquet, paths, source, s, info) for s, paths in splits.items()}


def _named(data_files: Any, names: Mapping[str, Path], source: Path) -> dict[str, list[Path]]:
    """Files by split, as the card says."""
    if isinstance(data_files, dict):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    if not isinstance(data_files, list) or not all(isinstance(e, dict) for e in data_files):
        data_files = [{"split": "train", "path": data_files}]
    splits: dict[str, list[Path]] = defaultdict(list)
    for entry in data_files:
        split, patterns = str(entry.get("split", "train")), entry.get("path")
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise InputError(
                f"{source}/README.md: the data_files of split {split} are no paths; mend the card."
            )
        found = [p for name, p in names.items() if any(_fits(name, each) for each in patterns)]
        if not found:
            raise InputError(
                f"{source} has no parquet file {', '.join(patterns)[:200]}, which its README.md "
                f"names for split {split}; it has {', '.join(names) or 'none'}."[:600]
            )
        for path in found:
            _require_inside(path, source)
        splits[split] += found
    return splits


def _fits(name: str, pattern: str) -> bool:
    """Whether a relative path fits a pattern, in which `**` stands for any folders."""
    parts = name.split("/")
    reached = {0}  # how many parts the pattern may have used so far
    for piece in pattern.removeprefix("./").split("/"):
        if piece == "**":
            reached = set(range(min(reached), len(parts) + 1)) if reached else set()
        else:
            reached = {n + 1 for n in reached if n < len(parts) and fnmatchcase(parts[n], piece)}
    return len(parts) in reached or (pattern.endswith("**") and bool(reached))


def _require_inside(path: Path, source: Path) -> None:
    """Refuse a link out of the folder that a file of the data set names.

    In the Hub's cache all files are links from `snapshots/<commit>` to `blobs` beside it.
    """
    real, home = path.resolve(), source.resolve()
    blobs = [above.with_name("blobs") for above in home.parents if above.name == "snapshots"]
    if not any(real.is_relative_to(folder) for folder in (home, *blobs)):
        raise InputError(
            f"{path} is a link out of the data set, to {real}, and its own files name it; copy the "
            "file into the folder, or make that place data.source."
        )


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
        own = {re.sub(r"[^A-Za-z]*\d.*", "", p.stem) for p in paths if _usual_split(p.stem)}
        if len(own) > 1:
            ranks.note(f"{printable(source)}: {split} is made of {', '.join(sorted(own))}.")
    return dict(splits)


def _split_of(name: str) -> tuple[str, str]:
    """Split of a file, and the folder that holds its splits; no split where the name says none.

    `train` and `data` of `data/train-00000-of-00002.parquet` or `data/train/part-0.parquet`.
    """
    *folders, file = parts = name.split("/")
    shard = _SHARD.fullmatch(file)
    own = shard["split"] if shard and re.fullmatch(r"\w+(\.\w+)*", shard["split"]) else ""
    if own and _usual_split(own):
        return own, "/".join(folders)
    parts[-1] = file.rpartition(".")[0]
    for depth in reversed(range(len(parts))):
        if found := _usual_split(parts[depth]):
            return found, "/".join(folders[:depth])
    return own, "/".join(folders)


def _usual_split(text: str) -> str | None:
    """The split that a word in a name stands for."""
    return next((_SPLITS[w] for w in re.split(r"[^a-z]+", text.lower()) if w in _SPLITS), None)


def read_parquet(
    paths: Sequence[Path], source: Path, split: str = "train", info: Any = None
) -> datasets.Dataset:
    """The rows of the parquet files of a split, by way of an arrow file in the cache of `datasets`.

    `info` is what the card says of columns and of the rows in each split.

    Raises:
        InputError: files that are missing, damaged, pointers, or claim more than they can hold.
    """
    _require_all_shards(paths, source)
    for path in paths:
        _require_parquet(path)
    features = info.features if info else None
    try:
        table = datasets.Dataset.from_parquet(
            [str(path.absolute()) for path in paths],
            split="train",
            features=features or _plain_features(paths[0]),
        )
    except _UNREADABLE as error:
        codes = {getattr(e, "errno", None) for e in (error, error.__cause__)}
        if codes & {errno.ENOSPC, errno.EDQUOT}:
            raise  # a full disk is not the data set's fault
        if codes & {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}:
            raise InputError(
                f"cannot write to {datasets.config.HF_DATASETS_CACHE}, where `datasets` keeps the "
                f"tables that it reads ({error}); set HF_DATASETS_CACHE to another folder."
            ) from error
        beside = " and those beside it" * (len(paths) > 1)
        reason = in_short(error.__cause__ or error, 300)
        raise InputError(f"cannot read {printable(paths[0])}{beside}: {reason}.") from error
    said = (info.splits or {}).get(split) if info else None
    if said is not None and said.num_examples != len(table):
        raise InputError(
            f"{source}: its README.md promises {said.num_examples} rows of {split}, and its files "
            f"hold {len(table)}; download it anew (hf download), or mend the card."
        )
    return table


def _plain_features(path: Path) -> datasets.Features | None:
    """Columns with the words of a dictionary written out; None where there are none of them."""
    schema = pq.read_schema(path)
    if not any(pa.types.is_dictionary(field.type) for field in schema):
        return None
    plain = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in schema
    ]
    return datasets.Features.from_arrow_schema(pa.schema(plain, schema.metadata))


def _require_all_shards(paths: Sequence[Path], source: Path) -> None:
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


def _require_parquet(path: Path) -> None:
    """Refuse a pointer, a damaged file, one without rows, and one that claims too much."""
    _require_content(path)
    try:
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
    except _UNREADABLE as error:
        raise InputError(
            f"cannot read {printable(path)}: {in_short(error)}; it is damaged, or not wholly "
            "downloaded."
        ) from error
    rows, size = metadata.num_rows, path.stat().st_size
    if rows == 0:
        raise InputError(f"{printable(path)} has no rows; remove it, or download it again.")
    if rows > size:  # a value that many rows share is counted once
        raise InputError(f"{printable(path)} claims {rows:,} images in {size:,} bytes.")
    files.require_plausible(unpacked, path)


def _require_content(path: Path) -> None:
    """Refuse a pointer, and a name that `datasets` would take for an address."""
    if "::" in str(path.absolute()):
        raise InputError(f"cannot read {printable(path)}: its path has '::' in it; rename it.")
    try:
        with path.open("rb") as file:
            why = pointer(file.read(64))
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror}.") from error
    if why:
        raise InputError(f"cannot read {printable(path)}: {why}.")


# ---- What `save_to_disk` wrote ----


def saved_tables(source: Path) -> Tables:
    """What `save_to_disk` of `datasets` wrote: one folder, or one for each split."""
    if not (source / files.SAVED_SPLITS).is_file():
        split = _json(source / files.SAVED_SPLIT).get("_split")
        return {str(split or "train"): partial(_saved, source)}
    splits = _json(source / files.SAVED_SPLITS).get("splits")
    if not isinstance(splits, list) or not all(map(_is_plain, splits)):
        raise InputError(f"{source / files.SAVED_SPLITS} lists no splits; save the data set again.")
    return {split: partial(_saved, source / split) for split in splits}


def _saved(folder: Path) -> datasets.Dataset:
    state = folder / files.SAVED_SPLIT
    if not state.is_file():
        raise InputError(f"{folder} has no {files.SAVED_SPLIT}; save the data set again.")
    entries = _json(state).get("_data_files")
    entries = entries if isinstance(entries, list) else []
    names = [str(entry.get("filename")) for entry in entries if isinstance(entry, dict)]
    if not names or not all(map(_is_plain, names)):
        raise InputError(f"{state} names no files of its own folder; save the data set again.")
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder} lacks its file {name}; copy or download it again.")
        _require_inside(folder / name, folder)
        _require_content(folder / name)
    try:
        table = datasets.Dataset.load_from_disk(str(folder.absolute()))
        table.data.table.validate(full=True)  # its offsets are used unchecked from here on
    except _UNREADABLE as error:
        raise InputError(
            f"cannot read {folder}: {in_short(error, 300)}; save the data set again."
        ) from error
    return table.with_format(None)


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"it has more than {_LARGEST_JSON // 2**20} MiB")
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {path}: {in_short(error)}; save or download the data set again."
        ) from error
    return content


def _is_plain(name: Any) -> bool:
    """Whether it names a file or folder directly below its own."""
    return isinstance(name, str) and bool(re.fullmatch(r"[^/\\:\0]+", name)) and name[0] != "."
