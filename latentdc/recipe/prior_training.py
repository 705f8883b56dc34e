"""What the recipe of a small prior may say, checked when it is built; imports no torch."""

from dataclasses import dataclass, field

from latentdc.errors import counted
from latentdc.recipe import checks
from latentdc.recipe.data import Data, require_images
from latentdc.recipe.fields import check_fields


def _check(settings: "AutoencoderTraining | UNetTraining", prefix: str, *counts: str) -> None:
    """Refuse counts and rates that no training has, and widths beside groups of 16 channels."""
    checks.require_least(
        settings, prefix, **dict.fromkeys((*counts, "layers", "steps", "batch"), 1)
    )
    widths = settings.channels
    checks.require(
        bool(widths) and all(width > 0 and width % 16 == 0 for width in widths),
        f"{prefix}channels has a positive multiple of 16 for each level, got {widths}.",
    )
    checks.require_positive(settings, prefix, "lr")
    checks.require_below_one(settings, prefix, "ema")


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """Shape and training of a small autoencoder (diffusers' AutoencoderKL).

    Attributes:
        channels: width of each level; every level after the first halves the resolution.
        latent_channels: channels of a latent.
        layers: residual blocks per level.
        steps: training steps.
        batch: images per step.
        lr: peak learning rate (AdamW, cosine).
        kl: weight of the KL term, per latent element.
        edges: weight of the distance between image gradients, which sharpens edges.
        ema: decay of the averaged weights that are kept.
    """

    channels: list[int] = field(default_factory=lambda: [32, 64])
    latent_channels: int = 4
    layers: int = 1
    steps: int = 4000
    batch: int = 128
    lr: float = 2e-3
    kl: float = 1e-4
    edges: float = 0.5
    ema: float = 0.999

    def __post_init__(self) -> None:
        check_fields(self, "autoencoder.")
        _check(self, "autoencoder.", "latent_channels")
        checks.require_least(self, "autoencoder.", kl=0, edges=0)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Weights of what is added to the denoising loss (`latentdc.priors.small`); 0 leaves it out.

    Attributes:
        representativeness: Minimax's nearness to the most different real latent; published 0.002.
        diversity: Minimax's distance from the most alike predicted latent; published 0.008.
        memory: latents of each class that both compare with, the latest; published 64.
        magnitude: RSM's mean absolute predicted latent; no weight is published.
        inversion: IMS3's likeness of noised and inverted latents; published 0.002.
    """

    representativeness: float = 0.0
    diversity: float = 0.0
    memory: int = 64
    magnitude: float = 0.0
    inversion: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "unet.terms.")
        weights = ("representativeness", "diversity", "magnitude", "inversion")
        checks.require_least(self, "unet.terms.", **dict.fromkeys(weights, 0))
        checks.require(
            self.memory >= 1, f"unet.terms.memory is at least 1 latent, got {self.memory}."
        )


@dataclass(frozen=True, kw_only=True)
class UNetTraining:
    """Shape and training of a small class-conditional UNet (diffusers' UNet2DConditionModel).

    Attributes:
        channels: width of each level.
        attention: whether a level attends to the condition, one flag per level.
        condition: width of the class embedding.
        layers: residual blocks per level.
        heads: channels per attention head.
        steps: training steps.
        batch: latents per step.
        lr: peak learning rate (AdamW, cosine).
        drop: share of labels replaced by the null class, for classifier-free guidance.
        ema: decay of the averaged weights that are kept.
        min_snr: limit of a timestep's weight, as in `latentdc.priors.small.snr_weights`; published
            5; null weighs the errors of all timesteps alike.
        terms: added to the loss.
    """

    channels: list[int] = field(default_factory=lambda: [64, 128])
    attention: list[bool] = field(default_factory=lambda: [True, True])
    condition: int = 64
    layers: int = 1
    heads: int = 32
    steps: int = 10000
    batch: int = 128
    lr: float = 1e-3
    drop: float = 0.1
    ema: float = 0.999
    min_snr: float | None = None
    terms: Terms = field(default_factory=Terms)

    def __post_init__(self) -> None:
        check_fields(self, "unet.")
        _check(self, "unet.", "condition", "heads")
        checks.require(
            all(width % self.heads == 0 for width in self.channels),
            f"unet.channels are multiples of unet.heads={self.heads}, got {self.channels}.",
        )
        checks.require(
            len(self.channels) == len(self.attention),
            f"unet.attention has one flag per level of unet.channels, got "
            f"{len(self.attention)} flags for {len(self.channels)} levels.",
        )
        checks.require(
            self.min_snr is None or self.min_snr > 0,
            f"unet.min_snr is positive or null, got {self.min_snr}.",
        )
        checks.require(0 < self.drop < 1, f"unet.drop is a share in (0, 1), got {self.drop}.")


@dataclass(frozen=True, kw_only=True)
class PriorRecipe:
    """Training of a small latent diffusion prior on the training split of a data set.

    Attributes:
        start: prior to fine-tune (a shipped name, a folder or a Hub id): its autoencoder stays, and
            its UNet is trained further; null trains both anew.
        flip: mirror images at random (not for digits).
        licence: of the weights, for the card.
        output: folder of the prior; null makes `runs/priors/<name of the recipe>`.
        trackers: experiment trackers of Accelerate, such as `tensorboard` or `wandb`.
    """

    data: Data = field(default_factory=Data)
    autoencoder: AutoencoderTraining = field(default_factory=AutoencoderTraining)
    unet: UNetTraining = field(default_factory=UNetTraining)
    start: str | None = None
    flip: bool = False
    licence: str = "apache-2.0"
    seed: int = 0
    output: str | None = None
    threads: int | None = None
    checkpoint_every: int = 500
    trackers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        checks.expand_home(self, "", "output", "start")
        checks.check_start(self)
        checks.require(
            self.checkpoint_every >= 1,
            f"checkpoint_every is at least 1 step, got {self.checkpoint_every}.",
        )
        require_images(self.data, "latentdc train-prior")
        if self.start is None:
            self._check_levels()

    def _check_levels(self) -> None:
        """Refuse networks whose levels halve the images more often than can be."""
        shapes = {"autoencoder": self.autoencoder.channels, "unet": self.unet.channels}
        side, halved = self.data.resolution, 0
        for name, widths in shapes.items():
            halved += len(widths) - 1
            checks.require(
                side % 2**halved == 0,
                f"{name}.channels has {counted(len(widths), 'level')}, after which images are "
                f"halved {counted(halved, 'time')}, and data.resolution={side} is no multiple of "
                f"{2**halved}; take fewer levels, or another resolution.",
            )
            checks.require(
                side > 2**halved or widths[-1] > 16,
                f"{name}.channels={widths} normalises its last level, of 1 pixel, in 16 groups of "
                "1 value; take fewer levels, or make the last one wider than 16.",
            )
