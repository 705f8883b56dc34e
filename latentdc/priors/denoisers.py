"""Denoising networks of diffusers with a learnable class condition, behind one call.

Each is frozen and put into eval mode. What a class was to it, a label or the tokens of a prompt, is
replaced by a condition of T tokens of width D, which starts from that class's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import PatchEmbed, get_2d_sincos_pos_embed
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.base import Denoiser
from latentdc.priors.classes import dit_classes, unet_classes, warn_of_alike
from latentdc.priors.clip import TextConditions, load_text_conditions
from latentdc.priors.components import load_component
from latentdc.recipe.fields import show

Classes = tuple[str, ...] | None


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
        network: without its table, see `without_table`.
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


def load_denoiser(
    folder: Path,
    parts: Sequence[Path],
    config: Mapping[str, Any],
    space: AutoencoderPrior,
    *,
    seed: int | None,
    prompts: Mapping[str, str] | None,
) -> tuple[Denoiser, Classes]:
    """The denoiser of a prior's folder, and the classes that its conditions start from.

    Args:
        folder: of the prior.
        parts: of the denoiser, that one first, and of its conditions.
        config: of the denoiser.
        space: whose latents it denoises, on the device that it goes to; `meta` for outlines.
        seed: of weights to draw in place of the folder's; None reads those.
        prompts: of the data set's classes, for a text-conditional one.

    Raises:
        InputError: missing, incomplete or of another class; no prompts for a text-conditional one.
    """
    part, device = parts[0], space.device
    if config.get("_class_name") == "UNet2DModel":
        rows: int | None = config.get("num_class_embeds")
        if rows is None:
            return UnconditionalDenoiser(load_component(UNet2DModel, part, device, seed)), None
        classes = unet_classes(folder, rows)
        unet = load_component(UNet2DModel, part, device, seed)
        return ClassDenoiser(*without_table(unet), null=len(classes) < rows), classes
    if config.get("_class_name") in ("DiTTransformer2DModel", "Transformer2DModel"):
        classes = dit_classes(folder, config["num_embeds_ada_norm"])
        transformer = load_component(DiTTransformer2DModel, part, device, seed)
        if seed is None:
            _require_one_table(transformer)
        place_patches(transformer.pos_embed, space.latent_shape[1])
        return ClassDenoiser(*without_table(transformer)), classes
    if (folder / "text_encoder").is_dir():
        texts = load_text_conditions(folder, config, prompts, device)
        warn_of_alike(prompts or {})
        unet = load_component(UNet2DConditionModel, part, device, seed)
        known = None if prompts is None else tuple(prompts)
        return TextDenoiser(unet, texts, resolution=space.resolution), known
    embedding = load_component(ClassEmbedding, parts[1], device)
    unet = load_component(UNet2DConditionModel, part, device, seed)
    widths, own = unet.config["cross_attention_dim"], embedding.config["width"]
    if {own} != ({*widths} if isinstance(widths, list | tuple) else {widths}):
        raise InputError(
            f"the UNet of {folder} attends to tokens of width {widths}, and its class_embedding "
            f"makes them {own} wide; they are not of one model."
        )
    names = embedding.config["class_names"]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"the class_embedding of {folder} has class_names={show(names)} in its config.json, "
            "which are a list of texts."
        )
    return UNetDenoiser(unet, embedding), tuple(names)


def without_table(network: Any) -> tuple[Any, Tensor]:
    """A UNet2DModel or a DiT that takes rows in place of labels, and the table of these rows."""
    if isinstance(network, UNet2DModel):
        table: Tensor = network.class_embedding.weight
        network.class_embedding = nn.Identity()
        return network, table
    table = _tables(network)[0]
    for block in network.transformer_blocks:
        block.norm1.emb.class_embedder = nn.Identity()
    return network, table


def place_patches(patches: PatchEmbed, size: int) -> None:
    """Spread the positions that a DiT was trained with, in place, over latents of another side.

    Once here, where diffusers would do the same in every call. A grid of n patches has the
    positions 0, N/n, 2N/n, ... of the N that the DiT was made for.
    """
    grid = size // patches.patch_size
    positions = get_2d_sincos_pos_embed(
        patches.pos_embed.shape[-1],
        (grid, grid),
        base_size=patches.base_size,
        interpolation_scale=patches.interpolation_scale,
        device=patches.pos_embed.device,
        output_type="pt",
    )
    patches.pos_embed = positions.to(patches.pos_embed.dtype)[None]
    patches.height = patches.width = grid


def _require_one_table(transformer: DiTTransformer2DModel) -> None:
    """Refuse blocks whose class embeddings differ, which one condition cannot stand for."""
    tables = [table for table in _tables(transformer) if table.device.type != "meta"]
    if not all(table.equal(tables[0]) for table in tables):
        raise InputError(
            "the blocks of this DiT have class embeddings that differ, and a learnable condition "
            "takes the place of a single one; use weights in which they are alike, such as "
            "facebook/DiT-XL-2-256."
        )


def _tables(transformer: DiTTransformer2DModel) -> list[Tensor]:
    return [
        block.norm1.emb.class_embedder.embedding_table.weight
        for block in transformer.transformer_blocks
    ]
