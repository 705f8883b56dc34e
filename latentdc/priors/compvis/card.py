"""The card of a converted prior: where it comes from and how it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the card says.

    Attributes:
        checkpoint: the file that was converted.
        checkpoint_hash: its SHA-256.
        config: the YAML of its shape.
        config_hash: its SHA-256.
        command: that made the prior, without folders.
        ema: whether the UNet's averaged weights were taken.
        classes: names in label order; None for an unconditional model.
        resolution: of the images that it was trained on.
        scaling_factor: between the first stage's latents and the UNet's.
        parameters: of each network.
        left_out: what of the checkpoint is not here.
    """

    checkpoint: Path
    checkpoint_hash: str
    config: Path
    config_hash: str
    command: str
    ema: bool
    classes: tuple[str, ...] | None
    resolution: int
    scaling_factor: float
    parameters: Mapping[str, int]
    left_out: tuple[str, ...]


def card(facts: Facts, name: str) -> str:
    """README.md with YAML front matter; `name` is the folder's."""
    front = ModelCardData(
        library_name="diffusers", tags=["latentdc", "latent-diffusion", "dataset-distillation"]
    )
    return f"""---
{front.to_yaml()}
---

# {name}: a latent diffusion prior, converted from CompVis' layout

The same weights as the checkpoint's under the names of diffusers' components. Their licence is the
checkpoint's.

| | |
|---|---|
| checkpoint | `{facts.checkpoint.name}`, SHA-256 `{facts.checkpoint_hash}` |
| shape | `{facts.config.name}`, SHA-256 `{facts.config_hash}` |
| command | `{facts.command}` |
| parameters | {", ".join(f"{part} {number:,}" for part, number in facts.parameters.items())} |
| weights of the UNet | {"averaged (EMA)" if facts.ema else "last of the training"} |
| classes | {_classes(facts)} |
| resolution | {facts.resolution} px |
| scaling factor | {facts.scaling_factor} |
| left out | {"; ".join(facts.left_out) or "nothing"} |

Load it with `latentdc.load_prior(latentdc.PriorSettings(weights="{name}"\
{"" if facts.classes else ", guidance=1"}), resolution={facts.resolution})`.
"""


def _classes(facts: Facts) -> str:
    if facts.classes is None:
        return "none (unconditional)"
    return f"{len(facts.classes):,}, from `{facts.classes[0]}` to `{facts.classes[-1]}`"
