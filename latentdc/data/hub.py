"""Tables by split: of a Hub data set, or of a folder of parquet files or of `save_to_disk`.

Parquet files are read where they lie, and of the Hub's only those of the splits that are opened are
downloaded; what else a repository may hold is left to `datasets`. Strangers write cards and tables:
what names files elsewhere, takes long, is a pointer or lacks a part is refused.
"""

import glob
import posixpath
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import yaml
from datasets.info import DatasetInfosDict
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import logging as hub_logging

from latentdc import ranks
from latentdc.data import files, parquet
from latentdc.errors import InputError, in_short, is_full, nearest
from latentdc.estimates import in_bytes
from latentdc.io import read_json
from latentdc.recipe import Data

_LARGEST_JSON = 64 * 2**20  # bytes
_LARGEST_CARD = 4 * 2**20  # bytes
_DEEPEST = 50  # mappings and lists inside of each other in a card
# What the Hub's client and `datasets` raise where something cannot be had; errors of the network
# are those of the library that the client's own error derives from.
_REFUSED = (
    *(OSError, ValueError, RuntimeError),
    *(*HfHubHTTPError.__bases__, datasets.exceptions.DatasetsError),
)

Tables = Mapping[str, Callable[[], parquet.SampleTable]]  # by split: opens its table


def open_tables(data: Data) -> Tables:
    """The splits of a folder or of a Hub data set; each is read when it is opened.

    Raises:
        InputError: no such data set or configuration, no network, a card that names files
            elsewhere.
    """
    if ranks.rank() != 0:
        datasets.disable_progress_bars()
    source = Path(data.source)
    if source.is_dir():
        saved = files.is_saved(source)
        return saved_tables(source) if saved else _folder_tables(source, data.config)
    with _told_of_the_hub(data):
        return _hub_parquet(data, _card(data)) or _hub_tables(data)


@contextmanager
def _told_of_the_hub(data: Data) -> Iterator[None]:
    """What the Hub does not give is one line, which the retries of its client would drown."""
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    except InputError:
        raise
    except _REFUSED as error:
        if is_full(error):
            raise  # a full disk is not the data set's fault
        raise InputError(
            f"cannot open data.source={data.source}: {in_short(error, 300)}; it is no folder here, "
            "and the Hub does not give it. Without network, download it elsewhere (hf download "
            "REPO --repo-type dataset --local-dir FOLDER) and pass data.source=FOLDER."
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)


def _hub_parquet(data: Data, card: dict[str, Any]) -> Tables | None:
    """The parquet files of a Hub data set; those of a split are downloaded when it is opened.

    None where `datasets` has to look itself: other files, splits that names do not tell. Without
    network the files are those that were downloaded before.
    """
    commit, source = data.revision, Path(data.source)
    try:
        found = HfApi().dataset_info(data.source, revision=data.revision)
        names, commit = [one.rfilename for one in found.siblings or ()], found.sha
    except _REFUSED:
        try:
            home = Path(_download(data, commit, local_files_only=True))
        except _REFUSED:
            return None
        names = [
            path.relative_to(home).as_posix() for path in files.files_below(home, {".parquet"})
        ]
    try:
        paths = {name: Path(name) for name in names if name.endswith(".parquet")}
        splits, info = _by_split(paths, card, data.config, source)
    except InputError:
        return None

    def table(split: str) -> parquet.SampleTable:
        wanted = [path.as_posix() for path in splits[split]]
        with _told_of_the_hub(data):
            home = Path(_download(data, commit, allow_patterns=[glob.escape(n) for n in wanted]))
        return parquet.read_parquet([home / name for name in wanted], source, split, info)

    return {split: partial(table, split) for split in splits} or None


def _download(data: Data, commit: str | None, **how: Any) -> str:
    return str(snapshot_download(data.source, repo_type="dataset", revision=commit, **how))


def _hub_tables(data: Data) -> Tables:
    """What `datasets` finds in a repository, of which it downloads all; what that costs is said."""
    with suppress(*_REFUSED):  # of which it tells itself
        _tell_cost(data)
    tables = datasets.load_dataset(data.source, data.config, revision=data.revision)
    return {split: partial(parquet.of_datasets, tables[split]) for split in tables}


def _tell_cost(data: Data) -> None:
    """Say what is downloaded and copied, unless it is there from before."""
    builder = datasets.load_dataset_builder(data.source, data.config, revision=data.revision)
    copy = Path(builder.cache_dir)
    if copy.exists():
        return
    found = HfApi().dataset_info(data.source, revision=data.revision, files_metadata=True)
    every = {one.rfilename: one.size or 0 for one in found.siblings or ()}
    # `hf://datasets/<id>@<commit>/<file>`, of the configuration's files.
    addresses = [str(a) for some in (builder.config.data_files or {}).values() for a in some]
    chosen = {address.partition("@")[2].partition("/")[2] for address in addresses} & every.keys()
    size = sum(every[name] for name in chosen or every)
    disk = next(folder for folder in copy.absolute().parents if folder.exists())
    ranks.say(
        "note",
        f"{data.source} has no parquet files whose names tell their splits; `datasets` downloads "
        f"its files, {in_bytes(size)} in all, and writes tables of up to as much again into "
        f"{copy.parent}, where {in_bytes(shutil.disk_usage(disk).free)} are free.",
    )


# ---- Parquet files and their splits ----


def _folder_tables(source: Path, config: str | None) -> Tables:
    paths = files.files_below(source, {".parquet"}, files.LeftOut())
    names = {path.relative_to(source).as_posix(): path for path in paths}
    card = source / "README.md"
    content = read_card(card) if card.is_file() else {}
    splits, info = _by_split(names, content, config, source)
    if _configuration(content, config, source).get("data_files"):
        for path in (path for found in splits.values() for path in found):
            _require_inside(path, source)
    return {s: partial(parquet.read_parquet, paths, source, s, info) for s, paths in splits.items()}


