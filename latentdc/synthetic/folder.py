"""The folder of a synthetic set: its files, and where it is found."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentdc.arguments import refuse_broken_link
from latentdc.errors import InputError, first_line
from latentdc.io import put_back

ROWS = "data/train-00000-of-00001.parquet"  # the Hub's name for the only file of a train split
_SHARDS = "data/train-*-of-*.parquet"  # its files, of which a large set has several
LATENTS = "latents.safetensors"
WHITENING = "zca.safetensors"
PROVENANCE = "provenance.json"
RECIPE = "recipe.yaml"
RESULTS = "results.json"
GRID = "grid.png"
CARD = "README.md"
FILES = (_SHARDS, LATENTS, WHITENING, PROVENANCE, RECIPE, RESULTS, GRID, CARD)


def is_set(folder: Path) -> bool:
    """Whether `folder` holds a synthetic set; one that a kill left aside is put back first."""
    put_back(folder)
    return bool(shards(folder)) and os.path.lexists(folder / PROVENANCE)


def shards(folder: Path) -> list[Path]:
    """The parquet files of a set, in order."""
    return sorted(folder.glob(_SHARDS))


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A name for each class that every file system takes, with its label where two would meet."""
    safe = [re.sub(r"[^\w .+-]", "_", name)[:60].strip(" .") or "_" for name in class_names]
    alike = [unicodedata.normalize("NFKD", name).casefold() for name in safe]
    met = Counter(alike)
    if len(met) == len(safe):
        return safe
    names = [
        name if met[key] == 1 else f"{name}_{label}"
        for label, (name, key) in enumerate(zip(safe, alike, strict=True))
    ]
    folded = {unicodedata.normalize("NFKD", name).casefold() for name in names}
    if len(folded) == len(names):
        return names
    return [f"{name}_{label}" for label, name in enumerate(safe)]  # such as a, A and a_1


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
    refuse_broken_link(folder, f"the set {name}")
    return None


def find(name: str | Path, revision: str | None = None) -> Path:
    """The folder of the set `name`: a local one, or else the Hub's, downloaded."""
    found = find_local(name)
    if found is not None and revision is not None:
        raise InputError(
            f"revision {revision!r} is of a set on the Hub, and {name} is a folder here; leave the "
            "revision out, or give the Hub's set from where no such folder lies."
        )
    found = found or download(str(name), revision)
    if not is_set(found):
        raise InputError(
            f"the Hub's {name!r} is no synthetic set: it lacks {ROWS} or {PROVENANCE}."
        )
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file, in one line, whatever its damaged content makes a reader raise."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; bring back the whole folder of the set.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no permission, a broken disk
        said = first_line(error)[:200] or type(error).__name__
        raise InputError(
            f"{path} is damaged, or none of latentdc's ({said}); bring back a copy, or make the "
            "set again."
        ) from error


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
        said = first_line(error).rstrip(".")
        of = "" if revision is None else f" of revision {revision!r}"
        raise InputError(
            f"no synthetic set {name!r}{of}: there is no such folder, and the Hub gave none "
            f"({said}). Check {'the name' if revision is None else 'both'}; for a private set log "
            "in (`hf auth login`); without a network give the path of a downloaded copy."
        ) from error


def networks_of(facts: Mapping[str, Any]) -> set[str]:
    """Networks that a set was matched, guided or chosen by, without their widths.

    `facts` are its provenance: `network` is what it was matched by, `classifier` what its method
    asked about images, `networks` are those of sets that it was chosen from.
    """
    settings, others = facts.get("settings"), facts.get("networks")
    guide = settings.get("influence") if isinstance(settings, Mapping) else None
    names = [
        facts.get("network"),
        facts.get("classifier"),
        *(others if isinstance(others, list) else ()),
    ]
    if isinstance(guide, Mapping) and guide.get("scale"):
        names.append(guide.get("network"))
    return {str(name).partition("@")[0] for name in names if name is not None}
