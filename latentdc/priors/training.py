"""An autoencoder first, then a class-conditional UNet on its latents; or a trained one further.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022,
https://arxiv.org/abs/2112.10752. Both see the training split alone; the autoencoder has no
adversarial loss, the kept weights are exponential moving averages.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.optim import AdamW

from latentdc import config, draws, io, pictures, ranks, run_folder, runtime, tracking
from latentdc.augment.geometry import mirror
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.errors import InputError, RunError
from latentdc.estimates import parameters
from latentdc.images import Images, contiguous, from_uint8, to_uint8
from latentdc.modes import in_plain_modes
from latentdc.priors import small
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.card import prior_card
from latentdc.priors.classes import match_classes
from latentdc.priors.denoisers import ClassEmbedding, UNetDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.files import prior_folder
from latentdc.priors.load import load_prior
from latentdc.priors.schedule import load_scheduler
from latentdc.published import published, without_paths
from latentdc.recipe import PriorSettings
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, Terms, UNetTraining
from latentdc.training import (
    OnStep,
    fit,
    load_training_state,
    moving_average,
    read_training_state,
    training_state,
)

_RECORD_EVERY = 10  # steps
PER_CLASS = 8  # images of each class in the sample grid
GRID_STEPS = 50
GRID_GUIDANCE = 2.0


@dataclass(frozen=True)
class Training:
    """What became of one network's training: its steps, and the seconds that they took."""

    steps: int
    seconds: float


