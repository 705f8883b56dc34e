"""Tar files, read where they lie: shards of webdataset, and folders of classes inside of tar files.

A sample of webdataset is an image and its label beside it, `0001.jpg` and `0001.cls` (a number or a
name), else `0001.json` (a mapping, of which one key is the label). Without any of these the first
folder that differs inside is the class, `train/cat/1.jpg`, and a tar inside of a tar is such a
folder, as in ImageNet's. Where no image lies in a folder, each tar is a class, or each folder of
tars where several folders, and nothing beside them, hold shards alone. Splits are told by the names
of the tar files, or by folders inside of them.

Nothing is unpacked. An index of offsets is made once and kept in the cache; images are read by
seeking. Names that lead out of the tar are refused, links and devices are left out.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import torch
from torch import Tensor

from latentdc.arguments import one_form
from latentdc.data import files
from latentdc.data.classes import LABEL_NAMES, numbered
from latentdc.data.decode import SUFFIXES, pointer
from latentdc.data.encoded import EncodedSplit
from latentdc.errors import InputError
from latentdc.io import cached, load_with_metadata, save_tensors
from latentdc.plain_text import printable
from latentdc.ranks import note
from latentdc.recipe import Data

_LABELS = {"cls": 2**10, "json": 2**20}  # largest bytes of a label by its suffix
_LARGEST = 2**30  # bytes of an image
_ABOUT = ("values", "splits", "left_out", "named_by")  # of an index, as JSON beside its rows
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4")

_Value = int | str | None  # a label as the tar has it


@dataclass
class _Index:
    """Where the images of some tar files lie."""

    rows: Tensor  # (N, 5) int64: number of the tar, offset, size, place in `values` and in `splits`
    values: list[_Value]  # labels; those of folders are their names
    splits: list[str]  # names of folders inside that are splits; [""] where none are
    left_out: files.LeftOut = field(default_factory=files.LeftOut)  # what is not read, by kind
    named_by: str = ""  # what the classes of tars in several folders are named by


def tar_split(data: Data, split: files.Split) -> EncodedSplit | None:
    """The encoded images of one split of a folder of tar files; None of another source.

    Raises:
        InputError: no such split, damaged or compressed files, images without a label, names that
            lead out of the tar.
    """
    source = Path(data.source)
    if not source.is_dir() or not (tars := _tars(source)):
        return None
    found = _splits(tars, source, data)
    chosen = files.chosen_split(data, split, found, lambda n: _unlabelled(found[n][0], data))
    paths, inner = found[chosen]
    name, index = f"{data.source} {chosen}", _index(paths, data)
    files.note_left_out(name, index.left_out)
    if index.named_by:
        note(f"{printable(name)}: classes are named by {index.named_by}.")
    kept = index.rows[index.rows[:, 4] == index.splits.index(inner)]
    used = kept[:, 3].unique()
    own, names = numbered([index.values[place] for place in used.tolist()])
    of_value = torch.full((len(index.values),), -1).index_put((used,), own)
    labels = of_value[kept[:, 3]]
    if missing := int((labels < 0).sum()):
        raise InputError(
            f"{name}: {missing} of {len(labels)} images have no label, first "
            f"{_describe(paths, kept[int(labels.argmin())])}; each needs a .cls or .json beside it"
            + (f" with the key {data.label}." if data.label else ", or a folder of its class.")
        )
    known, changed = files.fingerprint_and_change(paths)
    return EncodedSplit(
        name=name,
        labels=labels,
        class_names=tuple(names),
        fingerprint=f"{known} {inner} {data.label}",
        changed=changed,
        read=lambda row: _read(paths, kept[row]),
        locate=lambda row: _describe(paths, kept[row]),
    ).choose_classes(data)


def _tars(source: Path) -> list[Path]:
    """Tar files in a folder, at any depth; none where there are parquet files.

    Raises:
        InputError: some are compressed, which no image can be found in by its place; of those
            beside others, if they are shards or splits too.
    """
    found = files.files_below(source, {".tar", ".parquet", *_COMPRESSED})
    if files.is_saved(source) or any(path.suffix.lower() == ".parquet" for path in found):
        return []
    plain = [path for path in found if path.suffix.lower() == ".tar"]
    every = [path for path in found if re.search(r"\.(tar\.\w+|tgz)$", path.name.lower())]
    forms = {_shard_pattern(path) for path in plain}
    packed = [
        path.name
        for path in every
        if not plain
        or _shard_pattern(path) in forms
        or any(map(files.usual_split, path.relative_to(source).parts))
    ]
    if packed:
        raise InputError(
            f"{printable(source)} has {len(packed)} compressed tar files, such as "
            f"{printable(packed[0])}, which are not read; unpack them to .tar (gunzip; images do "
            "not shrink) and remove the compressed ones."
        )
    if every:
        left_out = files.LeftOut({"compressed tar files": len(every)})
        files.note_left_out(str(source), left_out)
    return plain


def _shard_pattern(path: Path) -> str:
    """The name of a tar without its suffixes, all numbers alike: that of shards of one set."""
    return re.sub(r"\d+", "0", path.name.partition(".")[0].lower())


def _unlabelled(paths: Sequence[Path], data: Data) -> str | None:
    """Why a split is none to test on."""
    found = any(value is not None for value in _index(paths, data).values)
    return None if found else "has no labels"


def _splits(paths: Sequence[Path], source: Path, data: Data) -> dict[str, tuple[list[Path], str]]:
    """Tar files of each split, and the folder inside of them that holds it."""
    splits = files.split_files({p.relative_to(source).as_posix(): p for p in paths}, source)
    nameless = splits.pop("", [])
    if splits:
        if nameless:
            left_out = files.LeftOut({".tar whose name names no split": len(nameless)})
            files.note_left_out(str(source), left_out)
        return {split: (found, "") for split, found in splits.items()}
    inside = _index(nameless, data).splits
    return {files.usual_split(inner) or "train": (nameless, inner) for inner in inside}


# ---- The index ----


def _index(paths: Sequence[Path], data: Data) -> _Index:
    """The index of these files, made once by one process, and kept in the cache."""
    files.require_all_shards(paths, Path(data.source))
    files.require_no_gap(paths)
    known, _ = files.fingerprint_and_change(paths)
    facts = {"tar": 3, "files": known, "label": data.label}
    return cached(
        data.cache_folder,
        facts,
        lambda: _build_index(paths, data.label),
        _load,
        _save,
        name="tar-{}.safetensors",
        advice="pass another data.cache=FOLDER",
    )


def _save(path: Path, index: _Index) -> None:
    about = {name: json.dumps(getattr(index, name)) for name in _ABOUT}
    save_tensors(path, {"rows": index.rows}, about)


def _load(path: Path) -> _Index:
    tensors, about = load_with_metadata(path)
    values, splits, left_out, named_by = (json.loads(about[name]) for name in _ABOUT)
    return _Index(tensors["rows"], values, splits, files.LeftOut(left_out), named_by)


def _build_index(paths: Sequence[Path], label: str | None) -> _Index:
    left_out = files.LeftOut()
    rows: list[tuple[int, int, int]] = []
    labels: list[_Value] = []
    folders: list[tuple[str, ...]] = []
    labelled = False
    for number, path in enumerate(paths):
        images, beside = _samples(path, label, left_out)
        labelled |= bool(beside)
        for key, (folder, offset, size) in images.items():
            rows.append((number, offset, size))
            labels.append(beside.get(key))
            folders.append(folder)
    if not rows:
        raise InputError(
            f"{printable(paths[0])} holds no images ({dict(left_out) or 'it is empty'}); a tar "
            "holds image files, each with a .cls or .json beside it or in a folder of its class."
        )
    inner, named_by = [""] * len(rows), ""
    if not labelled:
        inner, labels = _classes_by_folder(folders)
        if not any(folders) and len(paths) > 1:
            by_tar, named_by = _classes_by_tar(paths)
            labels = [by_tar[number] for number, _, _ in rows]
    if not all(isinstance(value, int) for value in labels if value is not None):
        labels = [None if value is None else str(value) for value in labels]
    values, splits = list(dict.fromkeys(labels)), list(dict.fromkeys(inner))
    of_value, of_split = ({v: i for i, v in enumerate(found)} for found in (values, splits))
    table = [
        (*row, of_value[value], of_split[split])
        for row, value, split in zip(rows, labels, inner, strict=True)
    ]
    return _Index(torch.tensor(table, dtype=torch.int64), values, splits, left_out, named_by)


def _classes_by_tar(paths: Sequence[Path]) -> tuple[list[str], str]:
    """The class of each tar, and what names it where they lie in several folders.

    Raises:
        InputError: two folders of shards have one name.
    """
    stems = [one_form(path.stem) for path in paths]
    homes = sorted({path.parent for path in paths})
    if len(homes) == 1:
        return stems, ""
    shards = all(re.fullmatch(r"(?!n\d{8}$)\D*\d+(-of-\d+)?", stem) for stem in stems)
    if Path(os.path.commonpath(homes)) in homes or not shards:
        return stems, "their tar files, not by the folders that these lie in"
    known: dict[str, Path] = {}
    for home in homes:
        if (other := known.setdefault(one_form(home.name), home)) != home:
            raise InputError(
                f"{printable(other)} and {printable(home)} hold shards of classes of one name; "
                "rename one, or put its tar files into the other."
            )
    return [one_form(path.parent.name) for path in paths], "the folders of their tar files"


def _classes_by_folder(folders: Sequence[tuple[str, ...]]) -> tuple[list[str], list[_Value]]:
    """For each image the folder of its split, if they have such, and that of its class."""
    kinds = set(folders)
    levels = enumerate(zip(*kinds, strict=False))
    shared = next((i for i, level in levels if len({*level}) > 1), min(map(len, kinds)))
    tops = {folder[shared] for folder in kinds if len(folder) > shared}
    splits = bool(tops) and all(files.usual_split(top) for top in tops)
    if not splits:
        return [""] * len(folders), [(*folder, None)[shared] for folder in folders]
    inside: dict[tuple[str, ...], tuple[str, _Value]] = {}
    for top in tops:
        below = [f for f in kinds if f[shared : shared + 1] == (top,)]
        own = {f[shared + 1] for f in below if len(f) > shared + 1}
        for folder in below:
            inside[folder] = top, (*folder, None)[shared + 1] if own else None
    found = [inside.get(folder, (next(iter(tops)), None)) for folder in folders]
    return [split for split, _ in found], [value for _, value in found]


_Samples = dict[str, tuple[tuple[str, ...], int, int]]  # folders, offset and size of each image


def _samples(
    path: Path, label: str | None, left_out: files.LeftOut
) -> tuple[_Samples, dict[str, _Value]]:
    """Images of one tar by key, and the labels beside them."""
    images: _Samples = {}
    plain: set[str] = set()  # keys of images as webdataset has them
    labels: dict[str, _Value] = {}
    in_json: dict[str, _Value] = {}
    for name, offset, size, content in _members(path, left_out):
        *folder, file = name.parts
        stem, _, suffix = file.partition(".")
        key = str(PurePosixPath(*folder, stem))
        if content is not None:
            if suffix.lower() == "cls" and label is None:
                labels[key] = _text_label(content)
            elif suffix.lower() == "json":
                in_json[key] = _json_label(content, label, path, name)
        elif f".{suffix.lower()}" in SUFFIXES:
            if key in plain:
                raise InputError(f"{printable(path)} has two images {printable(name)}; remove one.")
            plain.add(key)
            images[key] = tuple(map(one_form, folder)), offset, size
        else:  # `my.cat.jpg`
            images[str(name)] = tuple(map(one_form, folder)), offset, size
    # A number and a name may mean the same.
    pairs = [(labels[key], value) for key, value in in_json.items() if key in labels]
    if differing := sum(type(one) is type(two) and one != two for one, two in pairs):
        left_out["labels in a .json other than in the .cls beside it"] += differing
    labels = in_json | labels
    if labels and (further := images.keys() - plain):
        left_out["further images of a sample"] += len(further)
        images = {key: image for key, image in images.items() if key in plain}
    return images, labels


def _members(
    path: Path, left_out: files.LeftOut
) -> Iterator[tuple[PurePosixPath, int, int, bytes | None]]:
    """Name, offset and size of every image and label; of labels also the content."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if why := pointer(file.read(64)):
            raise InputError(f"cannot read {printable(path)}: {why}.")
        file.seek(0)
        try:
            yield from _tar_members(file, PurePosixPath(), size, path, left_out)
        except tarfile.TarError as error:
            raise InputError(
                f"cannot read {printable(path)}: {error}; it is damaged, not wholly downloaded, or "
                "compressed (unpack a .tar.gz with gunzip: images do not shrink)."
            ) from error


