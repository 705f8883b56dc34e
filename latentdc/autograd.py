"""Gradients for whatever trains, even where the caller has switched them off."""

from collections.abc import Callable
from typing import TypeVar

import torch

F = TypeVar("F", bound=Callable[..., object])


def with_gradients(function: F) -> F:
    """The function as it is outside of `torch.no_grad()` and `torch.inference_mode()`.

    Tensors that are made in inference mode can never be trained with, so that loading has it too.
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))
