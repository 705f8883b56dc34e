"""The card of a trained prior."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from latentdc.plain_text import in_markdown, in_one_line
from latentdc.recipe.prior_training import PriorRecipe


def prior_card(recipe: PriorRecipe, name: str, facts: Mapping[str, Any]) -> str:
    """README.md with YAML front matter.

    Args:
        recipe: that was trained.
        name: of the prior.
        facts: what `training.json` holds.
    """
    front = ModelCardData(
        license=recipe.licence,
        library_name="diffusers",
        tags=["latentdc", "latent-diffusion", "dataset-distillation"],
    )
    autoencoder, unet, embedding = facts["parameters"]
    seconds = facts["seconds"]
    started = ""
    if start := facts.get("start"):
        started = f"| started from | {_code(start['prior'])} ({start['identity']}) |\n"
    return f"""---
{front.to_yaml()}
---

# {name}: a small latent diffusion prior

A class-conditional latent diffusion model for latentdc, of diffusers components: autoencoder
({autoencoder:,} parameters), UNet ({unet:,}) and class embedding ({embedding:,}), in float16.

| | |
|---|---|
| data | training split of {_code(recipe.data.source)} at {recipe.data.resolution} px |
| reconstruction of {facts["held_out_images"]:,} held-out images | {facts["psnr_db"]:.2f} dB PSNR |
{started}| steps (autoencoder, UNet) | {facts["steps"][0]:,}, {facts["steps"][1]:,} |
| compute | {seconds[0] / 60:.0f} + {seconds[1] / 60:.0f} minutes on {facts["machine"]}, \
{facts["threads"]} threads, torch {facts["torch"]} |
| command | {_code(facts["command"])} |
| licence | {in_markdown(recipe.licence)} |

Samples from noise alone, 50 steps, guidance 2:

![samples](grid.png)

Load it with `latentdc.load_prior(latentdc.PriorSettings(weights="{name}"), \
resolution={recipe.data.resolution})`.
"""


def _code(text: str) -> str:
    """A cell in the type of code, whatever stands in it."""
    return f"`{in_one_line(text)}`".replace("|", r"\|") if "`" not in text else in_markdown(text)