@in_plain_modes
def train_prior(
    recipe: PriorRecipe, name: str, folder: Path, command: str, on_step: OnStep | None = None
) -> None:
    """Train, or continue to train, and write the finished prior to `folder/prior`.

    Args:
        recipe: what to train, and on what.
        name: of the prior, for its card.
        folder: of the states that a training goes on from, of the prior, and of `metrics.jsonl`,
            which has the mean loss, learning rate and seconds of each ten steps.
        command: that repeats it, for its card.
        on_step: is told `network` (`autoencoder` or `unet`), `step` and `loss` of each step.

    Raises:
        InputError: data, a prior to start from or a state that cannot be used.
        RunError: the loss is no longer finite.
    """
    accelerator = runtime.start(threads=recipe.threads, trackers=recipe.trackers, folder=folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test = open_splits(recipe.data)
    start, labels = None, train.labels
    if recipe.start is None:
        with draws.global_draws(recipe.seed, "autoencoder"):
            autoencoder = small.build_autoencoder(recipe.autoencoder, recipe.data.resolution).to(
                device
            )
    else:
        start = starting_prior(recipe, device)
        autoencoder = start.autoencoder.autoencoder
        advice = "go on from a prior of these classes, or train one anew, without --from"
        labels = match_classes(train.class_names, start, advice)[labels]
    states = folder / "checkpoints"
    inputs = {"training split": train.hash, **({} if start is None else {"start": start.identity})}
    for network in ("autoencoder", "unet"):  # before the folder names this run's data
        read_training_state(states / f"{network}.safetensors", inputs)
    config.claim(
        recipe,
        folder,
        begun=states.exists() or (folder / "prior").exists(),
        may_change=[
            *("threads", "checkpoint_every", "licence", "data.source", "data.cache"),
            "trackers",
        ],
    )
    record = tracking.StepFile(folder / run_folder.METRICS, accelerator)
    tracking.start_trackers(accelerator, config.to_yaml(_shared(recipe)), name, folder)
    if start is None:
        tell = tracking.Tell("autoencoder_loss", on_step, record)
        first = _train_autoencoder(recipe, train, autoencoder, states, inputs, tell)
        inputs |= {"autoencoder": io.fingerprint(autoencoder.state_dict())}
        latents = _encode(recipe, train, lambda x: autoencoder.encode(x).latent_dist.mode(), device)
        latents = standardise(latents, autoencoder)
        space = (latents.shape[1], latents.shape[2], latents.shape[3])
        with draws.global_draws(recipe.seed, "unet"):
            unet, embedding = small.build_unet(recipe.unet, space, train.class_names)
        scheduler = small.build_scheduler()
    else:
        assert isinstance(start.denoiser, UNetDenoiser) and recipe.start is not None
        first = Training(0, 0.0)
        latents = _encode(recipe, train, start.encode, device)
        unet, embedding = start.denoiser.network, start.denoiser.embedding
        unet.register_to_config(sample_size=latents.shape[-1])  # that it is made for from now on
        scheduler = load_scheduler(prior_folder(recipe.start))
    labels = labels.repeat(len(latents) // len(train)).to(device)
    pair = nn.ModuleDict({"unet": unet, "embedding": embedding}).to(device).requires_grad_(True)
    path = states / "unet.safetensors"
    tell = tracking.Tell("unet_loss", on_step, record, ahead=first.steps)
    second = train_unet(recipe, latents, labels, pair, scheduler, path, tell, inputs)
    with io.writing(folder / "prior") as part:
        networks = {"vae": autoencoder, "unet": unet, "class_embedding": embedding}
        _write_parts(part, networks, scheduler)
        identity = None if start is None else start.identity
        document_prior(recipe, name, part, test, device, [first, second], command, identity)
    tracking.end_trackers(accelerator)
    print(f"prior: {folder / 'prior'}")


def _write_parts(folder: Path, networks: Mapping[str, Any], scheduler: DDIMScheduler) -> None:
    """Write a prior's networks, in half precision, and its scheduler, without paths of here."""
    folder.mkdir()
    scheduler.save_pretrained(folder / "scheduler")
    for name, network in networks.items():
        network.half().save_pretrained(folder / name)
        written = folder / name / "config.json"
        facts = io.read_json(written)
        facts.pop("_name_or_path", None)  # where diffusers read it
        io.write_json(written, facts)


def starting_prior(recipe: PriorRecipe, device: torch.device) -> DiffusionPrior:
    """The prior to fine-tune, in whole; one of another kind than those made here is refused."""
    settings = PriorSettings(weights=recipe.start, guidance=1.0, memory="fast")
    prior = load_prior(settings, resolution=recipe.data.resolution, device=device)
    assert isinstance(prior, DiffusionPrior)
    if not isinstance(prior.denoiser, UNetDenoiser) or prior.schedule.is_flow:
        kind = "flow" if prior.schedule.is_flow else type(prior.denoiser.network).__name__
        raise InputError(
            f"start={recipe.start} is a {kind}; fine-tuned is a UNet2DConditionModel with a "
            "class_embedding that predicts noise or v, as train-prior and convert-prior make."
        )
    return prior


def _train_autoencoder(
    recipe: PriorRecipe,
    train: Dataset,
    autoencoder: AutoencoderKL,
    states: Path,
    inputs: Mapping[str, str],
    tell: tracking.Tell,
) -> Training:
    settings, device = recipe.autoencoder, autoencoder.device
    size = recipe.data.resolution // 2 ** (len(settings.channels) - 1)

    def loss(step: int) -> Tensor:
        source = draws.generator(recipe.seed, "autoencoder", step)
        chosen = torch.randint(len(train), (settings.batch,), generator=source)
        images = from_uint8(train.images[chosen].to(device))
        if recipe.flip:
            mirrored = (torch.rand(len(chosen), generator=source) < 0.5).to(device)
            images = mirror(images, mirrored)
        shape = (len(images), settings.latent_channels, size, size)
        noise = torch.randn(shape, generator=draws.generator(recipe.seed, "posterior", step))
        return small.autoencoder_loss(
            autoencoder, images, noise.to(device), kl=settings.kl, edges=settings.edges
        )

    return train_network(
        autoencoder,
        loss,
        settings,
        states / "autoencoder.safetensors",
        every=recipe.checkpoint_every,
        title="autoencoder",
        inputs=inputs,
        tell=tell,
    )


def standardise(latents: Tensor, autoencoder: AutoencoderKL) -> Tensor:
    """All latents at mean 0 and deviation 1, by a shift and a scale that the autoencoder keeps."""
    shift, scale = float(latents.mean()), 1 / float(latents.std())
    autoencoder.register_to_config(scaling_factor=scale, shift_factor=shift)
    return (latents - shift) * scale


@torch.no_grad()
def _encode(
    recipe: PriorRecipe,
    train: Dataset,
    encode: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Tensor:
    """Latents of all training images, and of their mirror images if these are drawn."""
    parts = []
    for mirrored in (False, True) if recipe.flip else (False,):
        for chosen in torch.arange(len(train)).split(500):
            images = from_uint8(train.images[chosen].to(device))
            images = images.flip(-1) if mirrored else images
            parts.append(encode(contiguous(images)))
    return torch.cat(parts)


def train_unet(
    recipe: PriorRecipe,
    latents: Tensor,
    labels: Tensor,
    pair: nn.ModuleDict,
    scheduler: DDIMScheduler,
    path: Path,
    tell: tracking.Tell | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Training:
    """Train, or train on, a pair's `unet` and `embedding` on standardised latents (N, ...).

    The state at `path` is one of the same `inputs`, see `train_network`.
    """
    settings, device = recipe.unet, latents.device
    unet, embedding = pair["unet"], pair["embedding"]
    assert isinstance(unet, UNet2DConditionModel) and isinstance(embedding, ClassEmbedding)
    null, count = len(embedding.config["class_names"]), len(scheduler.alphas_cumprod)
    terms, classes, memory = settings.terms, labels.unique(), None
    adds = terms != Terms(memory=terms.memory)
    if terms.representativeness or terms.diversity:
        memory = small.ClassMemory(len(classes), terms.memory, latents[0].numel()).to(device)

    def loss(step: int) -> Tensor:
        source = draws.generator(recipe.seed, "unet", step)
        chosen = torch.randint(len(latents), (settings.batch,), generator=source).to(device)
        noise = torch.randn((settings.batch, *latents.shape[1:]), generator=source).to(device)
        timesteps = torch.randint(count, (settings.batch,), generator=source).to(device)
        dropped = torch.rand(settings.batch, generator=source) < settings.drop
        known = labels[chosen].masked_fill(dropped.to(device), null)
        z = latents[chosen]
        total, noisy, predicted = small.denoising_loss(
            unet, embedding, scheduler, z, known, noise, timesteps, settings.min_snr
        )
        if not adds:
            return total
        clean, _ = small.clean_and_noise_at(scheduler, noisy, predicted, timesteps)
        if terms.magnitude:
            total = total + terms.magnitude * clean.abs().mean()
        if memory is not None:
            told = (~dropped).nonzero().squeeze(1).to(device)  # a mask on a GPU would wait for it
            own = torch.searchsorted(classes, labels[chosen[told]])
            real, denoised = z[told], clean[told]
            near, apart = small.minimax_terms(memory, denoised, own)
            total = total + terms.representativeness * near + terms.diversity * apart
            memory.keep(own, real, denoised)
        if terms.inversion:
            at_clean = unet(z, timesteps, encoder_hidden_states=embedding(known)).sample
            likeness = small.inversion_term(scheduler, z, noisy, at_clean, timesteps)
            total = total + terms.inversion * likeness
        return total

    return train_network(
        pair,
        loss,
        settings,
        path,
        every=recipe.checkpoint_every,
        title="unet",
        memory=memory,
        inputs=inputs,
        tell=tell,
    )


def train_network(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    settings: AutoencoderTraining | UNetTraining,
    path: Path,
    *,
    every: int,
    title: str,
    memory: nn.Module | None = None,
    inputs: Mapping[str, str] | None = None,
    tell: tracking.Tell | None = None,
) -> Training:
    """AdamW on a warm-up and cosine schedule; the network ends frozen, with averaged weights.

    The state at `path` is saved each `every` steps, and training goes on from it; `memory` holds
    buffers that the loss, () by the number of a step, changes, `inputs` hashes of what is trained
    on, by name.

    Raises:
        InputError: the state is damaged, or of other inputs.
        RunError: the loss is no longer finite; the last state stays on disk.
    """
    steps = settings.steps
    warmup = max(1, min(500, steps // 20))
    optimizer = AdamW(network.train().parameters(), lr=settings.lr, weight_decay=0.01)
    average = moving_average(network, lambda update: min(settings.ema, 1 - (1 + update) ** -0.75))
    modules = {"network": network, "average": average}
    if memory is not None:
        modules["memory"] = memory
    inputs = inputs or {}
    done, seconds = load_training_state(path, modules, optimizer, inputs)
    bar = ranks.progress(None, title, total=steps, initial=done, unit=" steps")
    began = time.perf_counter()

    def rate(step: int) -> float:
        share = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        return settings.lr * share

    training = fit(
        network, range(done, steps), lambda _, step: loss(step), optimizer, lr=rate, clip=1.0
    )
    for step, value in training:
        average.update_parameters(network)
        bar.update()
        done = step + 1
        if done % every == 0 or done == steps:
            if not torch.isfinite(value):
                raise RunError(
                    f"the loss of {title} is {float(value)} at step {done}; lower {title}.lr, and "
                    "give that run a folder of its own."
                )
            bar.set_postfix(loss=f"{float(value):.4f}", refresh=False)
            seconds += time.perf_counter() - began
            began = time.perf_counter()
            told = {**inputs, "done": str(done), "seconds": str(seconds)}
            io.save_tensors(path, dict(training_state(modules, optimizer)), told)
        if tell is not None:
            due = done % _RECORD_EVERY == 0 or done == steps
            tell({"network": title, "step": step}, value, step, lr=rate(step), due=due)
    bar.close()
    network.load_state_dict(average.module.state_dict())
    network.eval().requires_grad_(False)
    return Training(done, seconds)


def document_prior(
    recipe: PriorRecipe,
    name: str,
    folder: Path,
    test: Dataset,
    device: torch.device,
    trainings: list[Training],
    command: str,
    start: str | None,
) -> None:
    """Measure the written prior, draw its grid, write its card; `start` is what it came from."""
    settings = PriorSettings(
        weights=str(folder), steps=GRID_STEPS, guidance=GRID_GUIDANCE, skip="none", memory="fast"
    )
    prior = load_prior(settings, resolution=recipe.data.resolution, device=device)
    assert isinstance(prior, DiffusionPrior) and isinstance(prior.denoiser, UNetDenoiser)
    images, labels = _sample_images(prior, recipe.seed, test.class_names)
    pictures.save_grid(folder / "grid.png", images, labels, test.class_names)
    weights = prior.autoencoder.autoencoder, prior.denoiser.network, prior.denoiser.embedding
    facts = {
        "psnr_db": round(reconstruction_psnr(prior.autoencoder, test.images), 2),
        "held_out_images": len(test),
        "parameters": [*map(parameters, weights)],
        "seconds": [round(training.seconds) for training in trainings],
        "steps": [training.steps for training in trainings],
        "machine": runtime.device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "command": published(command),
    }
    if start is not None:
        facts["start"] = {"prior": published(recipe.start, "start"), "identity": start}
    shared = _shared(recipe)
    io.write_json(folder / "training.json", facts)
    io.write_text(folder / "README.md", prior_card(shared, name, facts))
    config.save(shared, folder / "recipe.yaml")


def _shared(recipe: PriorRecipe) -> PriorRecipe:
    """The recipe as others get it: without paths, and what says nothing about the weights."""
    data = replace(recipe.data, cache=None)
    return without_paths(replace(recipe, data=data, output=None, threads=None, trackers=[]))


@torch.no_grad()
def reconstruction_psnr(space: AutoencoderPrior, images: Images) -> float:
    """Mean PSNR in dB of the autoencoder's reconstructions of (N, 3, H, W) uint8 images."""
    device = space.autoencoder.device
    total = 0.0
    for start in range(0, len(images), 500):
        real = images[start : start + 500].to(device)
        decoded = to_uint8(space.decode(space.encode(from_uint8(real))))
        error = (decoded.float() - real.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-3)
        total += float((10 * torch.log10(255**2 / error)).sum())
    return total / len(images)


@torch.no_grad()
def _sample_images(
    prior: DiffusionPrior, seed: int, class_names: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """(C * PER_CLASS, 3, H, W) uint8 images of classes drawn from noise alone, and their labels."""
    device = prior.denoiser.null.device
    own = match_classes(class_names, prior)
    labels = torch.arange(len(class_names)).repeat_interleave(PER_CLASS)
    samples = []
    for index, part in enumerate(own[labels].split(50)):
        shape = (len(part), *prior.latent_shape)
        noise = torch.randn(shape, generator=draws.generator(seed, "samples", index)).to(device)
        images = prior.decode(torch.zeros_like(noise), prior.condition(part.to(device)), noise)
        samples.append(to_uint8(images).cpu())
    return torch.cat(samples), labels
