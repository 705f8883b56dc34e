"""The classifier behind the scores of pruning."""

from dataclasses import dataclass

from latentdc.recipe.checks import expand_home, require, require_normalization
from latentdc.recipe.fields import check_fields


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The classifier whose loss ranks the training images.

    Attributes:
        network: a student of latentdc (`convnet3`, `convnet3@32` for base width 32, `resnet56`) or,
            with `weights: torchvision`, a torchvision classifier (`resnet18`).
        weights: null trains the network on the spot; a safetensors file; or `torchvision` for
            torchvision's recommended weights on ImageNet, `torchvision/IMAGENET1K_V1` for others.
        epochs: epochs of on-the-spot training; the loss is averaged over them.
        lr: peak learning rate of on-the-spot training (SGD, momentum 0.9, cosine).
        batch: images per step of training; at most so many are scored together.
        mean: normalisation that given weights expect; null takes the data's.
        std: likewise.
        resolution: pixels that given weights expect; null takes the data's.
        runs: independent trainings, over which scores are averaged.
        infobatch: leave out, with this probability, each image that is easier than the mean of an
            epoch of that training (InfoBatch); null sees all.
    """

    network: str = "convnet3"
    weights: str | None = None
    epochs: int = 10
    lr: float = 0.01
    batch: int = 256
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resolution: int | None = None
    runs: int = 1
    infobatch: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "prune.scorer.")
        expand_home(self, "prune.scorer.", "weights")
        require_normalization(self.mean, self.std, "prune.scorer.")
        require(self.epochs >= 1, f"prune.scorer.epochs is at least 1, got {self.epochs}.")
        require(self.lr > 0, f"prune.scorer.lr is positive, got {self.lr}.")
        require(
            self.resolution is None or self.resolution >= 1,
            f"prune.scorer.resolution is at least 1, got {self.resolution}.",
        )
        require(self.batch >= 1, f"prune.scorer.batch is at least 1, got {self.batch}.")
        require(self.runs >= 1, f"prune.scorer.runs is at least 1, got {self.runs}.")
        require(
            self.infobatch is None or 0 < self.infobatch < 1,
            f"prune.scorer.infobatch is a probability in (0, 1), got {self.infobatch}.",
        )
        require(
            self.resolution is None or self.resolution >= 8,
            f"prune.scorer.resolution is in pixels and at least 8, got {self.resolution}.",
        )
