"""Denoising networks of diffusers with a learnable class condition, behind one call.

Each is frozen and put into eval mode. What a class was to it, a label or the tokens of a prompt, is
replaced by a condition of T tokens of width D, which starts from that class's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from latentdc.errors import InputError
from latentdc.priors.base import Denoiser
from latentdc.priors.clip import TextConditions


class ClassEmbedding(ModelMixin, ConfigMixin):
    """One learned token per class and a last one for no class, as in class-conditional LDM."""

    @register_to_config
    def __init__(self, class_names: Sequence[str], width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(class_names) + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) labels, the number of classes meaning none -> (B, 1, width)."""
        tokens: Tensor = self.embedding(labels)
        return tokens[:, None]


class UNetDenoiser:
    """UNet2DConditionModel attending to one class token (LDM's cin256 has this form)."""

    def __init__(self, unet: UNet2DConditionModel, embedding: ClassEmbedding) -> None:
        self.network = unet.eval().requires_grad_(False)
        self.embedding = embedding.eval().requires_grad_(False)
        classes = len(embedding.config["class_names"])
        self.null = self.embedding(torch.tensor([classes], device=unet.device))

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, 1, D)."""
        tokens: Tensor = self.embedding(labels)
        return tokens

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        prediction: Tensor = self.network(x, timestep, encoder_hidden_states=context).sample
        return prediction


class TextDenoiser:
    """UNet2DConditionModel attending to the tokens of CLIP's text encoders (SD, SDXL).

    A class's condition starts from its prompt, and every token of it is learned. SDXL's pooled
    embedding is learned too, as the last of the tokens; the size that SDXL is told is the images'.
    """

    def __init__(
        self, unet: UNet2DConditionModel, texts: TextConditions, *, resolution: int
    ) -> None:
        self.network = unet.eval().requires_grad_(False)
        self.rows = texts.rows
        self.null = texts.null.to(unet.device)
        self.pooled = texts.pooled
        size = (resolution, resolution)  # original, then crop's corner, then target
        self.time_ids = torch.tensor([(*size, 0, 0, *size)], device=unet.device)

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, T, D)."""
        return self.rows[labels.to(self.rows.device)].to(labels.device)

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        assert context is not None
        tokens, added = context, None
        if self.pooled is not None:
            tokens = context[:, :-1]
            pooled = context[:, -1, : self.pooled]
            added = {"text_embeds": pooled, "time_ids": self.time_ids.expand(len(x), -1)}
        prediction: Tensor = self.network(
            x, timestep, encoder_hidden_states=tokens, added_cond_kwargs=added
        ).sample
        return prediction


class ClassDenoiser:
    """A network with a row of a table for each class: UNet2DModel, or a DiT.

    In a UNet2DModel the row is added to the embedding of the timestep. The released DiTs (Peebles
    and Xie, ICCV 2023, https://arxiv.org/abs/2212.09748) hold one table, repeated in every block;
    the condition enters where that table's rows entered: in each block and, through the first
    block's copy, in the output layer.

    Args:
        network: without its table, so that it takes rows in place of labels.
        table: (rows, D).
        null: whether its last row stands for no class; without one, there is nothing to guide by.
    """

    def __init__(self, network: nn.Module, table: Tensor, *, null: bool = True) -> None:
        self.network = network.eval().requires_grad_(False)
        self.table = table
        last = table[-1] if null else torch.zeros_like(table[-1])
        self.null = last.view(1, 1, -1)

    def condition(self, labels: Tensor) -> Tensor:
        """(B,) labels -> (B, 1, D)."""
        return self.table[labels][:, None]

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One call of the network."""
        assert context is not None
        timesteps = timestep.expand(len(x))
        prediction: Tensor = self.network(x, timesteps, class_labels=context[:, 0]).sample
        return prediction


class UnconditionalDenoiser:
    """UNet2DModel without classes, such as LDM's for faces (FFHQ): latents alone are optimised."""

    def __init__(self, unet: UNet2DModel) -> None:
        self.network = unet.eval().requires_grad_(False)
        self.null = torch.zeros(1, 0, 0, device=unet.device)

    def condition(self, labels: Tensor) -> None:
        """None: labels make no difference."""

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor | None) -> Tensor:
        """One UNet call."""
        prediction: Tensor = self.network(x, timestep).sample
        return prediction


class _Reached(Exception):
    """The middle of a network, whose rest need not run."""


def middle_features(
    denoiser: Denoiser, x: Tensor, timestep: Tensor, context: Tensor | None
) -> Tensor:
    """What the middle block of a denoiser makes; nothing after it runs.

    The `mid_block` of a UNet, (B, D, h', w'); of a DiT's n blocks the one with index n // 2,
    (B, N, D).

    Raises:
        InputError: a network without such a block, or a compiled one.
    """
    network: Any = denoiser.network
    blocks = getattr(network, "transformer_blocks", None)
    middle = blocks[len(blocks) // 2] if blocks else getattr(network, "mid_block", None)
    if middle is None:
        raise InputError(
            f"features are those of the middle block of a UNet or a DiT, and this "
            f"{type(network).__name__} has none; take another prior."
        )
    if network._compiled_call_impl is not None:
        raise InputError("features need a network that is not compiled; set prior.compile=false.")
    found: list[Tensor] = []

    def reach(_: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output)
        raise _Reached

    hook = middle.register_forward_hook(reach)
    try:
        denoiser(x, timestep, context)
    except _Reached:
        pass
    finally:
        hook.remove()
    return found[0]