def _by_split(
    names: Mapping[str, Path], card: dict[str, Any], config: str | None, source: Path
) -> tuple[dict[str, list[Path]], Any]:
    """Files by split, by the card or else by their names, and what the card says of columns."""
    entry = _configuration(card, config, source)
    if isinstance(folder := entry.get("data_dir"), str):
        inside = f"{posixpath.normpath(folder)}/".removeprefix("./")
        names = {n.removeprefix(inside): p for n, p in names.items() if n.startswith(inside)}
    if entry.get("data_files"):
        splits = _named(entry["data_files"], names, source)
    else:
        splits = files.split_files(names, source)
        nameless = splits.pop("", [])
        if not splits and nameless:
            splits = {"train": nameless}
        elif nameless:
            files.note_left_out(
                str(source), files.LeftOut({".parquet whose name names no split": len(nameless)})
            )
    return splits, _info(source, card, str(entry.get("config_name", "default")))


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


# ---- Cards: README.md, which says which files make which split ----


def _card(data: Data) -> dict[str, Any]:
    """The card of a repository, empty where it has none; refused if it names files outside of it.

    Such as files of this machine.
    """
    content: dict[str, Any] = {}
    for name in ("README.md", datasets.config.REPOYAML_FILENAME):
        try:
            path = hf_hub_download(data.source, name, repo_type="dataset", revision=data.revision)
        except _REFUSED:
            continue  # it has none, or `datasets` says why nothing can be had
        content = read_card(Path(path), Path(data.source) / name) | content
    return content


def _info(source: Path, card: dict[str, Any], config: str) -> Any:
    """What the card says of a configuration's columns and splits; None where it says nothing."""
    try:
        return DatasetInfosDict.from_dataset_card_data(card).get(config)
    except parquet.UNREADABLE as error:
        raise InputError(f"cannot read the dataset_info of {source}: {in_short(error)}.") from error


def read_card(path: Path, named: Path | None = None) -> dict[str, Any]:
    """The YAML mapping at the head of a card, or all of a YAML file; empty where there is none.

    Raises:
        InputError: it cannot be read, is written to take long, has malformed `configs`, or names a
            file outside of its own folder or repository. `named` is how this calls it.
    """
    named = named or path
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_CARD + 1)
    except OSError as error:
        raise InputError(f"cannot read {named}: {error.strerror}.") from error
    if len(content) > _LARGEST_CARD:
        raise InputError(f"{named} has more than {_LARGEST_CARD // 2**20} MiB; a card is short.")
    text = content.decode("utf-8-sig", errors="replace")
    if path.suffix == ".md":
        found = REGEX_YAML_BLOCK.search(text)
        text = found[2] if found else ""
    card = _parsed(text, named)
    if not isinstance(card, dict):
        return {}
    configs = card.get("configs") or []
    if not isinstance(configs, list) or not all(isinstance(entry, dict) for entry in configs):
        raise InputError(f"{named}: its configs are no list of mappings; mend or remove them.")
    for entry in configs:
        for key in ("data_files", "data_dir"):
            for pattern in _texts(entry.get(key)):
                if not _is_inside(pattern):
                    raise InputError(
                        f"{named}: its {key} names {pattern[:100]!r}, which lies outside of the "
                        "data set; a card names files of its own, such as data/train-*.parquet."
                    )
    return card


def _parsed(text: str, named: Path) -> Any:
    """YAML as `datasets` and the Hub's client read it, merged keys and all, but not for long."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
                raise ValueError(f"it refers to itself, or is nested more than {_DEEPEST} deep")
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"cannot read {named}: {in_short(error)}.") from error


def _texts(node: Any) -> list[str]:
    """Every text in nested lists and mappings, keys left out."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        return [text for part in node for text in _texts(part)]
    return [node] if isinstance(node, str) else []


def _is_inside(pattern: str) -> bool:
    """Whether a pattern names files below its folder: no address, no chain, no way up."""
    parts = re.split(r"[/\\]", pattern)
    odd = ":" in pattern or "\0" in pattern or pattern.startswith(("/", "\\", "~"))
    return not odd and not any(part.startswith("..") for part in parts)


def _configuration(card: dict[str, Any], name: str | None, source: Path) -> dict[str, Any]:
    """The one that is named, the default, or the only one; empty where the card has none."""
    configs: dict[str, dict[str, Any]]
    configs = {str(e.get("config_name", "default")): e for e in card.get("configs") or [{}]}
    if name is not None:
        if name not in configs:
            raise InputError(
                f"cannot open data.source={source}: it has no configuration {name!r}"
                f"{nearest(name, configs)}; data.config is one of {', '.join(configs)}."
            )
        return configs[name]
    default = next((e for e in configs.values() if e.get("default") is True), None)
    default = default or configs.get("default")
    if default is None and len(configs) > 1:
        raise InputError(
            f"{source} has the configurations {', '.join(configs)}; choose one with data.config=..."
        )
    return default or next(iter(configs.values()))


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


def _saved(folder: Path) -> parquet.SampleTable:
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
        parquet.require_content(folder / name)
    try:
        table = datasets.Dataset.load_from_disk(str(folder.absolute()))
        table.data.table.validate(full=True)  # its offsets are used unchecked from here on
    except parquet.UNREADABLE as error:
        raise InputError(
            f"cannot read {folder}: {in_short(error, 300)}; save the data set again."
        ) from error
    return parquet.of_datasets(table.with_format(None))


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
