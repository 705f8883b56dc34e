"""Names of differentiable augmentations."""

from latentdc.recipe.checks import require

AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def check_augment(strategy: str | None, key: str) -> None:
    """Refuse a DSA strategy that names an unknown augmentation."""
    for name in [] if strategy is None else strategy.replace("+", "_").split("_"):
        require(
            name in AUGMENTATIONS,
            f"{key} joins {', '.join(AUGMENTATIONS)} by '_' (one of them is drawn) or '+' (one "
            f"after another); {name!r} in {strategy!r} is unknown.",
        )
