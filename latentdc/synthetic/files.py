"""The files in the folder of a synthetic set, written and read.

Images and labels are parquet files of lossless PNGs and class labels, as on the Hub; feature
vectors are lists of float32 in place of the PNGs.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from latentdc import io
from latentdc.arguments import one_form
from latentdc.errors import InputError
from latentdc.images import Images, MappedImages, as_levels
from latentdc.preprocessing import Whitening, load_whitening, save_whitening
from latentdc.synthetic import folder as layout
from latentdc.synthetic.card import Texts

_LARGEST = 4096  # pixels along a side of an image
GROUP = 100  # rows encoded at a time; small row groups also let the Hub show single rows
SHARD = 500_000_000  # bytes of samples in a file, before compression
_CHUNK = 1024  # images hashed at once, so that a memory-mapped set stays on disk
_WHITENED = "whitening"  # key in the header of the tensors
_VECTORS = "features"  # column
PARTS = ("z", "c", "noise", "soft_labels", "weights")  # tensors with an entry for each image
_TENSORS = {*PARTS, "images", "learned_lr", "grid"}
A = TypeVar("A")
B = TypeVar("B")


def in_threads(function: Callable[[A], B], items: Sequence[A] | Tensor) -> list[B]:
    """What a function that leaves Python to its own gives of each item, by torch's threads."""
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(function, items))


def encode(image: Tensor, codec: Literal["PNG", "JPEG"] = "PNG", quality: int = 95) -> bytes:
    """(3, H, W) uint8 -> the bytes of its lossless PNG, or of a JPEG of some quality."""
    buffer = BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.save(buffer, codec, quality=quality)
    return buffer.getvalue()


def png_bytes(images: Images) -> int:
    """Bytes of (N, 3, H, W) uint8 as PNG; few at a time are in memory."""
    chunks = (images[start : start + GROUP].cpu() for start in range(0, len(images), GROUP))
    return sum(len(data) for chunk in chunks for data in in_threads(encode, chunk))


def write_rows(folder: Path, samples: Tensor, labels: Tensor, class_names: Sequence[str]) -> int:
    """Write samples, (N, 3, H, W) uint8 or (N, D) float32, in their order, with their labels (N,).

    In files of about `SHARD` bytes.

    Returns:
        Bytes of the samples, which of images are those of the PNGs.
    """
    import datasets  # takes a second

    vectors = samples.ndim == 2
    one = datasets.List(datasets.Value("float32")) if vectors else datasets.Image()
    feature = {_VECTORS if vectors else "image": one}
    names = datasets.ClassLabel(names=list(class_names))
    schema = datasets.Features({**feature, "label": names}).arrow_schema
    size = max(GROUP, SHARD // samples[0].nbytes)
    starts, written = range(0, len(labels), size), 0
    (folder / layout.ROWS).parent.mkdir(exist_ok=True)
    for index, start in enumerate(starts):
        end = min(start + size, len(labels))
        name = f"data/train-{index:05d}-of-{len(starts):05d}.parquet"
        path = (folder / name).absolute()  # a:b would be taken for an address
        with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
            for first in range(start, end, GROUP):
                rows = slice(first, min(first + GROUP, end))
                if vectors:
                    ends = np.arange(rows.stop - first + 1, dtype=np.int32) * samples.shape[1]
                    column = pa.ListArray.from_arrays(ends, samples[rows].flatten().numpy())
                    written += samples[rows].nbytes
                else:
                    pngs = in_threads(encode, samples[rows])
                    entries = enumerate(pngs, first)
                    column = pa.array([{"bytes": d, "path": f"{i:05d}.png"} for i, d in entries])
                    written += sum(map(len, pngs))
                columns = [column.cast(schema.field(0).type), pa.array(labels[rows].numpy())]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return written


def read_set(folder: Path) -> tuple[dict[str, Any], int]:
    """The fields of the `SyntheticSet` in a folder, by name, and the bytes of its samples there.

    Where another one takes its place meanwhile, that one is read, and nothing of the first.

    Raises:
        InputError: a file is missing or damaged, has no rows, or holds what no set has.
    """
    for _ in range(4):
        begun = _identity(folder)
        try:
            found = _read_fields(folder)
        except (InputError, OSError, IndexError):  # of no shard
            if begun == _identity(folder):
                raise
        else:
            if begun == _identity(folder):
                return found
    return _read_fields(folder)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], whitening: Whitening | None) -> None:
    """Write what PNGs do not hold, and the whitening, of which both files tell."""
    told = {} if whitening is None else {_WHITENED: io.fingerprint(whitening.facts())}
    io.save_tensors(folder / layout.LATENTS, tensors, told)
    if whitening is not None:
        save_whitening(folder / layout.WHITENING, whitening)


