"""Where a prior lies in diffusers layout: under a shipped name, in a local folder or on the Hub."""

import hashlib
import json
from pathlib import Path
from typing import Any

from latentdc import config
from latentdc.errors import InputError

CONFIGS = Path(__file__).with_name("configs")
NETWORKS = ("vae", "vqvae", "unet", "transformer", "class_embedding")
ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")
PARTS = (*NETWORKS, *ENCODERS, *TOKENIZERS, "scheduler")
YAMLS = {"cin256": "cin256-v2.yaml", "ffhq": "ffhq-ldm-vq-4.yaml"}  # of LD3M's own priors
VARIANTS = (".safetensors", ".fp16.safetensors", ".bin")  # of weights, the best first


class WeightsMissing(InputError):
    """A prior of the Hub that is neither on this disk nor to be downloaded."""


def prior_folder(weights: str, revision: str | None = None, *, local_only: bool = False) -> Path:
    """The local folder of a prior; a Hub id is found in the Hub's cache, or else downloaded.

    Raises:
        WeightsMissing: a Hub id that cannot be downloaded, or with `local_only` is not here yet.
        InputError: a file, a folder of something else, or a name that is not shipped.
    """
    path = Path(weights).expanduser()
    for folder in (path, config.shipped_folder("assets/priors") / weights):
        if (folder / "config.json").is_file() or any((folder / part).is_dir() for part in PARTS):
            return folder
    if path.is_file():
        raise InputError(
            f"the prior {weights} is a file, and a prior is a folder in diffusers layout; "
            "`latentdc convert-prior` makes one of a CompVis checkpoint and its YAML."
        )
    if path.is_dir():
        raise InputError(
            f"{weights} is no prior in diffusers layout: it has neither a config.json nor the "
            f"folders {', '.join(PARTS)}."
        )
    if weights.count("/") != 1:
        if weights in YAMLS:
            raise InputError(
                f"there is no folder {weights}: this prior of LD3M is to be converted once from "
                "its published checkpoint, with `latentdc convert-prior model.ckpt --config "
                f"{YAMLS[weights]} {weights}` (docs/priors.md says where both are); or take "
                "another one, such as prior.weights=facebook/DiT-XL-2-256."
            )
        shipped = sorted(p.name for p in config.shipped_folder("assets/priors").iterdir())
        raise InputError(f"no prior folder {weights}, and latentdc ships {shipped}.")
    return _from_hub(weights, revision, local_only=local_only)


def _from_hub(weights: str, revision: str | None, *, local_only: bool) -> Path:
    """Each network once: in float32 where there is that, and safe to read where there is that."""
    from huggingface_hub import snapshot_download

    def download(*wanted: str) -> Path:
        folder = snapshot_download(
            weights, revision=revision, allow_patterns=list(wanted), local_files_only=local_only
        )
        return Path(folder)

    try:
        words = [f"{part}/merges.txt" for part in TOKENIZERS]
        configs = [f"{part}/*.json" for part in PARTS]
        folder = download("config.json", "model_index.json", *configs, *words)
        for variant in VARIANTS:
            needed = [weights_name(part) for part in _networks(folder) if not weights_file(part)]
            if needed:
                folder = download(*(f"{name.relative_to(folder)}{variant}" for name in needed))
        return folder
    except Exception as error:  # the client raises many kinds; all mean that it is not there
        raise WeightsMissing(
            f"the prior {weights} is neither on this disk nor could it be downloaded "
            f"({type(error).__name__}). With a network: `hf download {weights}`; without: copy "
            "that folder here and pass its path as prior.weights."
        ) from error


def _networks(folder: Path) -> list[Path]:
    """Those folders, it or in it, that the config of a network lies in."""
    parts = [folder, *(folder / name for name in (*NETWORKS, *ENCODERS))]
    return [part for part in parts if (part / "config.json").is_file()]


def weights_name(part: Path) -> Path:
    """Path of a network's weights up to their variant: transformers and diffusers name them so."""
    return part / ("model" if part.name in ENCODERS else "diffusion_pytorch_model")


def weights_file(part: Path) -> Path | None:
    """The file with a network's weights; the first of `VARIANTS` where there are several."""
    name = weights_name(part)
    files = [name.with_name(name.name + variant) for variant in VARIANTS]
    return next((file for file in files if file.is_file()), None)


def outline_folder(weights: str) -> Path | None:
    """Where the configs of a well-known prior travel with the package."""
    folder = CONFIGS / weights.replace("/", "--")
    return folder if folder.is_dir() else None


def content_hash(folder: Path) -> str:
    """16 hex digits over all weight files that are used, and the configs of a prior's parts."""
    used = {weights_file(part) for part in _networks(folder)}
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if inside.parts[0] in (*PARTS, "config.json") or len(inside.parts) == 1:
            text = path.suffix == ".json" or path.name == "merges.txt"
            if (text and path.name != "training.json") or path in used:
                digest.update(str(inside).encode())
                _feed(digest, path)
    return digest.hexdigest()[:16]


def _feed(digest: "hashlib._Hash", path: Path, block: int = 2**24) -> None:
    with path.open("rb") as file:
        while content := file.read(block):
            digest.update(content)


def find_part(folder: Path, *names: str) -> Path:
    """The sub-folder of one component, which may have one of several names.

    Raises:
        InputError: none of them holds a config.json.
    """
    for name in names:
        if (folder / name / "config.json").is_file():
            return folder / name
    raise InputError(f"the prior {folder} lacks {' or '.join(names)}/config.json.")


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a component; raises as `read_json`."""
    return read_json(folder / "config.json")


def read_json(path: Path) -> dict[str, Any]:
    """What a file of a prior's folder says.

    Raises:
        InputError: it is cut off, or something else.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the prior's {path}: {error}; fetch it again.") from error
    if not isinstance(loaded, dict):
        raise InputError(f"the prior's {path} holds a {type(loaded).__name__}, not keys; fetch it.")
    return loaded
