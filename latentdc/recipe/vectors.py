"""What recipes over feature vectors cannot say, because it is about images."""

from dataclasses import fields
from typing import TYPE_CHECKING

from latentdc.recipe.checks import require

if TYPE_CHECKING:
    from latentdc.recipe.data import Data
    from latentdc.recipe.prune import Scorer
    from latentdc.recipe.run import Recipe

OF_IMAGES = (
    *("resolution", "config", "revision", "image", "label", "subset"),
    *("unreadable", "mean", "std", "zca"),
)


def refuse_image_keys(spec: "Data | Scorer", keys: tuple[str, ...], prefix: str) -> None:
    """Refuse keys that are about images and are not at their defaults.

    Raises:
        InputError: the first of them.
    """
    plain = {field.name: field.default for field in fields(spec)}
    for key in keys:
        value = getattr(spec, key)
        require(
            value == plain[key],
            f"{prefix}.{key}={value} is about images, and data.kind is vectors; leave it out.",
        )


def require_images(data: "Data", command: str) -> None:
    """Refuse a command that is about images alone.

    Raises:
        InputError: the data are vectors.
    """
    require(
        data.kind == "images",
        f"{command} works on images, and data.kind is vectors; vectors can be pruned, distilled "
        "and evaluated.",
    )


def check_vectors(recipe: "Recipe") -> None:
    """Refuse a distillation whose parts are not of one kind.

    Raises:
        InputError: images with a space of vectors, or vectors with what is about images.
    """
    if recipe.data.kind == "images":
        require(
            recipe.prior.kind != "vector",
            "prior.kind=vector is the space of feature vectors, and data.kind is images; take "
            "pixel, autoencoder or diffusion.",
        )
        return
    require(
        recipe.prior.kind == "vector",
        f"prior.kind={recipe.prior.kind} makes images, and data.kind is vectors; write prior: "
        "{kind: vector}.",
    )
    require(
        recipe.objective.kind != "mtt",
        "objective.kind=mtt follows experts that are trained on images, and data.kind is vectors; "
        "take dm or dc.",
    )
    require(
        recipe.objective.augment is None,
        f"objective.augment={recipe.objective.augment} is about images, and data.kind is vectors; "
        "write augment: null.",
    )
    require(
        recipe.distill.grid_every == 0,
        f"distill.grid_every={recipe.distill.grid_every} draws images, and data.kind is vectors; "
        "leave it out.",
    )
