"""What is kept beside a set's images, in bytes: a store of soft labels, a decoder of latents."""

from typing import Literal

import torch

from latentdc.priors.base import Prior


def soft_label_bytes(
    images: int,
    classes: int,
    *,
    epochs: int = 1,
    precision: Literal["float16", "uint8"] = "float16",
    top: int | None = None,
) -> int:
    """Bytes of soft labels as `label_store` keeps them, without safetensors' headers.

    2 bytes per logit, or 1 and a range (8 bytes) per image; with `top`, those of the largest
    logits, 4 for the class of each and 2 for the mean of the others.

    Args:
        images: N.
        classes: C.
        epochs: for which labels are kept; 1 for one fixed label per image.
        precision: of a logit.
        top: logits that are kept of each image, None for all.
    """
    kept = classes if top is None else min(top, classes)
    each = 2 * kept if precision == "float16" else kept + 8
    return images * epochs * (each if kept == classes else each + 4 * kept + 2)


def decoder_bytes(prior: Prior) -> int:
    """Bytes in float32 of the weights that turn latents into images; 0 for pixels.

    The encoder is left out: only a distillation needs it.
    """
    space = getattr(prior, "autoencoder", None)
    space = getattr(space, "autoencoder", space)
    denoiser = getattr(prior, "denoiser", None)
    modules = [space, *vars(denoiser or object).values()]
    weights = (
        weight.numel()
        for module in modules
        if isinstance(module, torch.nn.Module)
        for name, weight in module.named_parameters()
        if module is not space or not name.startswith(("encoder.", "quant_conv."))
    )
    return 4 * sum(weights)
