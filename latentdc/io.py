"""Files and folders that are written whole or not at all, checked, and named by facts.

Every file is written through `writing`, every hash of facts is a `fingerprint`. Imports no torch.
"""

import errno
import filecmp
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from latentdc import ranks
from latentdc.arguments import refuse_broken_link
from latentdc.errors import InputError
from latentdc.locks import locked
from latentdc.temporaries import temporary

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_MANY = 1000  # files that take longer to sync one by one than all that the system has to write
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
_CHECKSUM = "sha256"  # key in the header of a safetensors or parquet file
_DAMAGED = "it is not as it was written"


# ---- Writing ----


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` for a file or a folder, which replaces it when the block ends.

    Nothing is there yet: the block writes a file, or makes a folder and fills it. Folders above are
    made. What was written is on the disk before it takes the place of `path`; after an error it is
    removed, and `path` as it was. A folder that holds the same already is left untouched.

    Raises:
        OSError: the disk is full, or the place cannot be written.
    """
    put_back(path)
    path = path.resolve() if path.is_dir() else path.absolute()  # a link to a folder stays one
    with temporary(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            move_into_place(part, path)
        finally:
            put_back(path)


def move_into_place(part: Path, path: Path) -> None:
    """Let a finished file or folder take the place of `path`, once it is on the disk."""
    if not part.is_dir():
        sync(part)
        os.replace(part, path)
        return
    with locked(_aside(path), wait=True, every_process=True):  # others may replace the same folder
        if not _same_folders(part, path):
            _sync_all(part)
            _exchange(part, path)
            sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all."""
    with writing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write one file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write one value of JSON's types, indented, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk.

    Raises:
        OSError: they cannot be written: the disk is full or broken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # folders on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def put_back(folder: Path) -> None:
    """Undo the renaming of a folder that was to be replaced, where its successor did not come."""
    with suppress(OSError, ValueError):  # a name that cannot be one, a place that cannot be written
        folder = Path(os.path.realpath(folder))  # Path.resolve fails on links in a circle
        if not folder.exists() and _aside(folder).is_dir():
            _aside(folder).rename(folder)


def require_writable(folder: Path, key: str = "output") -> None:
    """Refuse a place where no folder can be written; writes nothing. `key` names another."""
    place = folder.absolute()
    other = f"name another folder with {key}=..."
    refuse_broken_link(place, f"cannot write to {str(folder)[:200]}", other)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            place.parent.stat()
        existing = next(path for path in (place, *place.parents) if path.exists())
    except OSError as error:  # a name that is too long, or a link in a circle
        raise InputError(
            f"cannot write to {str(folder)[:200]}: {error.strerror}; name another folder with "
            f"{key}=..."
        ) from error
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write to {folder}; name another folder with {key}=...")


def require_free(folder: Path) -> None:
    """Refuse what stands at `folder`, but for an empty folder."""
    if not is_free(folder):
        raise InputError(f"{folder} exists and is not an empty folder; choose a new one.")


def is_free(folder: Path) -> bool:
    """Whether nothing stands at `folder`, no broken link either, but perhaps an empty folder."""
    return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))


def _sync_all(folder: Path) -> None:
    paths = [*(path for path in folder.rglob("*") if not path.is_symlink()), folder]
    if len(paths) > _MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        sync(path)


def _exchange(part: Path, folder: Path) -> None:
    old = _aside(folder)
    for attempt in range(1, 11):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            part.rename(folder)
            break
        except OSError:
            if attempt == 10 or not folder.exists():
                raise  # else a reader looked between the renames, and put the older one back
    shutil.rmtree(old, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _same_folders(one: Path, other: Path) -> bool:
    """Whether both hold the same files, byte by byte."""
    names = [sorted(p.relative_to(top) for p in top.rglob("*")) for top in (one, other)]
    return names[0] == names[1] and all(_same(one / name, other / name) for name in names[0])


def _same(one: Path, other: Path) -> bool:
    """Whether two are files of the same bytes, links to the same place, or both folders."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def reserve(file: IO[bytes]) -> None:
    """Take the room of a sparse file on the disk, before it is written through a map.

    Without it, a full disk ends the process by SIGBUS when a page is written.

    Raises:
        OSError: there is no room.
    """
    size = os.fstat(file.fileno()).st_size
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    file.seek(0)
    for start in range(0, size, 2**20):  # each part as it is: a hole is read as zeros
        part = file.read(min(2**20, size - start))
        file.seek(start)
        file.write(part)
    file.flush()


# ---- Reading ----


def require_file(path: Path) -> None:
    """Refuse a folder, pipe or device in the place of a file: a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it is no JSON in UTF-8, or is nested beyond all sense.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:  # whose repr holds the whole file
        raise ValueError(str(error)) from None
    except RecursionError as error:
        raise ValueError("lists and keys are too deep inside each other") from error


def as_read_back(value: Any) -> Any:
    """A value as `read_json` gives it back once it is written: lists in the place of tuples."""
    return json.loads(json.dumps(value))


# ---- Facts and their fingerprints ----


def fingerprint(facts: object, *, digits: int = 16) -> str:
    """Hex digits of facts, the same for the same facts in every process and version of the code.

    Args:
        facts: nested mappings, lists and plain values; the order of a mapping's keys does not
            count. A dataclass counts as the mapping of its fields, whatever its name; a tensor or
            array by type, shape and bytes; bytes by themselves. A `Path` stands for the content of
            that file: pass a place as text.
        digits: at most 64.

    Raises:
        OSError: a file among the facts cannot be read.
        TypeError: a value is of another type.
    """
    text = json.dumps(_plain(facts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def file_hash(path: Path) -> str:
    """64 hex digits (SHA-256) of a file's content.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_bytes(content: bytes) -> int:
    """Signed 64-bit hash (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def checksum(tensors: "Mapping[str, Tensor]", about: str = "") -> str:
    """64 hex digits of tensors, with their names, types and shapes, and of a text beside them."""
    import torch

    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value in JSON's types."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Path):
        return {"sha256": file_hash(value)}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        import torch

        return {"sha256": checksum({"": torch.as_tensor(value)})}
    raise TypeError(f"no fingerprint of a {type(value).__name__}")


def cached(
    folder: Path | None,
    facts: Mapping[str, object],
    make: Callable[[], T],
    read: Callable[[Path], T],
    write: Callable[[Path, T], None],
    *,
    name: str = "{}",
    advice: str = "name another folder",
) -> T:
    """What `make` returns, kept in a folder under the fingerprint of the facts that decide it.

    One process makes it while others wait. What is damaged is made again, with a warning.

    Args:
        folder: of the cache; None keeps nothing.
        facts: as of `fingerprint`.
        make: called where nothing whole is kept.
        read: what `write` wrote; raises OSError or ValueError of what is damaged.
        write: one file or folder, whole or not at all, such as `save_tensors`.
        name: of the file or folder; `{}` stands for the fingerprint.
        advice: what to do where the folder cannot be written.

    Raises:
        InputError: the folder cannot be written.
        OSError: the disk is full.
    """
    if folder is None:
        return make()
    path = folder / name.format(fingerprint(facts))
    with ExitStack() as stack:
        for alone in (False, True):  # another process may be making it
            if alone:
                stack.enter_context(locked(path, wait=True, every_process=True, advice=advice))
            if path.exists():
                try:
                    return read(path)
                except (OSError, ValueError) as error:
                    if alone:
                        ranks.say("warning", f"{path} is damaged ({error}) and is made again.")
        value = make()
        write(path, value)
    return value


# ---- Tensors and tables with a checksum of all that is read of them ----


def save_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as one safetensors file, whole or not at all; the same ones as the same bytes.

    The file's name counts in its checksum, so that no file is taken for its neighbour.
    """
    import safetensors.torch

    given = dict(metadata or {})
    words = {**given, _CHECKSUM: checksum(tensors, _about(path, given))}
    # As bytes: safetensors' own writer does not raise OSError when the disk is full.
    content = memoryview(safetensors.torch.save(dict(tensors), words))
    start = 8 + int.from_bytes(content[:8], "little")
    header = {**json.loads(bytes(content[8:start])), "__metadata__": dict(sorted(words.items()))}
    ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(ordered) <= start - 8, "words in any order have as many bytes"
    with writing(path) as part:
        part.write_bytes(bytes(content[:8]) + ordered.ljust(start - 8))
        with part.open("ab") as file:
            file.write(content[start:])


def load_tensors(path: Path, *, foreign: bool = False) -> "dict[str, Tensor]":
    """The tensors that `save_tensors` wrote, on the CPU; large ones are mapped from the file.

    Raises as `load_with_metadata`.
    """
    return load_with_metadata(path, foreign=foreign)[0]


def load_with_metadata(
    path: Path, *, foreign: bool = False
) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors and metadata that `save_tensors` wrote.

    `foreign` takes a file of safetensors' own writer too, which has no checksum.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    require_file(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            header = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"it is cut off or no safetensors file: {error}") from error
    if foreign and not header:
        return tensors, header
    if header.pop(_CHECKSUM, None) != checksum(tensors, _about(path, header)):
        raise ValueError(_DAMAGED)
    return tensors, header


def _about(path: Path, header: Mapping[str, str]) -> str:
    return path.name + (json.dumps(header, sort_keys=True) if header else "")


def save_table(
    path: Path, columns: "Mapping[str, Tensor]", about: Mapping[str, object], kind: str
) -> None:
    """Write columns and what is told of them as one parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = json.dumps(about)
    header = json.dumps({"about": told, _CHECKSUM: checksum(columns, told)})
    table = pa.table({name: tensor.numpy() for name, tensor in columns.items()})
    with writing(path) as part:  # absolute, because a:b would be taken for a URL
        pq.write_table(table.replace_schema_metadata({kind: header}), part.absolute())


def read_table(table: Any, kind: str) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
    """Columns and what is told of them; None of a table that `save_table` did not write.

    Raises:
        ValueError: it is not as it was written.
    """
    import torch

    if (header := (table.schema.metadata or {}).get(kind.encode())) is None:
        return None
    try:
        found = json.loads(header)
        columns = {name: torch.tensor(table[name].to_numpy()) for name in table.column_names}
        if found[_CHECKSUM] == checksum(columns, found["about"]):
            return columns, json.loads(found["about"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError):
        pass
    raise ValueError(_DAMAGED)
