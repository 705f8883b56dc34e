"""Priors from a shipped name, a local folder or a Hub id, in diffusers layout."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiTTransformer2DModel,
    UNet2DConditionModel,
    VQModel,
)
from torch import Tensor

from latentdc import config
from latentdc.data.imagenet import imagenet_indices, wordnet_ids
from latentdc.errors import InputError
from latentdc.priors.autoencoder import Autoencoder, AutoencoderPrior
from latentdc.priors.base import Prior
from latentdc.priors.denoisers import ClassEmbedding, DiTDenoiser, UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.sampler import Skip

WEIGHTS = "diffusion_pytorch_model"
AUTOENCODERS = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "VQModel": VQModel,
}
CONFIGS = Path(__file__).with_name("configs")
PARTS = ("vae", "vqvae", "unet", "transformer", "class_embedding", "scheduler")


class WeightsMissing(InputError):
    """A prior of the Hub that is neither on this disk nor to be downloaded."""


def load_prior(
    kind: Literal["pixel", "autoencoder", "diffusion"],
    weights: str | None = None,
    *,
    resolution: int,
    revision: str | None = None,
    steps: int = 10,
    guidance: float = 3.0,
    skip: Skip = "x0",
    clamp: bool = True,
    memory: Literal["fast", "low"] = "fast",
    chunk: int = 10,
    device: torch.device | str = "cpu",
) -> Prior:
    """A frozen prior for images of `resolution` pixels.

    Args:
        kind: space to optimise in.
        weights: name of a shipped prior, folder or Hub id; not needed for `pixel`.
        resolution: of the data set.
        revision: branch, tag or commit of a Hub id.
        steps: denoising steps of a diffusion prior.
        guidance: its classifier-free guidance.
        skip: its residual.
        clamp: of the pixel prior.
        memory: how decoding trades memory for work.
        chunk: images per chunk when memory is `low`.
        device: where the weights go, in float32; `meta` builds the networks from their configs
            alone, those that are on this disk or travel with the package.

    Raises:
        WeightsMissing: a Hub id that cannot be downloaded, or with `meta` is not here yet.
        InputError: weights incomplete or of an unknown kind.
    """
    if kind == "pixel":
        return PixelPrior(resolution, clamp=clamp)
    if weights is None:
        raise InputError(f"a prior of kind {kind} needs weights: a shipped name, folder or Hub id.")
    outline = torch.device(device).type == "meta"
    known = _outline_folder(weights) if outline else None
    folder = known or prior_folder(weights, revision, local_only=outline)
    autoencoder = _load_autoencoder(folder, device)
    downsampling = _downsampling(autoencoder)
    if resolution % downsampling:
        raise InputError(
            f"the prior {weights} works in steps of {downsampling} pixels, got "
            f"data.resolution={resolution}; choose a multiple of {downsampling}."
        )
    identity = "outline" if outline else content_hash(folder)
    space = AutoencoderPrior(
        autoencoder,
        resolution=resolution,
        identity=identity,
        memory=memory if kind == "autoencoder" else "fast",
        chunk=chunk,
    )
    if kind == "autoencoder":
        return space
    denoiser, class_names = _load_denoiser(folder, device)
    return DiffusionPrior(
        space,
        denoiser,
        _load_scheduler(folder),
        class_names=class_names,
        steps=steps,
        guidance=guidance,
        skip=skip,
        memory=memory,
        chunk=chunk,
        identity=identity,
    )


def prior_folder(weights: str, revision: str | None = None, *, local_only: bool = False) -> Path:
    """The local folder of a prior; a Hub id is found in the Hub's cache, or else downloaded."""
    for folder in (Path(weights), config.shipped_folder("assets/priors") / weights):
        if (folder / "scheduler").is_dir() or (folder / "config.json").is_file():
            return folder
    if Path(weights).is_dir():
        raise InputError(
            f"{weights} is no prior in diffusers layout: it has neither a config.json nor the "
            f"folders {', '.join(PARTS)}."
        )
    if weights.count("/") != 1:
        shipped = sorted(p.name for p in config.shipped_folder("assets/priors").iterdir())
        raise InputError(f"no prior folder {weights}, and latentdc ships {shipped}.")
    from huggingface_hub import snapshot_download

    def download(*endings: str) -> Path:
        wanted = [f"{part}{end}" for part in ("", *(f"{p}/" for p in PARTS)) for end in endings]
        folder = snapshot_download(
            weights, revision=revision, allow_patterns=wanted, local_files_only=local_only
        )
        return Path(folder)

    try:
        folder = download("*.json", f"{WEIGHTS}.safetensors")
        if not any(folder.rglob("*.safetensors")):  # older repositories; read without running code
            folder = download("*.json", f"{WEIGHTS}.bin")
        return folder
    except Exception as error:  # the client raises many kinds; all mean that it is not there
        raise WeightsMissing(
            f"the prior {weights} is neither on this disk nor could it be downloaded "
            f"({type(error).__name__}). With a network: `hf download {weights}`; without: copy "
            "that folder here and pass its path as prior.weights."
        ) from error


