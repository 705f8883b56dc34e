"""Where a prior lies in diffusers layout: under a shipped name, in a local folder or on the Hub."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latentdc import config, io
from latentdc.arguments import refuse_broken_link
from latentdc.errors import InputError

CONFIGS = Path(__file__).with_name("configs")  # of well-known priors, for outlines of them
_AUTOENCODERS = ("vae", "vqvae")
_NETWORKS = (*_AUTOENCODERS, "unet", "transformer", "class_embedding")
ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")
PARTS = (*_NETWORKS, *ENCODERS, *TOKENIZERS, "scheduler")
_YAMLS = {"cin256": "cin256-v2.yaml", "ffhq": "ffhq-ldm-vq-4.yaml"}  # of LD3M's own priors
_VARIANTS = ("", ".fp32", ".ema", ".fp16", ".bf16")  # of weights, and ".non_ema" after all others
_FORMATS = (".safetensors", ".bin")
_POINTER = b"version https://git-lfs"
_PREFIX = "latentdc-weights-"
SHOWN_FOLDER = rf"\S*{_PREFIX}\w+"  # how an error calls a folder of `chosen_weights`


@dataclass(frozen=True)
class WeightFiles:
    """One of the forms in which the weights of a network may lie in its folder."""

    folder: Path
    variant: str  # part of the files' names, such as `.fp16`
    suffix: str  # of `_FORMATS`
    sharded: bool  # in several files, which an index names

    @property
    def name(self) -> str:
        """What the files' names begin with in diffusers, in transformers and in its pickles."""
        if self.folder.name not in ENCODERS:
            return "diffusion_pytorch_model"
        return "pytorch_model" if self.suffix == ".bin" else "model"

    @property
    def index(self) -> Path:
        """File that lists the shards."""
        return self.folder / f"{self.name}{self.suffix}.index{self.variant}.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold the tensors, there or not."""
        if not self.sharded:
            return (self.folder / f"{self.name}{self.variant}{self.suffix}",)
        named = read_json(self.index).get("weight_map")
        names = sorted({*map(str, named.values())}) if isinstance(named, dict) else []
        if not names or any(Path(name).name != name for name in names):
            raise InputError(
                f"{self.index} names no shards of the folder that it lies in; fetch it again."
            )
        return tuple(self.folder / name for name in names)

    @property
    def missing(self) -> list[str]:
        """Names of the files that are not there."""
        return [file.name for file in self.files if not file.is_file()]


class WeightsMissing(InputError):
    """A prior of the Hub that is neither on this disk nor to be downloaded."""


def prior_folder(weights: str, revision: str | None = None, *, local_only: bool = False) -> Path:
    """The local folder of a prior; a Hub id is found in the Hub's cache, or else downloaded.

    Raises:
        WeightsMissing: a Hub id that cannot be downloaded, or with `local_only` is not here yet.
        InputError: a file, a folder of something else, or a name that is not shipped.
    """
    path = Path(weights).expanduser()
    io.put_back(path)
    for folder in (path, config.shipped_folder("assets/priors") / weights):
        if (folder / "config.json").is_file() or any((folder / part).is_dir() for part in PARTS):
            return folder
    if path.is_file():
        raise InputError(
            f"the prior {weights} is a file, and a prior is a folder in diffusers layout; "
            "`latentdc convert-prior` makes one of a CompVis checkpoint and its YAML."
        )
    if (path / "prior").is_dir():
        raise InputError(
            f"{weights} is the run folder of a prior, which lies in it; name {path / 'prior'}."
        )
    if path.is_dir():
        raise InputError(
            f"{weights} is no prior in diffusers layout: it has neither a config.json nor the "
            f"folders {', '.join(PARTS)}."
        )
    refuse_broken_link(path, f"the prior {weights}")
    if weights.count("/") != 1:
        if weights in _YAMLS:
            raise InputError(
                f"there is no folder {weights}: this prior of LD3M is to be converted once from "
                "its published checkpoint, with `latentdc convert-prior model.ckpt --config "
                f"{_YAMLS[weights]} {weights}` (docs/priors.md says where both are); or take "
                "another one, such as prior.weights=facebook/DiT-XL-2-256."
            )
        shipped = sorted(p.name for p in config.shipped_folder("assets/priors").iterdir())
        raise InputError(f"no prior folder {weights}, and latentdc ships {shipped}.")
    return _from_hub(weights, revision, local_only=local_only)


def _from_hub(weights: str, revision: str | None, *, local_only: bool) -> Path:
    """Folder of a Hub repo's files: each network once, in the first of its forms that is there."""
    from huggingface_hub import snapshot_download

    def download(*wanted: str) -> Path:
        folder = snapshot_download(
            weights, revision=revision, allow_patterns=list(wanted), local_files_only=local_only
        )
        return Path(folder)

    try:
        words = [f"{part}/merges.txt" for part in TOKENIZERS]
        configs = [f"{part}/*.json" for part in PARTS]
        indices = "diffusion_pytorch_model.*.index*.json"
        folder = download("config.json", indices, "model_index.json", *configs, *words)
        forms = [_weight_forms(part) for part in _networks(folder)]
        while forms := [some for some in forms if some]:
            wanted = [file for some in forms for file in some[0].files]
            folder = download(*(file.relative_to(folder).as_posix() for file in wanted))
            forms = [some[1:] if some[0].missing else [] for some in forms]
        return folder
    except InputError:
        raise
    except Exception as error:  # the client raises many kinds; all mean that it is not there
        raise WeightsMissing(
            f"the prior {weights} is neither on this disk nor could it be downloaded "
            f"({type(error).__name__}). With a network: `hf download {weights}`; without: copy "
            "that folder here and pass its path as prior.weights."
        ) from error


