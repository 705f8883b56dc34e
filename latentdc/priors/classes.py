"""Which label of a prior stands for which class of a data set, agreed by their names."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.priors.base import Prior
from latentdc.priors.folder import read_json
from latentdc.recipe.subsets import imagenet_index, imagenet_indices, wordnet_ids


def match_classes(names: tuple[str, ...], prior: Prior) -> Tensor:
    """(C,) labels of the prior for the classes of a data set.

    Equal names match, and so do names of one ImageNet class: `n01440764`, `tench, Tinca tinca` and
    `tench`, whichever side has which.

    Raises:
        InputError: a class that the prior does not know.
    """
    known = prior.class_names
    if known is None:
        return torch.arange(len(names))
    alike = {name: label for label, name in enumerate(known) if known.count(name) == 1}
    of_imagenet = _of_imagenet(known)
    labels = [
        of_imagenet.get(imagenet_index(name, position), alike.get(name))
        for position, name in enumerate(names)
    ]
    missing = [name for name, label in zip(names, labels, strict=True) if label is None]
    if missing:
        if len(of_imagenet) == len(wordnet_ids()):
            _refuse_strangers(names)
        raise InputError(
            f"the prior knows {len(known)} classes ({', '.join(known[:5])}, ...), but not "
            f"{missing[:5]} of the data set; use a prior trained on these classes, or "
            "prior.kind=autoencoder, which has none."
        )
    return torch.tensor(labels)


@cache
def _of_imagenet(known: tuple[str, ...]) -> dict[int | None, int]:
    """Label of the prior by ImageNet index, for those of its classes that are ImageNet's."""
    places = {imagenet_index(name, label): label for label, name in enumerate(known)}
    places.pop(None, None)
    return places


def _refuse_strangers(names: tuple[str, ...]) -> None:
    try:
        imagenet_indices(names)
    except InputError as error:
        raise InputError(f"the prior's classes are those of ImageNet: {error}") from error


def dit_classes(folder: Path, count: int) -> tuple[str, ...]:
    """Names of a DiT's classes by label, which its folder's model_index.json holds as `id2label`.

    1000 classes without names are ImageNet's.

    Raises:
        InputError: names that are not those of `count` labels, or none.
    """
    return _named(folder, (count,), f"the transformer of {folder} knows {count} classes")


def unet_classes(folder: Path, rows: int) -> tuple[str, ...]:
    """Names of the classes of a UNet2DModel by label, from where those of a DiT are.

    One name less than its class embedding has rows means that the last row stands for no class;
    1000 rows or 1001 without names are ImageNet's classes.

    Raises:
        InputError: other names, or none.
    """
    knows = f"the UNet of {folder} has {rows} class embeddings (the last one perhaps for no class)"
    return _named(folder, (rows, rows - 1), knows)


def _named(folder: Path, counts: tuple[int, ...], knows: str) -> tuple[str, ...]:
    index = folder / "model_index.json"
    names = read_json(index).get("id2label") if index.is_file() else None
    if not names and len(wordnet_ids()) in counts:
        return wordnet_ids()
    labels = [{*map(str, range(count))} for count in counts]
    texts = isinstance(names, dict) and all(isinstance(one, str) for one in names.values())
    if not isinstance(names, dict) or not texts or {*names} not in labels:
        found = len(names) if isinstance(names, dict) else 0
        raise InputError(
            f"{knows}, and model_index.json names {found}; write their names there, by label: "
            '"id2label": {"0": "...", ...}.'
        )
    return tuple(names[str(label)] for label in range(len(names)))