def contents_hash(
    images: Images,
    labels: Tensor,
    class_names: Sequence[str],
    soft_labels: Tensor | None = None,
    weights: Tensor | None = None,
) -> str:
    """See `synthetic_set.set_hash`; the arguments are fields of a set or a data set."""
    known = images.facts() if isinstance(images, MappedImages) else None
    starts = range(0, len(labels), _CHUNK)
    facts: dict[str, object] = {
        "images": known
        or [io.fingerprint(images[start : start + _CHUNK], digits=64) for start in starts],
        "labels": labels,
        "class_names": class_names,
    }
    extras = {"soft_labels": soft_labels, "weights": weights}
    return io.fingerprint(facts | {k: part for k, part in extras.items() if part is not None})


def _identity(folder: Path) -> tuple[int, int] | None:
    """What changes where another folder takes the place of this one; None between the two."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def _read_fields(folder: Path) -> tuple[dict[str, Any], int]:
    """See `read_set`."""
    images, labels, class_names, size = _read_rows(folder)
    fields = {"images": images, "labels": labels, "class_names": class_names}
    with layout.reading(folder / layout.PROVENANCE):
        provenance = fields["provenance"] = io.read_json(folder / layout.PROVENANCE)
        if not isinstance(provenance, dict):
            raise ValueError(f"it holds a {type(provenance).__name__}, not facts by their names")
    with layout.reading(folder / layout.LATENTS):  # float images take the place of the PNGs
        tensors, header = io.load_with_metadata(folder / layout.LATENTS, foreign=True)
        fields |= _checked(tensors, images)
    own = header.get(_WHITENED)
    if own is not None or (folder / layout.WHITENING).is_file():
        with layout.reading(folder / layout.WHITENING):
            found = fields["whitening"] = load_whitening(folder / layout.WHITENING)
            if own not in (None, io.fingerprint(found.facts())):  # earlier sets do not tell
                raise ValueError("it is of another set")
    return fields, size


def _read_rows(folder: Path) -> tuple[Tensor, Tensor, tuple[str, ...], int]:
    """The samples, labels and class names that `write_rows` wrote, and what it returned."""
    paths = layout.shards(folder)
    for path in paths:
        with layout.reading(path):
            io.require_file(path)
    with layout.reading(paths[0]):
        of = int(paths[0].stem.rpartition("-")[2])
        if len(paths) != of:
            raise ValueError(f"{len(paths)} of its {of} parquet files are there")
        class_names = _class_names(paths[0])
        count = sum(pq.read_metadata(path).num_rows for path in paths)
    samples, labels = torch.empty(0), torch.empty(count, dtype=torch.int64)
    done = size = 0
    for path in paths:
        with layout.reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            if _class_names(path) != class_names:
                raise ValueError(f"it has other classes than {paths[0].name}")
            for part, theirs, stored in _parts(path):
                if not done:
                    samples = _room(count, part)
                if part.shape[1:] != samples.shape[1:]:
                    what = "picture" if part.ndim == 4 else "vector"
                    raise ValueError(
                        f"{what} {done} is {_size(part)}, the first is {_size(samples)}"
                    )
                samples[done : done + len(part)] = part
                labels[done : done + len(part)] = torch.tensor(theirs)
                done += len(part)
                size += stored
            if not done:
                raise ValueError("it has no rows")
    return samples, labels, class_names, size


def _room(count: int, part: Tensor) -> Tensor:
    try:
        return part.new_empty((count, *part.shape[1:]))
    except RuntimeError as error:
        raise MemoryError(f"{count:,} samples of {_size(part)} do not fit") from error


def _class_names(path: Path) -> tuple[str, ...]:
    import datasets  # takes a second

    label = datasets.Features.from_arrow_schema(pq.read_schema(path)).get("label")
    if not isinstance(label, datasets.ClassLabel):
        raise ValueError("it has no column `label` of class labels")
    return tuple(map(one_form, label.names))


def _parts(path: Path) -> Iterator[tuple[Tensor, list[int], int]]:
    """Some samples (B, ...) at a time, their labels, and the bytes that they take."""
    vectors = _VECTORS in pq.read_schema(path).names
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for rows in file.iter_batches(batch_size=GROUP):
            labels = rows["label"].to_pylist()
            if vectors:
                widths = set(pc.list_value_length(rows[_VECTORS]).to_pylist())
                if len(widths) > 1:
                    raise ValueError(f"vectors of {', '.join(sorted(map(str, widths)))} values")
                values = torch.tensor(rows[_VECTORS].flatten().to_numpy())
                yield values.view(len(labels), -1), labels, values.nbytes
                continue
            pngs = [image["bytes"] for image in rows["image"].to_pylist()]
            for picture, data, label in zip(in_threads(_decode, pngs), pngs, labels, strict=True):
                yield picture[None], [label], len(data)


def _decode(data: bytes) -> Tensor:
    picture = Image.open(BytesIO(data), formats=["PNG"])
    if picture.mode != "RGB" or max(picture.size) > _LARGEST:
        raise ValueError(
            f"a picture is {picture.width} x {picture.height} px of mode {picture.mode}; a set's "
            f"are RGB and have sides of at most {_LARGEST} px"
        )
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _size(samples: Tensor) -> str:
    if samples.ndim == 2:
        return f"{samples.shape[1]} values"
    return f"{samples.shape[3]} x {samples.shape[2]} px"


def write_texts(folder: Path, texts: Texts) -> None:
    """Write what stands beside the samples, by file."""
    for name, content in texts.items():
        if isinstance(content, str):
            io.write_text(folder / name, content)
        else:
            io.write_json(folder / name, content)


def link_folder(folder: Path, part: Path, *, without: Sequence[str] = ()) -> None:
    """Fill the new folder `part` with the files of another without their bytes, where links go.

    A link shares its bytes with the file, so that `write_bytes` and its like may replace it, and
    nothing may write into it. Symbolic links stay what they are. Files of the patterns `without`
    are left out, and links in the place of a folder that holds some of them.
    """
    parents = {PurePosixPath(one).parent.as_posix() for one in without}

    def left_out(place: str, names: list[str]) -> set[str]:
        paths = {name: Path(place, name) for name in names}
        below = {name: path.relative_to(folder).as_posix() for name, path in paths.items()}
        return {
            name
            for name, path in below.items()
            if any(fnmatch(path, one) for one in without)
            or (path in parents and paths[name].is_symlink())
        }

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            shutil.copy2(source, target)

    shutil.copytree(folder, part, symlinks=True, ignore=left_out, copy_function=link)


def require_saved(
    folder: Path, texts: Texts, samples: Images, labels: Tensor, class_names: Sequence[str]
) -> None:
    """Refuse a folder that does not hold this set, to which the texts belong.

    Of its samples the first alone are read.
    """
    same = False
    if layout.is_set(folder):
        with layout.reading(folder):
            paths = layout.shards(folder)
            rows = sum(pq.read_metadata(path).num_rows for path in paths)
            found = (rows, _class_names(paths[0]), io.read_json(folder / layout.PROVENANCE))
            first, theirs, _ = next(_parts(paths[0]))
        ours = samples[: len(first)].cpu()
        ours = ours.float() if ours.ndim == 2 else as_levels(ours)
        told = (len(labels), tuple(class_names), io.as_read_back(texts[layout.PROVENANCE]))
        same = found == told and theirs == labels[: len(first)].tolist() and ours.equal(first)
    if not same:
        raise InputError(
            f"{folder} does not hold this set, to which results would be added; write it there "
            "with save_pretrained."
        )


def _checked(tensors: dict[str, Any], images: Tensor) -> dict[str, Any]:
    """What `SyntheticSet.tensors` gave, beside these images; learned_lr and grid as numbers."""
    if strange := sorted(tensors.keys() - _TENSORS):
        raise ValueError(f"it holds {', '.join(strange)}, which no set has")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
    if (floats := tensors.get("images")) is not None and floats.shape != images.shape:
        raise ValueError(f"images of {tuple(floats.shape)} beside PNGs of {tuple(images.shape)}")
    if (lr := tensors.get("learned_lr")) is not None:
        tensors["learned_lr"] = float(lr)
    if (grid := tensors.get("grid")) is not None:
        if grid.is_floating_point():
            raise ValueError(f"grid is a whole number, got {float(grid)}")
        tensors["grid"] = int(grid)
    return tensors
