"""Filling networks with a checkpoint's tensors: none missing, none left over, shapes as wanted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Size, Tensor, nn

from latentdc.errors import InputError
from latentdc.priors.compvis.keys import FIRST_STAGE, UNET, Source

AVERAGED = "model_ema."
LEFT_OUT = {  # beginnings of keys that are no weights of the model, and what they are
    f"{FIRST_STAGE}loss.": "the first stage's training loss",
    f"{FIRST_STAGE}{AVERAGED}": "averaged weights of the first stage",
    AVERAGED: "averaged weights of the UNet",
}
BUFFERS = {  # of the diffusion process, which the YAML describes
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
    *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("lvlb_weights", "logvar", "cond_ids", "scale_factor"),
}


@dataclass(frozen=True)
class Part:
    """A network of unfilled tensors, with a source for each of them."""

    network: nn.Module
    sources: Mapping[str, Source]


def fill(parts: Iterable[Part], weights: Mapping[str, Tensor]) -> None:
    """Give every network its tensors, if they fit exactly.

    Raises:
        InputError: naming every key that is missing, unexpected or misshapen.
    """
    shapes = [(p, {t: v.shape for t, v in p.network.state_dict().items()}) for p in parts]
    wanted = [(part.sources[t], shape) for part, inside in shapes for t, shape in inside.items()]
    used = {source.key for source, _ in wanted}
    misfits = {source.key: _misfit(source, shape, weights) for source, shape in wanted}
    wrong = {
        "missing": sorted(key for key in used if key not in weights),
        "unexpected": sorted(k for k in weights if k not in used and left_out(k) is None),
        "misshapen": [f"{key} {misfit}" for key, misfit in misfits.items() if misfit],
    }
    if any(wrong.values()):
        lists = "; ".join(f"{len(v)} {k}: {', '.join(v)}" for k, v in wrong.items() if v)
        raise InputError(f"the checkpoint and the YAML are not of one model. {lists}.")
    for part, inside in shapes:
        taken = {t: _take(part.sources[t], shape, weights) for t, shape in inside.items()}
        part.network.load_state_dict(taken, assign=True)


def left_out(key: str) -> str | None:
    """What a key is, if it is knowingly no part of a converted model."""
    if key in BUFFERS:
        return "buffers of the diffusion process"
    return next((what for start, what in LEFT_OUT.items() if key.startswith(start)), None)


def averaged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the UNet's averages in place of its last ones.

    Raises:
        InputError: the checkpoint has no averages of some of them.
    """
    unet = [key for key in weights if key.startswith(UNET)]
    places = {key: AVERAGED + key.removeprefix("model.").replace(".", "") for key in unet}
    without = [key for key, place in places.items() if place not in weights]
    if without:
        raise InputError(
            f"--ema: the checkpoint has no averages ({AVERAGED}...) of {len(without)} of "
            f"{len(places)} weights of the UNet, such as {without[0]}; leave --ema away."
        )
    others = {key: tensor for key, tensor in weights.items() if not key.startswith(AVERAGED)}
    return others | {key: weights[place] for key, place in places.items()}


def refuse_other_kind(weights: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint that is no latent diffusion model at all.

    Raises:
        InputError: without a single key of a UNet or a first stage.
    """
    for start, what in ((UNET, "UNet"), (FIRST_STAGE, "first stage")):
        if not any(key.startswith(start) for key in weights):
            raise InputError(
                f"the checkpoint is no latent diffusion model: it has no {what} ({start}...), but "
                f"{len(weights)} tensors such as {', '.join(list(weights)[:3])}."
            )


def _misfit(source: Source, wanted: Size, weights: Mapping[str, Tensor]) -> str | None:
    """The two shapes, if a source that is there has another shape than its target."""
    if source.key not in weights:
        return None
    thirds = 1 if source.third is None else 3
    expected, came = (wanted[0] * thirds, *wanted[1:]), tuple(weights[source.key].shape)
    if _pointwise(came) == _pointwise(expected):
        return None
    return f"is {list(came)} where the YAML says {list(expected)}"


def _pointwise(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A convolution over one point is a linear map: its weight without the trailing ones."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _take(source: Source, wanted: Size, weights: Mapping[str, Tensor]) -> Tensor:
    """A tensor of its own; of a joint projection, each head's q, k and v follow one another."""
    tensor = weights[source.key]
    if source.third is not None:
        heads = tensor.reshape(source.heads, 3, wanted[0] // source.heads, *wanted[1:])
        tensor = heads[:, source.third]
    return tensor.reshape(wanted).clone()