def _networks(folder: Path) -> list[Path]:
    """Folders inside that hold the config of a network; else it is an autoencoder's own folder."""
    parts = [folder / name for name in (*_NETWORKS, *ENCODERS)]
    return [part for part in parts if (part / "config.json").is_file()] or [folder]


def _weight_forms(part: Path) -> list[WeightFiles]:
    """Forms that a network's weights may have, the best first; shards where there is an index.

    Averaged before not averaged, safe to read before pickled, in full precision before half.
    """
    forms = [
        WeightFiles(part, variant, suffix, sharded)
        for variants in (_VARIANTS, (".non_ema",))
        for suffix in _FORMATS
        for variant in variants
        for sharded in (False, True)
    ]
    return [form for form in forms if not form.sharded or form.index.is_file()]


def find_weights(part: Path) -> WeightFiles:
    """The form in which a network's weights are read: the first that is there.

    Raises:
        InputError: none, some shards alone, or what Git leaves in place of large files.
    """
    forms = _weight_forms(part)
    here = [form for form in forms if len(form.missing) < len(form.files)]
    chosen = next(iter(here or [form for form in forms if form.sharded]), None)
    if chosen is None:
        known = [form.files[0].name for form in forms]
        raise InputError(
            f"cannot load the prior's {part}: it has no weights; they are {known[0]}, alone or in "
            f"shards with their index, or {', '.join(known[1:])}."
        )
    if chosen.missing:
        raise InputError(
            f"cannot load the prior's {part}: {len(chosen.missing)} of the {len(chosen.files)} "
            f"shards in {chosen.index.name} are not there ({', '.join(chosen.missing[:3])}); fetch "
            "them again."
        )
    for file in chosen.files:
        with file.open("rb") as content:
            if content.read(len(_POINTER)) == _POINTER:
                raise InputError(
                    f"{file} is a pointer of Git LFS and not the weights; run `git lfs pull` there."
                )
    return chosen


@contextmanager
def chosen_weights(part: Path) -> Iterator[tuple[Path, WeightFiles]]:
    """A folder that shows a loader a network's config and its chosen weights, and nothing else.

    So that what is read is what `content_hash` sees, whatever variants, adapters or other names
    lie beside it.

    Yields:
        The folder, and what the form is of its weights.
    """
    form = find_weights(part)
    with TemporaryDirectory(prefix=_PREFIX) as place:
        shown = {"config.json": part / "config.json"}
        if form.sharded:
            shown[f"{form.name}{form.suffix}.index.json"] = form.index
            shown |= {file.name: file for file in form.files}
        else:
            shown[f"{form.name}{form.suffix}"] = form.files[0]
        for name, file in shown.items():
            os.symlink(file.resolve(), Path(place) / name)
        yield Path(place), form


def content_hash(folder: Path, parts: Collection[Path], *, drawn: Collection[Path] = ()) -> str:
    """16 hex digits over all files that decide what a prior computes, by their place in its folder.

    `parts` are the folders that are read, but for the weights of those that are `drawn`.
    """
    files = [folder / "model_index.json"] if [*parts] != [folder] else []
    for part in parts:
        files += _part_files(part, weights=part not in drawn)
    return io.fingerprint(
        {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}
    )


def _part_files(part: Path, *, weights: bool = True) -> list[Path]:
    """What is read of a part of a prior; of a network its config and one form of its weights."""
    if part.name in TOKENIZERS:
        return [*part.glob("*.json"), part / "merges.txt"]
    if part.name == "scheduler":
        return [part / "scheduler_config.json"]
    files = [part / "config.json"]
    if weights:
        form = find_weights(part)
        files += [form.index, *form.files] if form.sharded else form.files
    return files


def autoencoder_part(folder: Path) -> Path:
    """Where the autoencoder of a prior lies, or `folder` itself if it is an autoencoder's own."""
    inside = any((folder / name / "config.json").is_file() for name in _NETWORKS)
    alone = (folder / "config.json").is_file() and not inside
    if not alone and not any((folder / name / "config.json").is_file() for name in _AUTOENCODERS):
        raise InputError(
            f"the prior {folder} has no autoencoder: it lacks {' or '.join(_AUTOENCODERS)}"
            "/config.json. One that denoises pixels has none, and is no prior of latents; for "
            "latents give one as prior.autoencoder."
        )
    return folder if alone else find_part(folder, *_AUTOENCODERS)


def find_part(folder: Path, *names: str) -> Path:
    """The sub-folder of one component, which may have one of several names."""
    for name in names:
        if (folder / name / "config.json").is_file():
            return folder / name
    raise InputError(f"the prior {folder} lacks {' or '.join(names)}/config.json.")


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a component."""
    return read_json(folder / "config.json")


def read_index(folder: Path) -> dict[str, Any]:
    """The model_index.json of a prior; empty where there is none."""
    path = folder / "model_index.json"
    return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a prior's folder says."""
    try:
        loaded = io.read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the prior's {path}: {error}; fetch it again.") from error
    if not isinstance(loaded, dict):
        raise InputError(f"the prior's {path} holds a {type(loaded).__name__}, not keys; fetch it.")
    return loaded
