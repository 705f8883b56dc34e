"""Denoising networks of diffusers with a learnable class condition, behind one call.

Each is frozen and put into eval mode. What a class was to it, a label or the tokens of a prompt, is
replaced by a condition of T tokens of width D, which starts from that class's own.

`DENOISERS` has a function for each kind of network. It refuses what is known to go wrong while only
configs are read, and returns a plan, which reads the weights when its turn comes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from latentdc.priors.classes import class_prompts, warn_of_alike
from latentdc.priors.clip import TextConditions, load_text_conditions
from latentdc.priors.components import load_component
from latentdc.priors.files import ENCODERS, TOKENIZERS, find_part, read_config, read_index
from latentdc.recipe import PriorSettings, subsets
from latentdc.recipe.fields import show

Config = Mapping[str, Any]
Names = Sequence[str] | None
Loaded = tuple[Denoiser, tuple[str, ...] | None]  # and the classes that its conditions start from

_EXTRA_INPUTS = (  # keys of a UNet's config that ask for more than latents, timestep and tokens
    *("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim"),
    *("encoder_hid_dim_type", "time_cond_proj_dim", "dual_cross_attention", "attention_type"),
    "class_embeddings_concat",
)


@dataclass(frozen=True)
class DenoiserPlan:
    """A denoiser of which no weights are read yet.

    Attributes:
        config: of its network.
        parts: folders that it and its conditions are read from, the network's first.
        load: (space, seed, class names) -> denoiser and its classes; refuses what is missing,
            incomplete or not of one model. It denoises latents of `space`, on its device (`meta`
            for outlines). With a seed the network's weights are drawn in place of the folder's. The
            class names are the data set's, if they are known.
        float32: whether the autoencoder beside it overflows in bf16.
    """

    config: Config
    parts: list[Path]
    load: Callable[[AutoencoderPrior, int | None, Names], Loaded]
    float32: bool = False


def plan_denoiser(folder: Path, settings: PriorSettings) -> DenoiserPlan:
    """The denoiser in a prior's folder, refused where its configs show it to be unknown."""
    part = find_part(folder, "unet", "transformer")
    config = read_config(part)
    kind = str(config.get("_class_name"))
    if kind == "UNet2DConditionModel" and (folder / "text_encoder").is_dir():
        kind = "UNet2DConditionModel of texts"
    if kind not in DENOISERS:
        raise InputError(
            f"the denoiser of {folder} is a {kind}; known are a UNet2DConditionModel with a "
            "class_embedding or a text_encoder, a DiTTransformer2DModel, and a UNet2DModel."
        )
    return DENOISERS[kind](folder, part, config, settings)


# ---- UNet2DModel: a row for each class is added to the timestep; or no classes ----


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


def _class_unet(folder: Path, part: Path, config: Config, settings: PriorSettings) -> DenoiserPlan:
    rows: int | None = config.get("num_class_embeds")
    if (kind := config.get("class_embed_type")) is not None:
        raise InputError(
            f"the UNet of {folder} has class_embed_type={kind}: it wants an embedding that it "
            "does not hold; a class-conditional UNet2DModel has num_class_embeds alone."
        )
    if config.get("time_embedding_type") == "fourier":
        raise InputError(
            f"the UNet of {folder} has time_embedding_type=fourier: it divides its input by "
            "the scale of the noise, of a process whose signal does not fade; use a prior "
            "that was trained on timesteps, with time_embedding_type=positional."
        )
    if settings.guidance != 1:
        _require_null(folder, rows, settings.guidance)

    def load(space: AutoencoderPrior, seed: int | None, class_names: Names) -> Loaded:
        classes = None if rows is None else _row_classes(folder, rows)
        unet = load_component(UNet2DModel, part, space.device, seed)
        if rows is None or classes is None:
            return UnconditionalDenoiser(unet), None
        table: Tensor = unet.class_embedding.weight
        unet.class_embedding = nn.Identity()
        return ClassDenoiser(unet, table, null=len(classes) < rows), classes

    return DenoiserPlan(config, [part], load)


def _require_null(folder: Path, rows: int | None, guidance: float) -> None:
    """Refuse to guide without classes, or without a condition for none of them."""
    if rows is None:
        what = f"guidance on an unconditional prior: {folder} has no classes to guide by"
    elif len(_row_classes(folder, rows)) == rows:
        what = f"guidance on a prior without a null class: all {rows} rows of {folder} are classes"
    else:
        return
    raise InputError(f"{what}, got prior.guidance={guidance:g}; set prior.guidance=1.")


def _row_classes(folder: Path, rows: int) -> tuple[str, ...]:
    """One name less than there are rows means that the last row stands for no class."""
    knows = f"the UNet of {folder} has {rows} class embeddings (the last one perhaps for no class)"
    return _class_names(folder, (rows, rows - 1), knows)


