"""The cards of priors."""

from collections.abc import Mapping
from typing import Any

from latentdc.plain_text import in_markdown, in_one_line
from latentdc.recipe.prior_training import PriorRecipe


def front_matter(license: str | None = None) -> str:
    """The YAML at the head of a prior's card."""
    from huggingface_hub import ModelCardData

    tags = ["latentdc", "latent-diffusion", "dataset-distillation"]
    data = ModelCardData(license=license, library_name="diffusers", tags=tags)
    return f"---\n{data.to_yaml()}\n---\n"


def prior_card(recipe: PriorRecipe, name: str, facts: Mapping[str, Any]) -> str:
    """README.md of a prior that was trained; `facts` are what `training.json` holds."""
    autoencoder, unet, embedding = facts["parameters"]
    seconds = facts["seconds"]
    started = ""
    if start := facts.get("start"):
        started = f"| started from | {_code(start['prior'])} ({start['identity']}) |\n"
    return f"""{front_matter(recipe.licence)}
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
