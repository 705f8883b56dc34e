"""How the frozen networks run: what their weights are kept in, and compiled by torch or not."""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from latentdc.errors import InputError
from latentdc.priors.denoisers import Denoiser
from latentdc.priors.precision import Precision, keep_in_bf16


def tune(
    networks: Sequence[nn.Module],
    device: torch.device,
    *,
    precision: Precision,
    channels_last: bool,
    compile: bool,
) -> None:
    """Change how `networks` run, in place; what they compute stays the same but for rounding.

    Args:
        networks: the denoiser and the decoder.
        device: where they run.
        precision: of the autocast that they will run under.
        channels_last: keep the weights of convolutions, and with them activations, in that layout.
        compile: run them through torch.compile.

    Raises:
        InputError: torch.compile does not work here.
    """
    if compile:
        _require_compiler(device)
    for network in networks:
        if precision == "bf16":
            keep_in_bf16(network)
        if channels_last:
            network.to(memory_format=torch.channels_last)
        if compile:
            network.compile(dynamic=False)  # one image is measured, many are decoded


def network_of(denoiser: Denoiser) -> nn.Module:
    """The network that a denoiser calls in every step."""
    network = getattr(denoiser, "unet", None) or getattr(denoiser, "transformer", None)
    assert isinstance(network, nn.Module), f"{type(denoiser).__name__} has no unet or transformer"
    return network


def _require_compiler(device: torch.device) -> None:
    """Compile something small, which needs all that compiling something large does."""
    probe = torch.compile(lambda x: (x + 1).sin())
    try:
        with warnings.catch_warnings(action="ignore"):
            probe(torch.ones(8, device=device))
    except Exception as error:  # the compiler's own, of many kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"prior.compile: torch.compile does not work on this machine's {device.type} "
            f"({reason[0]}); install the C++ compiler that it needs, or leave prior.compile out."
        ) from error
