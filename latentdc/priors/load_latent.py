"""Autoencoders and latent diffusion models by name, folder or Hub id: loaded and put together.

Configs of diffusers have more keys than anyone can list, and weights can be spoiled: what is known
to go wrong is refused, and then each network is tried by one small call, before hours are spent.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from torch import Tensor, nn

from latentdc.arguments import require_able
from latentdc.errors import InputError
from latentdc.priors import files
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Autoencoder, LoadRequest, PrecisionName
from latentdc.priors.components import as_input_error, load_component
from latentdc.priors.denoisers import Config, plan_denoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import fixed_plan
from latentdc.priors.schedule import load_scheduler, make_schedule
from latentdc.ranks import warn
from latentdc.recipe import PriorSettings
from latentdc.recipe.own import call, is_own, resolve

_AUTOENCODERS = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "VQModel": VQModel,
}
_SIDE = 2  # positions of the latent that networks are tried with, along one side


def load_autoencoder_prior(settings: PriorSettings, request: LoadRequest) -> AutoencoderPrior:
    """The space of an autoencoder; see `load_prior`."""
    with _opened(settings, request) as (weights, folder):
        return _load_space(
            weights, folder, settings, request, lambda part: files.content_hash(folder, [part])
        )


def load_diffusion_prior(settings: PriorSettings, request: LoadRequest) -> DiffusionPrior:
    """A latent diffusion model; its configs and its schedule are judged before weights are read."""
    drawn = int(request.seed) if settings.denoiser == "random" else None
    with _opened(settings, request) as (weights, folder):
        autoencoder = settings.autoencoder or weights
        space_folder = folder if settings.autoencoder is None else _folder(autoencoder, request)
        plan = plan_denoiser(folder, settings)
        schedule = make_schedule(load_scheduler(folder), settings.steps, settings.flow)
        space = _load_space(
            autoencoder,
            space_folder,
            settings,
            replace(request, precision="float32") if plan.float32 else request,
            lambda part: _identity(folder, plan.parts, space_folder, part, drawn),
        )
        with as_input_error(f"the denoiser of {weights} does not run as its config says"):
            _check_denoiser(weights, plan.config, space)
        denoiser, names = plan.load(space, drawn, request.class_names)
        prior = DiffusionPrior(
            space, denoiser, schedule, settings, class_names=names, precision=request.precision
        )
        if not request.is_outline:
            _try_denoiser(weights, prior)
        tune(denoiser.network, settings, space.device, request.precision)
        return prior


@contextmanager
def _opened(settings: PriorSettings, request: LoadRequest) -> Iterator[tuple[str, Path]]:
    """What the weights are called, and their folder; of a pipeline in memory a temporary one."""
    weights = settings.weights
    assert weights is not None
    if not is_own(weights):
        yield weights, _folder(weights, request, settings.revision)
        return
    pipeline = resolve(weights, "prior.weights")
    if not hasattr(pipeline, "save_pretrained") or isinstance(pipeline, type):
        pipeline = call(pipeline, "prior.weights", weights)
    label = f"prior.weights={weights.partition('#')[0]}"
    require_able("save_pretrained", pipeline, label, "a pipeline or autoencoder of diffusers")
    with TemporaryDirectory() as saved:
        pipeline.save_pretrained(saved)
        yield saved, files.prior_folder(saved)


def _folder(weights: str, request: LoadRequest, revision: str | None = None) -> Path:
    """Where a name's files are; of an outline perhaps the configs that travel with the package."""
    shipped = files.CONFIGS / weights.replace("/", "--")
    if request.is_outline and shipped.is_dir():
        return shipped
    return files.prior_folder(weights, revision, local_only=request.is_outline)


def _load_space(
    weights: str,
    folder: Path,
    settings: PriorSettings,
    request: LoadRequest,
    identity: Callable[[Path], str],
) -> AutoencoderPrior:
    """The space of the autoencoder in a folder.

    `identity` makes hex digits of all files that a prior is read from, the autoencoder's part of
    the folder being given.
    """
    part = files.autoencoder_part(folder)
    model = _load_autoencoder(part, request.device)
    _require_multiple(weights, request.resolution, _downsampling(model))
    space = AutoencoderPrior(
        model,
        resolution=request.resolution,
        identity="outline" if request.is_outline else identity(part),
        plan=fixed_plan(settings.memory, settings.chunk),
        precision=request.precision,
    )
    if not request.is_outline:
        _try_autoencoder(weights, space)
    tune(model.decoder, settings, space.device, space.precision)
    return space


def _load_autoencoder(part: Path, device: torch.device | str) -> Autoencoder:
    """The autoencoder in a folder of its own.

    Raises:
        InputError: missing, incomplete or of another class.
    """
    config = files.read_config(part)
    name = config.get("_class_name")
    if name not in _AUTOENCODERS:
        raise InputError(f"{part} is a {name}; an autoencoder is one of {sorted(_AUTOENCODERS)}.")
    channels = {config.get(key, 3) for key in ("in_channels", "out_channels")}
    if channels not in ({1}, {3}):
        raise InputError(
            f"the autoencoder {part} is of images with {' and '.join(map(str, sorted(channels)))} "
            "channels; latentdc has images of 3, and grey ones of 1."
        )
    return load_component(_AUTOENCODERS[name], part, device)


