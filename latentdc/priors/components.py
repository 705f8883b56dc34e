"""A network of a prior, from the folder that holds its config and weights."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import safe_open

from latentdc import draws
from latentdc.errors import InputError, in_short
from latentdc.priors.files import SHOWN_FOLDER, WeightFiles, chosen_weights


def load_component(
    component: Any, folder: Path, device: torch.device | str, seed: int | None = None
) -> Any:
    """A network of diffusers or transformers in float32 from its folder; on `meta`, its outline.

    With a seed, weights are drawn and none are read.

    Raises:
        InputError: files or weights that are missing or do not fit together.
    """
    with as_input_error(f"cannot load the prior's {folder}", folder):
        if torch.device(device).type == "meta":
            with torch.device("meta"):
                return component.from_config(component.load_config(folder))
        if seed is not None:
            with draws.global_draws(seed, "denoiser"):
                return component.from_config(component.load_config(folder)).to(device)
        with chosen_weights(folder) as (shown, form):
            loaded, report = component.from_pretrained(
                shown,
                torch_dtype=torch.float32,
                use_safetensors=form.suffix == ".safetensors",
                output_loading_info=True,
            )
    if missing := report["missing_keys"]:
        raise InputError(f"cannot load the prior's {folder}: its weights lack {_some(missing)}.")
    if isinstance(loaded, ModelMixin) and (unknown := report["unexpected_keys"]):
        raise InputError(
            f"cannot load the prior's {folder}: its weights have {_some(unknown)} that its "
            "config.json has no place for; take the config.json that belongs to them."
        )
    with as_input_error(f"cannot load the prior's {folder}", folder):
        _refuse_quantised(form)
    return loaded.to(device)


def _refuse_quantised(form: WeightFiles) -> None:
    """Refuse weights of whole or complex numbers, which loaders take for floats of those values."""
    for file in form.files:
        for name in _not_floats(file):
            raise InputError(
                f"cannot load the prior's {form.folder}: {name} in {file.name} is not of floats, "
                "as in quantised weights; take a form of them that is not quantised."
            )


def _not_floats(file: Path) -> list[str]:
    """Names of a file's tensors of whole or complex numbers, but int64, which counts things."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}
        return [name for name, kind in kinds.items() if not kind.startswith(("F", "BF", "I64"))]
    parts = torch.load(file, map_location="meta", weights_only=True).items()
    tensors = {name: part for name, part in parts if isinstance(part, torch.Tensor)}
    return [
        name
        for name, part in tensors.items()
        if not part.is_floating_point() and part.dtype != torch.int64
    ]


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > 3 else ''})"


@contextmanager
def as_input_error(what: str, folder: object = "its folder") -> Iterator[None]:
    """Say in one line what libraries raise, of many kinds and pages long, of files in `folder`."""
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = re.sub(SHOWN_FOLDER, str(folder), in_short(error, 300))
        raise InputError(f"{what}: {type(error).__name__}: {words}") from error