def _tar_members(
    file: BinaryIO, folder: PurePosixPath, end: int, path: Path, left_out: files.LeftOut
) -> Iterator[tuple[PurePosixPath, int, int, bytes | None]]:
    """`_members` of the tar that begins where the file is and has ended at byte `end` of it.

    Of a tar inside, which is a `folder` of its name, too; not of one inside of that.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        empty = bool(folder.name) and tar.firstmember is None  # type: ignore[attr-defined]
        if empty:
            left_out["tars inside that are empty or none"] += 1
        while (member := tar.next()) is not None and member.offset < end:
            tar.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory
            name = PurePosixPath(member.name)
            suffix = name.name.partition(".")[2].lower()
            _require_safe_name(name, path)
            name, offset = folder / name, member.offset_data
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                left_out["links, devices or sparse files"] += 1
            elif any(map(files.is_clutter, name.parts)):
                left_out["hidden or system files"] += 1
            elif offset + member.size > end:
                raise tarfile.ReadError("unexpected end of data")
            elif suffix in _LABELS and member.size <= _LABELS[suffix]:
                file.seek(offset)
                yield name, offset, member.size, file.read(member.size)
            elif name.suffix.lower() in SUFFIXES:
                yield name, offset, member.size, None
            elif name.suffix.lower() == ".tar" and not folder.name:
                file.seek(offset)
                inside = name.with_suffix("")
                yield from _tar_members(file, inside, offset + member.size, path, left_out)
            else:
                left_out[name.suffix.lower() or "files without a suffix"] += 1
        if not empty and not (folder.name and tar.offset >= end):  # the outer tells where it ends
            _require_end(file, tar.offset, end)


def _require_end(file: BinaryIO, offset: int, end: int) -> None:
    """Refuse a tar whose members stop before the block of zeros that marks its end, or go on.

    `tarfile` takes a cut or damaged header for the end, and reads nothing behind the mark.
    """
    file.seek(offset)
    if offset + tarfile.BLOCKSIZE > end or any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError("it stops before the zeros that mark its end")
    while (left := end - file.tell()) > 0:
        if any(file.read(min(left, 2**20))):
            raise tarfile.ReadError("more follows behind its end, as where tars are joined by cat")


def _require_safe_name(name: PurePosixPath, path: Path) -> None:
    text = str(name)
    if name.is_absolute() or ".." in name.parts or "\\" in text:
        raise InputError(
            f"{printable(path)} has a member {printable(text)[:100]!r}, whose name leads out of "
            "the tar; make it anew with names below its own folder."
        )
    if text.encode(errors="replace").decode() != text:
        raise InputError(
            f"{printable(path)} has a member {printable(text)[:100]!r}, whose name is not UTF-8; "
            "make it anew."
        )


def _text_label(content: bytes) -> _Value:
    text = one_form(content.decode("utf-8-sig", errors="replace").strip())
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text) if int(text) >= 0 else None
    return text or None


def _json_label(content: bytes, label: str | None, path: Path, name: PurePosixPath) -> _Value:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(path)}: {printable(name)} is no JSON; make it anew, or leave it out."
        ) from error
    keys = LABEL_NAMES if label is None else (label,)
    value = (
        next((found[key] for key in keys if key in found), None) if type(found) is dict else None
    )
    return _text_label(str(value).encode()) if type(value) in (int, str) else None


# ---- Reading ----


def _read(paths: Sequence[Path], row: Tensor) -> bytes:
    number, offset, size, *_ = row.tolist()
    if size > _LARGEST:
        raise OSError(f"it has more than {_LARGEST // 2**20} MiB")
    with paths[number].open("rb") as file:
        file.seek(offset)
        content: bytes = file.read(size)
    if len(content) < size:
        raise OSError("the tar has become shorter")
    return content


def _describe(paths: Sequence[Path], row: Tensor) -> str:
    """`train-000000.tar: 0001.jpg`, or the tar inside that it is in, for messages."""
    number, offset, *_ = row.tolist()
    with tarfile.open(paths[number], "r:") as tar:
        there = (m.name for m in tar if m.offset_data <= offset < m.offset_data + max(1, m.size))
        name: Any = next(there, f"at byte {offset}")
    return printable(f"{paths[number]}: {name}")
