"""Which denoiser lies in a prior's folder, and which classes it knows."""

from collections.abc import Mapping
from pathlib import Path

from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel

from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.classes import dit_classes
from latentdc.priors.clip import load_text_conditions
from latentdc.priors.components import load_component
from latentdc.priors.denoisers import ClassEmbedding, Denoiser, UNetDenoiser
from latentdc.priors.dit import DiTDenoiser, place_patches, require_one_table
from latentdc.priors.folder import find_part, read_config
from latentdc.priors.prompts import warn_of_alike
from latentdc.priors.text import TextDenoiser
from latentdc.priors.unconditional import UnconditionalDenoiser

Classes = tuple[str, ...] | None


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
        return UnconditionalDenoiser(load_component(UNet2DModel, part, device, seed)), None
    if name in ("DiTTransformer2DModel", "Transformer2DModel"):
        return _dit(folder, part, space, seed)
    if name == "UNet2DConditionModel" and (folder / "text_encoder").is_dir():
        return _text(folder, part, space, seed, prompts)
    if name == "UNet2DConditionModel":
        beside = find_part(folder, "class_embedding", "text_encoder")
        embedding = load_component(ClassEmbedding, beside, device)
        unet = load_component(UNet2DConditionModel, part, device, seed)
        return UNetDenoiser(unet, embedding), tuple(embedding.config["class_names"])
    raise InputError(
        f"{part} is a {name}; a denoiser is a UNet2DConditionModel with a class_embedding or a "
        "text_encoder, a DiTTransformer2DModel, or a UNet2DModel without classes."
    )


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