def _identity(folder: Path, parts: Sequence[Path], space: Path, own: Path, seed: int | None) -> str:
    """Hex digits of all files that are read, and of the seed that weights are drawn from.

    `parts` of `folder` are the denoiser's, its network first; `own` is the autoencoder's, in
    `space`.
    """
    inside = [*parts, folder / "scheduler", *([own] if space == folder else [])]
    identity = files.content_hash(folder, inside, drawn=[] if seed is None else [parts[0]])
    if space != folder:
        identity = f"{identity}, autoencoder {files.content_hash(space, [own])}"
    return identity if seed is None else f"{identity}, denoiser random from {seed}"


def tune(
    network: nn.Module, settings: PriorSettings, device: torch.device, precision: PrecisionName
) -> None:
    """Change how a network runs, in place; what it computes stays the same but for rounding.

    `precision` is that of the autocast that it will run under. An outline is not compiled.
    """
    compile = settings.compile and device.type != "meta"
    if compile:
        _require_compiler(device)
    if precision == "bf16":
        keep_in_bf16(network)
    if settings.channels_last:
        network.to(memory_format=torch.channels_last)
    if compile:
        network.compile(dynamic=False)  # one image is measured, many are decoded


def keep_in_bf16(network: nn.Module) -> None:
    """Store the weights of linear layers and convolutions as autocast would cast them.

    Autocast remembers its casts of trainable weights alone; frozen ones it casts again at every
    call, and a graph keeps each of these copies. Stored in bf16 they are cast once, and the
    results are the same bits. Norms and embeddings stay in float32.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.to(torch.bfloat16)


def _require_compiler(device: torch.device) -> None:
    """Compile something small, which needs all that compiling something large does."""
    probe = torch.compile(lambda x: (x + 1).sin())
    try:
        with warnings.catch_warnings(action="ignore"):
            probe(torch.ones(8, device=device))
    except Exception as error:  # the compiler's own, of many kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"prior.compile: torch.compile does not work on this machine's {device.type} "
            f"({reason[0]}); install the C++ compiler that it needs, or leave prior.compile out."
        ) from error


# ---- What of configs and weights is refused ----


def _downsampling(autoencoder: Autoencoder) -> int:
    """Pixels per position of a latent, along one side."""
    widths = autoencoder.config.get("encoder_block_out_channels")
    return int(2 ** (len(widths or autoencoder.config["block_out_channels"]) - 1))


def _require_multiple(weights: str, resolution: int, step: int) -> None:
    """Refuse a resolution that the networks' halvings or patches (`step` pixels) do not divide."""
    if resolution % step:
        raise InputError(
            f"the prior {weights} works in steps of {step} pixels, got "
            f"data.resolution={resolution}; choose a multiple of {step}."
        )


def _check_denoiser(weights: str, denoiser: Config, space: AutoencoderPrior) -> None:
    """Refuse latents that a denoiser cannot take; warn of a size that it was not made for."""
    channels, size, _ = space.latent_shape
    factor = _downsampling(space.autoencoder)
    takes = denoiser.get("in_channels")
    makes = denoiser.get("out_channels") or takes
    if takes != channels or makes not in (takes, 2 * takes):  # twice as many: a learned sigma
        raise InputError(
            f"the denoiser of {weights} takes {takes} channels and predicts {makes}, of latents of "
            f"{channels}; take an autoencoder of the same family, and no denoiser that wants a "
            "mask or an image beside the latents, as for inpainting."
        )
    widths = denoiser.get("block_out_channels")
    step = 2 ** (len(widths) - 1) if widths else denoiser.get("patch_size") or 1
    _require_multiple(weights, factor * size, factor * step)
    own = denoiser.get("sample_size")
    side = max(own) if isinstance(own, list) else own
    if side not in (None, size):
        warn(
            f"the prior {weights} was made for images of {factor * side} pixels and runs at "
            f"{factor * size}; look at its images before trusting it."
        )


@torch.no_grad()
def _try_autoencoder(weights: str, space: AutoencoderPrior) -> None:
    """Encode and decode a small grey image."""
    what, side = f"the autoencoder of {weights}", _SIDE * _downsampling(space.autoencoder)
    with as_input_error(f"{what} does not run as its config says"):
        z = space.encode_chunk(torch.zeros(1, 3, side, side, device=space.device))
        images = space.decode_chunk(torch.zeros_like(z))
    if images.shape != (1, 3, side, side):
        raise InputError(
            f"{what} takes images of {side} pixels and makes {tuple(images.shape[2:])} of them; "
            "take one whose encoder and decoder have as many levels."
        )
    _require_finite(what, z, images)


@torch.no_grad()
def _try_denoiser(weights: str, prior: DiffusionPrior) -> None:
    """Predict once, at the noisiest timestep."""
    what = f"the denoiser of {weights}"
    with as_input_error(f"{what} does not run as its config says"):
        x = torch.zeros(1, *prior.latent_shape, device=prior.device)
        c = prior.condition(torch.zeros(1, dtype=torch.int64, device=prior.device))
        prediction = prior.predict(x, prior.schedule.timesteps[0], prior.context(c))
    _require_finite(what, prediction.guided)


def _require_finite(what: str, *results: Tensor) -> None:
    if not all(result.isfinite().all() for result in results):
        raise InputError(
            f"{what} makes numbers that are not finite of zeros: its weights are damaged; fetch "
            "them again."
        )
