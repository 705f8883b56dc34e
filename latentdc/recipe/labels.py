"""The parts of a protocol: how students see images (`Views`), and what they learn (`Labels`).

Imports no torch, so that a protocol is refused within a blink.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from latentdc.recipe import checks
from latentdc.recipe.fields import check_fields
from latentdc.recipe.identity import changed, file_digest, idle
from latentdc.recipe.networks import PRETRAINED, check_network, pretrained
from latentdc.recipe.own import Own

_SOFT = ("fixed", "online", "stored")  # sources of labels that come from teachers
OWN = "own"  # the source of soft labels that a set has itself, whatever its protocol says


@dataclass(frozen=True, kw_only=True)
class Views:
    """How each image looks anew in every epoch, in this order; every image has draws of its own.

    Attributes:
        randaugment: operations and their magnitude (of 31 levels), such as [2, 9]; null for none.
        shuffle: cut the image into so many strips each way and shuffle columns, then rows; null
            keeps it whole.
        pad: pixels around the image, out of which a window of its size is cut; null for none.
        pad_mode: `black` pixels, or a `reflect`ion of the image, which its edge is not part of.
        crop: smallest and largest share of the area that a random crop keeps before it is resized
            to the whole image (aspect 3:4 to 4:3); null keeps everything.
        cells: crop inside one cell, drawn at random, of a mosaic of so many cells each way; null
            crops from the whole image, as for single images (real ones) in any case.
        flip: mirror half of the images left and right.
        jitter: brightness, contrast and saturation change by up to this share, in random order.
        lighting: standard deviation of noise along the principal colours of ImageNet.
        cutout: grey out a square of half the side.
        mix: with another image of the epoch: `cutmix` pastes a box of it, `mixup` blends the two.
            Targets are mixed by the same share.
        mix_alpha: the share comes from Beta(alpha, alpha).
    """

    randaugment: tuple[int, int] | None = None
    shuffle: int | None = None
    pad: int | None = None
    pad_mode: Literal["black", "reflect"] = "black"
    crop: tuple[float, float] | None = None
    cells: int | None = None
    flip: bool = False
    jitter: float = 0.0
    lighting: float = 0.0
    cutout: bool = False
    mix: Literal["cutmix", "mixup"] | None = None
    mix_alpha: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "views.")
        if self.randaugment is not None:
            operations, magnitude = self.randaugment
            checks.require(
                operations >= 1 and 0 <= magnitude <= 30,
                "views.randaugment is [operations >= 1, magnitude from 0 to 30], got "
                f"{list(self.randaugment)}; the usual one is [2, 9].",
            )
        for key, least in {"shuffle": 2, "pad": 1, "cells": 2}.items():
            value = getattr(self, key)
            checks.require(
                value is None or value >= least,
                f"views.{key} is at least {least}, or null for none, got {value}.",
            )
        if self.crop is not None:
            checks.require(
                0 < self.crop[0] <= self.crop[1] <= 1,
                f"views.crop is a range of shares in (0, 1], got {list(self.crop)}; such as "
                "[0.08, 1.0].",
            )
        checks.require(
            self.cells is None or self.crop is not None,
            "views.cells says where views.crop cuts; give both, such as crop: [0.08, 1.0].",
        )
        checks.require(
            0 <= self.jitter <= 1 and self.lighting >= 0,
            f"views.jitter is in [0, 1] and views.lighting at least 0, got {self.jitter} and "
            f"{self.lighting}.",
        )
        checks.require_positive(self, "views.", "mix_alpha")

    @property
    def change(self) -> bool:
        """Whether an image ever looks other than it is."""
        return bool(changed(self))

    @property
    def idle(self) -> set[str]:
        """Settings that change nothing beside the others."""
        return idle({"pad_mode": self.pad is None, "mix_alpha": self.mix is None})


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A classifier whose logits are labels.

    Attributes:
        network: one of ours or torchvision's (`resnet20`, `torchvision/resnet18`), or with
            `weights: torchvision` the name of a torchvision classifier (`resnet18`).
        weights: `torchvision` for its ImageNet weights, restricted to the set's classes, or
            `torchvision/NAME` for others than the recommended ones, such as `IMAGENET1K_V1`; a
            safetensors file; or null, which trains the network on the real training images.
        epochs: of that training.
        lr: its peak learning rate (SGD, momentum 0.9, cosine).
        batch: its images per step.
        mean: normalisation that given weights expect; null takes torchvision's own, or the data's.
        std: likewise.
        resolution: in pixels, to which views are resized for it; null takes them as they are.
    """

    network: Own = "resnet18-bn"
    weights: str | None = None
    epochs: int = 60
    lr: float = 0.05
    batch: int = 128
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resolution: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, "labels.teachers.")
        checks.expand_home(self, "labels.teachers.", "weights")
        self.check_size(None)
        checks.require_positive(self, "labels.teachers.", "epochs", "lr", "batch", "resolution")
        checks.require_normalization(self.mean, self.std, "labels.teachers.")
        if self.in_file:
            checks.require(
                Path(str(self.weights)).is_file(),
                f"labels.teachers.weights: there is no file {self.weights}; give a safetensors "
                f"file, {PRETRAINED!r}, or leave it out to train the network.",
            )

    def check_size(self, resolution: int | None) -> None:
        """Refuse a network of ours that does not exist, or cannot take images of so many pixels."""
        if pretrained(self.weights) is None:
            check_network(self.network, self.resolution or resolution, "images")

    @property
    def idle(self) -> set[str]:
        """Settings that change nothing beside the others: given weights are not trained."""
        return set() if self.weights is None else {"epochs", "lr", "batch"}

    def settings(self) -> dict[str, Any]:
        """Settings that decide the teacher: a file counts by its contents, not by its name."""
        content = changed(self) | {"network": self.network, "weights": self.weights}
        if self.in_file:
            content["weights"] = file_digest(str(self.weights))
        return content

    @property
    def in_file(self) -> bool:
        """Whether its weights lie in a file, which may be gone or another one later."""
        return self.weights is not None and pretrained(self.weights) is None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What students learn from an image.

    Attributes:
        source: `hard` class labels; one `fixed` soft label per image, of the image as it is; soft
            labels of each view, computed `online`; or the same `stored` once for some epochs.
        loss: `ce`, cross-entropy with the target's probabilities; `kl`, divergence of student from
            teacher, both at the temperature, not scaled by its square; `mse` between logits.
        temperature: by which logits are divided; of the teacher alone with `ce`.
        soft_weight: of a soft loss; some papers multiply `kl` by the square of the temperature.
        hard_weight: of the hard labels' cross-entropy, added to a soft loss.
        smoothing: share of a hard target that is spread over all classes.
        teachers: whose logits are averaged.
        restricted_to: the classes, in the data set's order, to which the logits of a larger teacher
            are restricted before the softmax. Empty takes the data set's, and an evaluation then
            fills it in, so that they are part of the hash.
        epochs: epochs of stored labels, each of which a longer training draws again; null stores
            one for each epoch.
        precision: of stored logits: 2 bytes each, or 1 and a range per image.
        top: largest logits that are stored, the others by their mean; null stores all.
    """

    source: Literal["hard", "fixed", "online", "stored"] = "hard"
    loss: Literal["ce", "kl", "mse"] = "ce"
    temperature: float = 1.0
    soft_weight: float = 1.0
    hard_weight: float = 0.0
    smoothing: float = 0.0
    teachers: list[Teacher] = field(default_factory=list)
    restricted_to: list[str] = field(default_factory=list)
    epochs: int | None = None
    precision: Literal["float16", "uint8"] = "float16"
    top: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, "labels.")
        checks.require_once(self.restricted_to, "labels.restricted_to")
        soft = self.source in _SOFT
        checks.require(
            bool(self.teachers) or not soft,
            f"labels.source {self.source} needs labels.teachers, such as "
            "[{network: resnet18, weights: torchvision}].",
        )
        checks.require(
            soft or not self.teachers,
            f"labels.source hard has no labels.teachers, got {len(self.teachers)}; write "
            "labels.teachers=[] and labels.loss=ce, or take fixed, online or stored.",
        )
        checks.require(
            soft or self.loss == "ce",
            f"labels.loss {self.loss} compares logits with a teacher's; with hard labels use ce.",
        )
        checks.require_positive(self, "labels.", "temperature", "soft_weight")
        checks.require_below_one(self, "labels.", "smoothing")
        checks.require_least(self, "labels.", hard_weight=0, epochs=1, top=1)
        checks.require(
            self.source == "stored"
            or (self.epochs, self.precision, self.top) == (None, "float16", None),
            "labels.epochs, precision and top say how labels are stored; set labels.source=stored.",
        )

    @property
    def idle(self) -> set[str]:
        """Settings that change nothing beside the others; a set may bring logits to hard labels."""
        soft = self.source in _SOFT
        return idle(
            {
                "temperature": self.loss == "mse",
                "smoothing": soft and self.hard_weight == 0,
                "restricted_to": not soft,
            }
        )
