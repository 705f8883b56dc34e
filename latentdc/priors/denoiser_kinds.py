"""Which denoiser lies in a prior's folder, and which classes it knows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel

from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.class_label import ClassDenoiser
from latentdc.priors.classes import dit_classes, unet_classes
from latentdc.priors.clip import load_text_conditions
from latentdc.priors.components import load_component
from latentdc.priors.denoisers import ClassEmbedding, Denoiser, UNetDenoiser
from latentdc.priors.dit import DiTDenoiser, place_patches, require_one_table
from latentdc.priors.folder import ENCODERS, TOKENIZERS, find_part, read_config
from latentdc.priors.prompts import warn_of_alike
from latentdc.priors.text import TextDenoiser
from latentdc.priors.unconditional import UnconditionalDenoiser
from latentdc.recipe.fields import show

Classes = tuple[str, ...] | None
Config = Mapping[str, Any]

# Keys of a UNet's config that ask for inputs beside latents, timestep and tokens; what each means.
FURTHER = {
    "class_embed_type": "an embedding beside the tokens",
    "num_class_embeds": "a class label beside the tokens",
    "addition_embed_type": "more embeddings",
    "encoder_hid_dim": "tokens of another encoder",
    "encoder_hid_dim_type": "tokens of another encoder",
    "time_cond_proj_dim": "an embedded guidance scale, as latent consistency models do",
    "dual_cross_attention": "the tokens of two encoders",
    "attention_type": "places of objects",
    "class_embeddings_concat": "an embedding beside the tokens",
}
WHOLE = ("in_channels", "out_channels", "num_class_embeds", "num_embeds_ada_norm", "patch_size")
USUAL = ("use a model such as Stable Diffusion 1.5, 2.1 or SDXL.", "use one of class tokens alone.")


def refuse_unfed(folder: Path, config: Config) -> None:
    """Refuse a denoiser of another class, or one with inputs that nobody here would feed.

    Args:
        folder: of the prior.
        config: of its denoiser.

    Raises:
        InputError: it is one.
    """
    _require_numbers(folder, config)
    name = config.get("_class_name")
    if name == "UNet2DModel":
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
    elif name == "UNet2DConditionModel":
        _refuse_further(folder, config)
    elif name in ("DiTTransformer2DModel", "Transformer2DModel"):
        plain = config.get("norm_type") == "ada_norm_zero" and config.get("num_embeds_ada_norm")
        if not plain or config.get("cross_attention_dim") is not None:
            raise InputError(
                f"the {name} of {folder} is no DiT, which takes class labels alone (norm_type is "
                "ada_norm_zero, without cross_attention_dim); use a prior such as "
                "facebook/DiT-XL-2-256."
            )
    else:
        raise InputError(
            f"the denoiser of {folder} is a {name}; known are a UNet2DConditionModel with a "
            "class_embedding or a text_encoder, a DiTTransformer2DModel, and a UNet2DModel."
        )


def _require_numbers(folder: Path, config: Config) -> None:
    """Refuse sizes of a denoiser that are no whole numbers."""
    sizes = {key: [config.get(key)] for key in WHOLE}
    own, widths = config.get("sample_size"), config.get("block_out_channels", [1])
    sizes["sample_size"] = own if isinstance(own, list) else [own]
    sizes["block_out_channels"] = widths if isinstance(widths, list) else []
    for key, values in sizes.items():
        if not values or any(value is not None and type(value) is not int for value in values):
            raise InputError(
                f"the denoiser of {folder} has {key}={show(config.get(key))} in its config.json, "
                "which is no whole number; fetch it again."
            )


def _refuse_further(folder: Path, config: Config) -> None:
    text = (folder / "text_encoder").is_dir()
    fed = {"attention_type": "default"}
    if text:
        fed["addition_embed_type"] = "text_time"
    for key, meaning in FURTHER.items():
        value = config.get(key)
        if value is not None and value is not False and value != fed.get(key):  # 0 rows are some
            raise InputError(
                f"the UNet of {folder} has {key}={value}: it wants more than a "
                f"{'text' if text else 'class token'}, namely {meaning}; {USUAL[not text]}"
            )


def refuse_guidance(folder: Path, config: Config, guidance: float) -> None:
    """Refuse to guide a denoiser that has nothing to guide by.

    Args:
        folder: of the prior.
        config: of its denoiser.
        guidance: scale.

    Raises:
        InputError: guidance other than 1, without classes or without a condition for none of them.
    """
    if guidance == 1 or config.get("_class_name") != "UNet2DModel":
        return
    rows = config.get("num_class_embeds")
    if rows is None:
        what = f"guidance on an unconditional prior: {folder} has no classes to guide by"
    elif len(unet_classes(folder, rows)) == rows:
        what = f"guidance on a prior without a null class: all {rows} rows of {folder} are classes"
    else:
        return
    raise InputError(f"{what}, got prior.guidance={guidance:g}; set prior.guidance=1.")


def denoiser_parts(folder: Path) -> list[Path]:
    """The parts of a prior that its denoiser and conditions are made of, that one first.

    Raises:
        InputError: one is missing.
    """
    part = find_part(folder, "unet", "transformer")
    config = read_config(part)
    if config.get("_class_name") != "UNet2DConditionModel":
        return [part]
    if not (folder / "text_encoder").is_dir():
        return [part, find_part(folder, "class_embedding", "text_encoder")]
    count = 1 + (config.get("addition_embed_type") == "text_time")
    encoders = [find_part(folder, name) for name in ENCODERS[:count]]
    return [part, *encoders, *(folder / name for name in TOKENIZERS[:count])]


def load_denoiser(
    folder: Path,
    space: AutoencoderPrior,
    *,
    seed: int | None,
    prompts: Mapping[str, str] | None,
) -> tuple[Denoiser, Classes]:
    """The denoiser of a prior's folder, and the classes that its conditions start from.

    Args:
        folder: of the prior.
        space: whose latents it denoises, on the device that it goes to; `meta` for outlines.
        seed: of weights to draw in place of the folder's; None reads those.
        prompts: of the data set's classes, for a text-conditional one.

    Raises:
        InputError: missing, incomplete or of another class; no prompts for a text-conditional one.
    """
    part, device = find_part(folder, "unet", "transformer"), space.device
    name = read_config(part).get("_class_name")
    if name == "UNet2DModel":
        return _plain_unet(folder, part, space, seed)
    if name in ("DiTTransformer2DModel", "Transformer2DModel"):
        return _dit(folder, part, space, seed)
    if name == "UNet2DConditionModel" and (folder / "text_encoder").is_dir():
        return _text(folder, part, space, seed, prompts)
    embedding = load_component(ClassEmbedding, find_part(folder, "class_embedding"), device)
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


def _plain_unet(
    folder: Path, part: Path, space: AutoencoderPrior, seed: int | None
) -> tuple[Denoiser, Classes]:
    """A UNet2DModel, with classes or without."""
    rows = read_config(part).get("num_class_embeds")
    if rows is None:
        return UnconditionalDenoiser(load_component(UNet2DModel, part, space.device, seed)), None
    classes = unet_classes(folder, rows)
    unet = load_component(UNet2DModel, part, space.device, seed)
    return ClassDenoiser(unet, null=len(classes) < rows), classes


def _dit(
    folder: Path, part: Path, space: AutoencoderPrior, seed: int | None
) -> tuple[Denoiser, Classes]:
    classes = dit_classes(folder, read_config(part)["num_embeds_ada_norm"])
    transformer = load_component(DiTTransformer2DModel, part, space.device, seed)
    if seed is None:
        require_one_table(transformer)
    place_patches(transformer.pos_embed, space.latent_shape[1])
    return DiTDenoiser(transformer), classes


def _text(
    folder: Path,
    part: Path,
    space: AutoencoderPrior,
    seed: int | None,
    prompts: Mapping[str, str] | None,
) -> tuple[Denoiser, Classes]:
    texts = load_text_conditions(folder, read_config(part), prompts, space.device)
    warn_of_alike(prompts or {})
    unet = load_component(UNet2DConditionModel, part, space.device, seed)
    known = None if prompts is None else tuple(prompts)
    return TextDenoiser(unet, texts, resolution=space.resolution), known
