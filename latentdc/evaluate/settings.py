"""The part of a protocol that says how images are seen.

Imports no torch, so that a protocol is refused within a blink.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from latentdc.recipe import require
from latentdc.typed import check_fields


@dataclass(frozen=True, kw_only=True)
class Views:
    """How each image looks anew in every epoch, in this order; every image has draws of its own.

    Attributes:
        randaugment: operations and their magnitude (of 31 levels), such as [2, 9]; null for none.
        shuffle: cut the image into so many strips each way and shuffle columns, then rows; null
            keeps it whole.
        pad: black pixels around the image, out of which a window of its size is cut; null for none.
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
            require(
                operations >= 1 and 0 <= magnitude <= 30,
                "views.randaugment is [operations >= 1, magnitude from 0 to 30], got "
                f"{list(self.randaugment)}; the usual one is [2, 9].",
            )
        for key, least in {"shuffle": 2, "pad": 1, "cells": 2}.items():
            value = getattr(self, key)
            require(
                value is None or value >= least,
                f"views.{key} is at least {least}, or null for none, got {value}.",
            )
        if self.crop is not None:
            require(
                0 < self.crop[0] <= self.crop[1] <= 1,
                f"views.crop is a range of shares in (0, 1], got {list(self.crop)}; such as "
                "[0.08, 1.0].",
            )
        require(
            self.cells is None or self.crop is not None,
            "views.cells says where views.crop cuts; give both, such as crop: [0.08, 1.0].",
        )
        require(
            0 <= self.jitter <= 1 and self.lighting >= 0,
            f"views.jitter is in [0, 1] and views.lighting at least 0, got {self.jitter} and "
            f"{self.lighting}.",
        )
        require(self.mix_alpha > 0, f"views.mix_alpha is positive, got {self.mix_alpha}.")

    @property
    def change(self) -> bool:
        """Whether an image ever looks other than it is."""
        return self != Views(mix_alpha=self.mix_alpha)


def changed(settings: Any) -> dict[str, Any]:
    """The settings that are not at their defaults, so that a new one leaves older hashes alone."""
    plain = type(settings)()
    return {
        f.name: asdict(settings)[f.name]
        for f in fields(settings)
        if getattr(settings, f.name) != getattr(plain, f.name)
    }
