"""CLIP's text encoders: prompts as the tokens that a text-conditional UNet attends to.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
https://arxiv.org/abs/2103.00020. Stable Diffusion (Rombach et al., https://arxiv.org/abs/2112.10752)
takes the last layer; SDXL (Podell et al., https://arxiv.org/abs/2307.01952) takes the layer before
the last of two encoders side by side, and the second one's pooled embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from latentdc.errors import InputError
from latentdc.priors.components import load_component
from latentdc.priors.files import ENCODERS, TOKENIZERS, read_config, read_index

_PROMPTS = 32  # prompts that enter an encoder at once


@dataclass(frozen=True, eq=False)
class TextConditions:
    """What a prior's encoders make of the prompts; the encoders themselves are gone."""

    rows: Tensor  # (C, T, D) of the classes, on the CPU
    null: Tensor  # (1, T, D) of no text
    # Width of the pooled embedding, which is then the last token, padded with zeros to width D;
    # None where the UNet takes none.
    pooled: int | None


def load_text_conditions(
    folder: Path,
    parts: Sequence[Path],
    unet: Mapping[str, Any],
    prompts: Mapping[str, str] | None,
    device: torch.device | str,
) -> TextConditions:
    """Encode the prompts, by class name, and the empty one.

    `parts` are the encoders of a prior's folder, two of SDXL's, and `unet` its config. On `meta`
    only shapes are right, and prompts may be missing.

    Raises:
        InputError: encoders of another kind, prompts that are missing or too long.
    """
    double = len(parts) == 2
    configs = _configs(folder, parts, unet)
    pooled = configs[-1].projection_dim if double else None
    if pooled is not None:
        _check_sizes(folder, unet, pooled)
    if torch.device(device).type == "meta":
        tokens, width = configs[0].max_position_embeddings + double, unet["cross_attention_dim"]
        rows = torch.empty(len(prompts or "?"), tokens, width, device="meta")
        return TextConditions(rows, rows[:1], pooled)
    if prompts is None:
        raise InputError(
            f"the prior {folder} is conditioned on text: load_prior needs `class_names`, from "
            "which its settings make a prompt for each class."
        )
    encoded = _encode(parts, [*prompts.values(), ""], device)
    null = encoded[-1:]
    if double and read_index(folder).get("force_zeros_for_empty_prompt", True):
        null = torch.zeros_like(null)  # which stand for no text, as SDXL was trained
    return TextConditions(encoded[:-1], null, pooled)


def _check_sizes(folder: Path, unet: Mapping[str, Any], pooled: int) -> None:
    """Refuse a UNet that is told other numbers than SDXL's: three sizes, of two numbers each."""
    expected = unet.get("projection_class_embeddings_input_dim")
    if expected != (given := pooled + 6 * int(unet.get("addition_time_embed_dim") or 0)):
        raise InputError(
            f"the UNet of {folder} takes {expected} numbers beside the tokens, where SDXL takes "
            f"the pooled embedding and six numbers of size, {given} here; use SDXL's base model, "
            "not its refiner."
        )


def _configs(folder: Path, parts: Sequence[Path], unet: Mapping[str, Any]) -> list[CLIPTextConfig]:
    """The encoders' configs, if they are CLIP's and as wide together as the UNet wants."""
    for part in parts:
        if (kind := read_config(part).get("model_type")) != "clip_text_model":
            raise InputError(f"{part} is a {kind}; texts are encoded by a clip_text_model.")
    configs = [CLIPTextConfig.from_pretrained(part) for part in parts]
    width, expected = sum(c.hidden_size for c in configs), unet.get("cross_attention_dim")
    if expected != width:
        raise InputError(
            f"the UNet of {folder} attends to tokens of width {expected}, and its text encoders "
            f"make them {width} wide; they are not of one model."
        )
    return configs


def _encode(parts: Sequence[Path], texts: list[str], device: torch.device | str) -> Tensor:
    """(len(texts), T, D) on the CPU; with two encoders the last token is the pooled embedding."""
    encoded = [_run(part, texts, device, before_last=len(parts) == 2) for part in parts]
    tokens = torch.cat([tokens for tokens, _ in encoded], dim=-1)
    pooled = encoded[-1][1]
    if pooled is None:
        return tokens
    last = pad(pooled, (0, tokens.shape[-1] - pooled.shape[-1]))
    return torch.cat([tokens, last[:, None]], dim=1)


@torch.no_grad()
def _run(
    part: Path, texts: list[str], device: torch.device | str, *, before_last: bool
) -> tuple[Tensor, Tensor | None]:
    """Tokens of the last layer or the one before it, and the second encoder's pooled embeddings."""
    place = ENCODERS.index(part.name)
    encoder = load_component((CLIPTextModel, CLIPTextModelWithProjection)[place], part, device)
    ids = _ids(part.with_name(TOKENIZERS[place]), texts, encoder.config.max_position_embeddings)
    tokens, pooled = [], []
    for some in ids.split(_PROMPTS):
        output = encoder(some.to(device), output_hidden_states=before_last)
        last = output.hidden_states[-2] if before_last else output.last_hidden_state
        tokens.append(last.cpu())
        if place == 1:
            pooled.append(output.text_embeds.cpu())
    return torch.cat(tokens), torch.cat(pooled) if pooled else None


def _ids(folder: Path, texts: list[str], most: int) -> Tensor:
    """(len(texts), most) token ids, padded; a text that has more is refused, never cut."""
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the prior's {folder}: {error}") from error
    for text, ids in zip(texts, tokenizer(texts, verbose=False).input_ids, strict=True):
        if len(ids) > most:
            raise InputError(
                f"the prompt {text!r} has {len(ids) - 2} tokens, and the prior reads "
                f"{most - 2}; shorten prior.prompt, or the class's name with prior.names."
            )
    padded = tokenizer(texts, padding="max_length", max_length=most, return_tensors="pt")
    found: Tensor = padded.input_ids
    return found
