"""The folder of a synthetic set: its files, where it is found, how it is replaced in one piece."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentdc.errors import InputError

ROWS = "data/train-00000-of-00001.parquet"  # the Hub's name for the only file of a train split
SHARDS = "data/train-*-of-*.parquet"  # its files, of which a large set has several
LATENTS = "latents.safetensors"
WHITENING = "zca.safetensors"
PROVENANCE = "provenance.json"
RECIPE = "recipe.yaml"
RESULTS = "results.json"
GRID = "grid.png"
CARD = "README.md"
FILES = (SHARDS, LATENTS, WHITENING, PROVENANCE, RECIPE, RESULTS, GRID, CARD)


def is_set(folder: Path) -> bool:
    """Whether `folder` holds a synthetic set."""
    return bool(shards(folder)) and (folder / PROVENANCE).is_file()


def shards(folder: Path) -> list[Path]:
    """The parquet files of a set, in order."""
    return sorted(folder.glob(SHARDS))


def shard_names(count: int) -> list[str]:
    """Names of so many parquet files, inside the folder."""
    return [f"data/train-{index:05d}-of-{count:05d}.parquet" for index in range(count)]


def is_free(folder: Path) -> bool:
    """Whether nothing stands at `folder` but perhaps an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def find_local(name: str | Path) -> Path | None:
    """The folder of the set `name`, which is that folder or a run with `synthetic/` in it.

    Returns:
        None where `name` does not exist.

    Raises:
        InputError: `name` exists but holds no synthetic set.
    """
    folder = Path(name)
    for candidate in (folder, folder / "synthetic"):
        if is_set(candidate):
            return candidate
    if folder.exists():
        raise InputError(
            f"{name} holds no synthetic set: neither it nor {name}/synthetic has {ROWS} and "
            f"{PROVENANCE}. Give a finished run folder or a folder written by save_pretrained."
        )
    return None


def find(name: str | Path, revision: str | None = None) -> Path:
    """The folder of the set `name`: a local one, or else the Hub's, downloaded.

    Raises:
        InputError: no such folder, and the Hub does not have it or cannot be reached.
    """
    found = find_local(name) or download(str(name), revision)
    if not is_set(found):
        raise InputError(
            f"the Hub's {name!r} is no synthetic set: it lacks {ROWS} or {PROVENANCE}."
        )
    return found


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` when the block ends well.

    An error in the block removes what it wrote and leaves the older folder as it was.
    """
    folder = folder.resolve()
    part = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def download(name: str, revision: str | None = None) -> Path:
    """The Hub's data set `name`, as far as a set has files; it may be no set of ours.

    Raises:
        InputError: the Hub does not have it or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(
                name, repo_type="dataset", revision=revision, allow_patterns=list(FILES)
            )
        )
    except (OSError, HFValidationError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full disk
        raise InputError(
            f"no synthetic set {name!r}: there is no such folder, and the Hub gave none "
            f"({str(error).strip().splitlines()[0]}). Check the name; for a private set log in "
            "(`hf auth login`); without a network give the path of a downloaded copy."
        ) from error