def content_hash(folder: Path) -> str:
    """16 hex digits over all weight files and configs of a prior's parts."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if inside.parts[0] in (*PARTS, "config.json") or len(inside.parts) == 1:
            if path.suffix in (".safetensors", ".json") and path.name != "training.json":
                digest.update(str(inside).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _part(folder: Path, *names: str) -> Path:
    """The sub-folder of one component."""
    for name in names:
        if (folder / name / "config.json").is_file():
            return folder / name
    raise InputError(f"the prior {folder} lacks {' or '.join(names)}/config.json.")


def _config(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return loaded


def _load(component: Any, folder: Path, device: torch.device | str) -> Any:
    """A diffusers component in float32 from its own folder; on `meta`, its outline."""
    try:
        if torch.device(device).type == "meta":
            with torch.device("meta"):
                return component.from_config(component.load_config(folder))
        return component.from_pretrained(folder, torch_dtype=torch.float32).to(device)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"cannot load the prior's {folder}: {error}") from error


def _outline_folder(weights: str) -> Path | None:
    """Where the configs of a well-known prior travel with the package."""
    folder = CONFIGS / weights.replace("/", "--")
    return folder if folder.is_dir() else None


def _load_autoencoder(folder: Path, device: torch.device | str) -> Autoencoder:
    part = folder if (folder / "config.json").is_file() else _part(folder, "vae", "vqvae")
    name = _config(part).get("_class_name")
    if name not in AUTOENCODERS:
        raise InputError(f"{part} is a {name}; an autoencoder is one of {sorted(AUTOENCODERS)}.")
    return _load(AUTOENCODERS[name], part, device)


def _load_denoiser(
    folder: Path, device: torch.device | str
) -> tuple[UNetDenoiser | DiTDenoiser, tuple[str, ...] | None]:
    part = _part(folder, "unet", "transformer")
    name = _config(part).get("_class_name")
    if name == "UNet2DConditionModel":
        embedding = _load(ClassEmbedding, _part(folder, "class_embedding"), device)
        unet = _load(UNet2DConditionModel, part, device)
        return UNetDenoiser(unet, embedding), tuple(embedding.config["class_names"])
    if name in ("DiTTransformer2DModel", "Transformer2DModel"):
        transformer = _load(DiTTransformer2DModel, part, device)
        classes = _dit_classes(folder, transformer.config["num_embeds_ada_norm"])
        return DiTDenoiser(transformer), classes
    raise InputError(
        f"{part} is a {name}; a denoiser is a UNet2DConditionModel with a class_embedding, or a "
        "DiTTransformer2DModel."
    )


def _dit_classes(folder: Path, count: int) -> tuple[str, ...] | None:
    """Names by label from the pipeline's index; a prior of 1000 classes without is ImageNet's."""
    index = folder / "model_index.json"
    names = json.loads(index.read_text()).get("id2label") if index.is_file() else None
    if names:
        return tuple(names[key] for key in sorted(names, key=int))
    return wordnet_ids() if count == 1000 else None


def _load_scheduler(folder: Path) -> DDIMScheduler:
    """The training schedule, sampled deterministically without clipping, as LD3M does."""
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise InputError(f"the prior {folder} lacks scheduler/scheduler_config.json.")
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False)
    if scheduler.config.prediction_type == "sample":
        raise InputError(f"the prior {folder} predicts samples; epsilon or v_prediction is needed.")
    return scheduler


def _downsampling(autoencoder: Autoencoder) -> int:
    """Pixels per latent position, along one side."""
    widths = autoencoder.config.get("encoder_block_out_channels")
    return 2 ** (len(widths or autoencoder.config["block_out_channels"]) - 1)


def match_classes(names: tuple[str, ...], prior: Prior) -> Tensor:
    """(C,) labels of the prior for the classes of a data set, matched by name or WordNet id.

    Raises:
        InputError: a class that the prior does not know.
    """
    if prior.class_names is None:
        return torch.arange(len(names))
    if len(prior.class_names) == 1000 and not set(names) <= set(prior.class_names):
        return torch.tensor(imagenet_indices(names))
    place = {name: index for index, name in enumerate(prior.class_names)}
    missing = [name for name in names if name not in place]
    if missing:
        raise InputError(
            f"the prior knows {len(place)} classes ({', '.join(list(place)[:5])}, ...), but not "
            f"{missing[:5]} of the data set; use a prior trained on these classes, or "
            "prior.kind=autoencoder, which has none."
        )
    return torch.tensor([place[name] for name in names])