def _class_names(folder: Path, counts: tuple[int, ...], knows: str) -> tuple[str, ...]:
    """Names of a prior's classes by label, which its model_index.json holds as `id2label`.

    1000 classes without names are ImageNet's; other names, or none, are refused.
    """
    names = read_index(folder).get("id2label")
    if not names and len(subsets.wordnet_ids()) in counts:
        return subsets.wordnet_ids()
    labels = [{*map(str, range(count))} for count in counts]
    texts = isinstance(names, dict) and all(isinstance(one, str) for one in names.values())
    if not isinstance(names, dict) or not texts or {*names} not in labels:
        found = len(names) if isinstance(names, dict) else 0
        raise InputError(
            f"{knows}, and model_index.json names {found}; write their names there, by label: "
            '"id2label": {"0": "...", ...}.'
        )
    return tuple(names[str(label)] for label in range(len(names)))


# ---- UNet2DConditionModel: attends to one class token, or to the tokens of a prompt ----


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


def _token_unet(folder: Path, part: Path, config: Config, settings: PriorSettings) -> DenoiserPlan:
    token_part = find_part(folder, "class_embedding", "text_encoder")
    _refuse_extra_inputs(folder, config, "class token", {"attention_type": "default"})

    def load(space: AutoencoderPrior, seed: int | None, class_names: Names) -> Loaded:
        embedding = load_component(ClassEmbedding, token_part, space.device)
        unet = load_component(UNet2DConditionModel, part, space.device, seed)
        widths, own = unet.config["cross_attention_dim"], embedding.config["width"]
        if {own} != ({*widths} if isinstance(widths, list | tuple) else {widths}):
            raise InputError(
                f"the UNet of {folder} attends to tokens of width {widths}, and its "
                f"class_embedding makes them {own} wide; they are not of one model."
            )
        names = embedding.config["class_names"]
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise InputError(
                f"the class_embedding of {folder} has class_names={show(names)} in its "
                "config.json, which are a list of texts."
            )
        return UNetDenoiser(unet, embedding), tuple(names)

    return DenoiserPlan(config, [part, token_part], load)


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


def _text_unet(folder: Path, part: Path, config: Config, settings: PriorSettings) -> DenoiserPlan:
    double = config.get("addition_embed_type") == "text_time"  # SDXL
    encoders = [find_part(folder, name) for name in ENCODERS[: 1 + double]]
    fed = {"attention_type": "default", "addition_embed_type": "text_time"}
    _refuse_extra_inputs(folder, config, "text", fed)

    def load(space: AutoencoderPrior, seed: int | None, class_names: Names) -> Loaded:
        names = None if class_names is None else tuple(class_names)
        prompts = None if names is None else class_prompts(names, settings.prompt, settings.names)
        texts = load_text_conditions(folder, encoders, config, prompts, space.device)
        warn_of_alike(prompts or {})
        unet = load_component(UNet2DConditionModel, part, space.device, seed)
        return TextDenoiser(unet, texts, resolution=space.resolution), names

    tokenizers = [folder / name for name in TOKENIZERS[: 1 + double]]
    return DenoiserPlan(config, [part, *encoders, *tokenizers], load, float32=double)


def _refuse_extra_inputs(folder: Path, config: Config, told: str, fed: Config) -> None:
    """Refuse a UNet with inputs that nobody here would feed; `fed` are values that are."""
    for key in _EXTRA_INPUTS:
        value = config.get(key)
        if value is not None and value is not False and value != fed.get(key):  # 0 rows are some
            raise InputError(
                f"the UNet of {folder} has {key}={value}: it wants more than a {told}; use a model "
                "such as Stable Diffusion 1.5, 2.1 or SDXL, or one of class tokens alone."
            )


# ---- DiT: a row for each class enters every block ----


def _dit(folder: Path, part: Path, config: Config, settings: PriorSettings) -> DenoiserPlan:
    plain = config.get("norm_type") == "ada_norm_zero" and config.get("num_embeds_ada_norm")
    if not plain or config.get("cross_attention_dim") is not None:
        raise InputError(
            f"the {config['_class_name']} of {folder} is no DiT, which takes class labels alone "
            "(norm_type is ada_norm_zero, without cross_attention_dim); use a prior such as "
            "facebook/DiT-XL-2-256."
        )

    def load(space: AutoencoderPrior, seed: int | None, class_names: Names) -> Loaded:
        count = config["num_embeds_ada_norm"]
        knows = f"the transformer of {folder} knows {count} classes"
        classes = _class_names(folder, (count,), knows)
        transformer = load_component(DiTTransformer2DModel, part, space.device, seed)
        if seed is None:
            _require_one_table(transformer)
        place_patches(transformer.pos_embed, space.latent_shape[1])
        return ClassDenoiser(*without_table(transformer)), classes

    return DenoiserPlan(config, [part], load)


def without_table(transformer: DiTTransformer2DModel) -> tuple[DiTTransformer2DModel, Tensor]:
    """The network itself, which now takes rows in place of labels, and the table of these rows."""
    table = _tables(transformer)[0]
    for block in transformer.transformer_blocks:
        block.norm1.emb.class_embedder = nn.Identity()
    return transformer, table


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


DENOISERS: dict[str, Callable[[Path, Path, Config, PriorSettings], DenoiserPlan]] = {
    "UNet2DModel": _class_unet,
    "UNet2DConditionModel": _token_unet,
    "UNet2DConditionModel of texts": _text_unet,
    "DiTTransformer2DModel": _dit,
    "Transformer2DModel": _dit,
}
"""By the class in the network's config: (prior's folder, network's, config, settings) -> plan."""
