"""What several settings are checked for: lists, starts, paths, normalisation, augmentations."""

import os
from collections.abc import Sequence
from typing import Any

from latentdc.errors import InputError
from latentdc.recipe.fields import show

AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")  # of DSA


def require(condition: bool, message: str) -> None:
    """Refuse a recipe that does not meet `condition`."""
    if not condition:
        raise InputError(message)


def require_once(names: Sequence[str], key: str) -> None:
    """Refuse a list that names something twice."""
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    require(twice is None, f"{key} names {show(twice)} twice; name it once.")


def require_least(spec: object, prefix: str, **least: float) -> None:
    """Refuse fields of a dataclass that are below their least number; null passes.

    The `prefix` of its dotted keys ends with a dot, here and below.
    """
    for name, low in least.items():
        value = getattr(spec, name)
        require(value is None or value >= low, f"{prefix}{name} is at least {low:g}, got {value}.")


def require_positive(spec: object, prefix: str, *names: str) -> None:
    """Refuse fields of a dataclass that are not above 0; null passes."""
    for name in names:
        value = getattr(spec, name)
        require(value is None or value > 0, f"{prefix}{name} is positive, got {value}.")


def require_below_one(spec: object, prefix: str, *names: str) -> None:
    """Refuse fields of a dataclass that are not in [0, 1); null passes."""
    for name in names:
        value = getattr(spec, name)
        require(value is None or 0 <= value < 1, f"{prefix}{name} is in [0, 1), got {value}.")


def check_start(recipe: Any) -> None:
    """Refuse what neither a run nor the training of a prior can be started with."""
    require_once(recipe.trackers, "trackers")
    require_least(recipe, "", seed=0, threads=1)


def expand_home(spec: object, prefix: str, *paths: str) -> None:
    """Replace `~` at the beginning of those fields of a dataclass that hold paths.

    Names that no file system has are refused.
    """
    for name in paths:
        value = getattr(spec, name)
        if value is None:
            continue
        if value.startswith("~"):
            value = os.path.expanduser(value)
            object.__setattr__(spec, name, value)
            require(
                not value.startswith("~"),
                f"{prefix}{name}={value}: ~ is the home of a user whom this machine does not know; "
                "write the path itself.",
            )
        parts = [len(os.fsencode(part)) for part in value.split("/")]
        require(
            bool(value.strip()) and max(parts) <= 255 and sum(parts) + len(parts) <= 3500,
            f"{prefix}{name} is a path that no file system takes, empty or too long: "
            f"{show(value)}.",
        )
        require(
            not set(value) & set("\t\n"),
            f"{prefix}{name} is a path or name in one line, got {show(value)}; after | or >, which "
            "keep the end of the line, write |- or >-, or leave them out.",
        )


def require_normalization(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, prefix: str
) -> None:
    """Refuse a mean and std that are not of images in [0, 1], such as those of levels up to 255."""
    require(
        mean is None or all(0 <= value <= 1 for value in mean),
        f"{prefix}mean is of images in [0, 1], got {mean}; divide one of levels by 255.",
    )
    require(
        std is None or min(std) > 0,
        f"{prefix}std must be positive, got {std}.",
    )
    require(
        std is None or all(1e-4 <= value <= 1 for value in std),
        f"{prefix}std is of images in [0, 1] and at least 1e-4, got {std}; divide one of levels "
        "by 255.",
    )


def check_augment(strategy: str | None, key: str) -> None:
    """Refuse a DSA strategy that names an unknown augmentation."""
    for name in [] if strategy is None else strategy.replace("+", "_").split("_"):
        require(
            name in AUGMENTATIONS,
            f"{key} joins {', '.join(AUGMENTATIONS)} by '_' (one of them is drawn) or '+' (one "
            f"after another); {name!r} in {strategy!r} is unknown.",
        )
