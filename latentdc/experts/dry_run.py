"""What training experts would take, counted without decoding and without weights."""

import torch

from latentdc.data.open import kept_size
from latentdc.estimates import UNKNOWN, aligned, multiply_adds
from latentdc.experts.files import missing_experts
from latentdc.experts.manifest import experts_folder
from latentdc.experts.training import expert_bytes
from latentdc.networks.build import outline
from latentdc.recipe import Recipe


def describe(recipe: Recipe) -> str:
    """Lines of `quantity: value`."""
    settings, network = recipe.experts, recipe.objective.network
    folder, size = experts_folder(recipe), kept_size(recipe.data)
    lacking = len(missing_experts(folder, settings.count))
    lines = {
        "folder": str(folder),
        "experts": f"{lacking} of {settings.count} to train, {network}, {settings.epochs} epochs",
    }
    if size is None:
        return aligned(lines | {"disk": UNKNOWN, "work": UNKNOWN})
    images = recipe.prune.expected(size.train, size.classes)
    each = expert_bytes(settings, network, size.classes, recipe.data.resolution)
    work = 3 * _forward(network, size.classes, recipe.data.resolution) * images * settings.epochs
    return aligned(
        lines
        | {
            "core set": f"about {images:,} images",
            "disk": f"{each:,} bytes each, {lacking * each:,} in all, {settings.dtype}",
            "work": f"{work / 1e12:,.3g} TMAC each, {lacking * work / 1e12:,.3g} in all",
        }
    )


def _forward(network: str, classes: int, resolution: int) -> float:
    """Multiply-adds of one image; a training step is three of them."""
    student = outline(network, num_classes=classes, resolution=resolution)
    image = torch.empty(1, 3, resolution, resolution, device="meta")
    return multiply_adds(lambda: student(image))
