"""The prior that decodes latents."""

from dataclasses import dataclass, field
from typing import Literal

from latentdc.recipe.checks import expand_home, require, require_positive
from latentdc.recipe.fields import check_fields
from latentdc.recipe.own import Own, is_own


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How a flow-matching network counts time and velocity; as these differ, none has a default.

    Attributes:
        noise_at: time of pure noise, 0 or 1; data is at the other end. SiT has 0, REPA, SD 3 and
            FLUX have 1.
        velocity: what is predicted, `data-noise` (SiT) or `noise-data` (REPA, SD 3, FLUX).
        time_scale: what the network's time is multiplied by: SiT 1, SD 3 1000.
    """

    noise_at: int | None = None
    velocity: Literal["data-noise", "noise-data"] | None = None
    time_scale: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "prior.flow.")
        require(
            self.noise_at in (None, 0, 1),
            f"prior.flow.noise_at is 0 or 1, the time of pure noise, got {self.noise_at}.",
        )
        require_positive(self, "prior.flow.", "time_scale")


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """The space in which synthetic images are optimised.

    Attributes:
        kind: `pixel`, `autoencoder` (z through the decoder), `diffusion` (LD3M); or `vector`, the
            space of feature vectors; or your own, something that makes a `latentdc.Prior`.
        weights: a shipped prior (`digits`, `cifar10`), or a local folder or Hub id in diffusers
            layout; or a pipeline of diffusers in memory, or your own function that makes one.
        revision: branch, tag or commit of a Hub id.
        steps: denoising steps of the sampler.
        guidance: scale of classifier-free guidance; 1 turns it off.
        guided_channels: of a latent that guidance acts in, the first ones; null is all. Released
            DiT code, and the distillation methods built on it, guides 3 of 4.
        flow: of a flow-matching prior, which needs all of it.
        prompt: of a text-conditional prior: the text that a class starts from, `{}` being its name.
        names: what its classes are called there, where that is not their first synonym.
        autoencoder: folder or Hub id of an autoencoder to take in place of a diffusion prior's own.
        denoiser: `pretrained`, or `random`: its weights are drawn anew from the seed, those of the
            autoencoder are kept.
        skip: LD3M's residual: `x0` mixes the encoded latent into the predicted x0 (released code),
            `mean` mixes the noisy one into the mean of each step (paper, Eq. 7), `none` is without.
        clamp: limit pixel images to [-1, 1] (the published pixel methods do not).
        memory: `fast` keeps activations (one forward sweep); `low` recomputes each denoising step
            in backward (one forward more), in chunks of images; `auto` measures what fits, also of
            what lies between the two, and keeps its choice with the run.
        chunk: images per chunk when memory is `low`.
        channels_last: layout of the networks, which GPUs may prefer.
        compile: run the networks through torch.compile.

    Examples:
        >>> pixels = latentdc.PriorSettings(kind="pixel")
        >>> latentdc.load_prior(pixels, resolution=8).latent_shape
        (3, 8, 8)
    """

    kind: Literal["pixel", "autoencoder", "diffusion", "vector"] | Own = "diffusion"
    weights: Own | None = None
    revision: str | None = None
    steps: int = 10
    guidance: float = 3.0
    guided_channels: int | None = None
    flow: Flow = field(default_factory=Flow)
    prompt: str = "a photo of a {}"
    names: dict[str, str] = field(default_factory=dict)
    autoencoder: str | None = None
    denoiser: Literal["pretrained", "random"] = "pretrained"
    skip: Literal["x0", "mean", "none"] = "x0"
    clamp: bool = True
    memory: Literal["auto", "fast", "low"] = "auto"
    chunk: int = 10
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "prior.")
        expand_home(self, "prior.", "weights", "autoencoder")
        before, mark, after = self.prompt.partition("{}")
        require(
            bool(mark) and not set("{}") & set(before + after),
            f"prior.prompt has one {{}}, where the class's name goes, got {self.prompt!r}; write "
            "'a photo of a {}' or the like.",
        )
        require(self.chunk >= 1, f"prior.chunk is at least 1 image, got {self.chunk}.")
        require(
            self.kind in ("pixel", "vector") or is_own(self.kind) or self.weights is not None,
            f"prior.kind {self.kind} needs prior.weights: the name of a shipped prior, a folder or "
            "a Hub id; or choose prior.kind=pixel.",
        )
        require(
            self.kind == "diffusion" or self.denoiser == "pretrained",
            f"prior.denoiser=random is for prior.kind=diffusion; {self.kind} has no denoiser.",
        )
        require(
            self.kind == "diffusion" or self.autoencoder is None,
            f"prior.autoencoder takes the place of a diffusion prior's own; with prior.kind="
            f"{self.kind} give an autoencoder as prior.weights.",
        )
        if self.kind != "diffusion":
            return
        least = 1 if self.skip == "none" else 2
        require(
            least <= self.steps <= 1000,
            f"prior.steps is between {least} and 1000 with prior.skip={self.skip}, "
            f"got {self.steps}; the skip's weights run over steps - 1.",
        )
        require(
            self.guidance >= 0,
            f"prior.guidance is at least 0, and 1 turns it off; got {self.guidance}.",
        )
        require(
            self.guided_channels is None or self.guided_channels >= 1,
            f"prior.guided_channels is at least 1, or null for all, got {self.guided_channels}; "
            "prior.guidance=1 turns guidance off.",
        )
