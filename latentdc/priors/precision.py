"""bf16 for the networks alone: latents, schedule, codes and images stay in float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

Precision = Literal["no", "bf16", "float32"]


def network_autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bf16 or float32 around a network; with `no`, whatever autocast is on already."""
    if precision == "no" or device.type == "meta":  # where nothing is computed
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def keep_in_bf16(network: nn.Module) -> None:
    """Store the weights of linear layers and convolutions as autocast would cast them.

    Autocast remembers its casts of trainable weights alone; frozen ones it casts again at every
    call, and a graph keeps each of these copies. Stored in bf16 they are cast once, and the
    results are the same bits. Norms and embeddings stay in float32.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.to(torch.bfloat16)
