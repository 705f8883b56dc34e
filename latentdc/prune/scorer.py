"""Scorers with given weights: a safetensors file of one of our networks, or a torchvision model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import v2

from latentdc.config import nearest
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Plain, Standardization
from latentdc.networks import build_network
from latentdc.prune.classifier import Classifier
from latentdc.recipe import Scorer
from latentdc.recipe.networks import pretrained
from latentdc.recipe.subsets import imagenet_indices, wordnet_ids


def given_scorer(scorer: Scorer, train: Dataset, normalization: Plain) -> Classifier:
    """The scorer whose weights a recipe names, for the classes of `train`.

    Raises:
        InputError: as `load_scorer` and `torchvision_scorer`.
    """
    assert scorer.weights is not None
    brought = pretrained(scorer.weights)
    if brought is not None:
        return torchvision_scorer(
            scorer.network,
            brought,
            class_names=train.class_names,
            resolution=scorer.resolution,
            mean=scorer.mean,
            std=scorer.std,
        )
    return load_scorer(
        scorer.network,
        Path(scorer.weights),
        class_names=train.class_names,
        resolution=scorer.resolution or train.resolution,
        normalization=normalization,
    )


def load_scorer(
    network: str,
    weights: Path,
    *,
    class_names: Sequence[str],
    resolution: int,
    normalization: Plain,
    key: str = "prune.scorer",
) -> Classifier:
    """One of latentdc's networks with the weights of a safetensors file.

    Args:
        network: its name, such as `resnet56` or `torchvision/mobilenet_v2`.
        weights: the file; its keys and shapes must be those of the network, or torchvision's own.
        class_names: of the data set, in whose class order the weights were trained; of weights for
            all 1000 classes of ImageNet, a smaller set's are found by WordNet id or name.
        resolution: in pixels, to which images are resized.
        normalization: that the weights expect.
        key: of the recipe or protocol that named them, for messages.

    Raises:
        InputError: no such file, weights of another network or number of classes, or weights for
            ImageNet, which lacks a class.
    """
    count, columns = len(class_names), None
    model = build_network(network, num_classes=count, resolution=resolution)
    try:
        state = model.named(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{key}: cannot read the weights {weights}: {error}") from error
    if _outputs(state) == len(wordnet_ids()) != count:
        columns, count = imagenet_indices(class_names), len(wordnet_ids())
        model = build_network(network, num_classes=count, resolution=resolution)
    if differences := _differences(model.state_dict(), state):
        raise InputError(
            f"{weights} does not fit {network} with {count} classes: {differences}; name the "
            f"network of these weights in {key}."
        )
    model.load_state_dict(state)
    return Classifier(model, preparation(resolution, normalization), columns)


def _outputs(state: Mapping[str, Tensor]) -> int | None:
    """Classes of weights, as far as their last layer says."""
    last = state.get("linear.weight")
    return None if last is None else last.shape[0]


def torchvision_scorer(
    name: str,
    weights: str = "DEFAULT",
    *,
    class_names: Sequence[str],
    resolution: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """A torchvision classifier with its ImageNet weights, restricted to the given classes.

    Args:
        name: as torchvision knows it, such as `resnet18`.
        weights: as torchvision knows them, such as `IMAGENET1K_V1`.
        class_names: of the data set: WordNet ids or names of ImageNet classes.
        resolution: in pixels; None resizes and crops as the weights were evaluated.
        mean: None takes that of the weights.
        std: likewise.

    Raises:
        InputError: unknown model, weights or class, or weights that are neither here nor to be had.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no classifier {name!r}{nearest(name, known)}.")
    columns = imagenet_indices(class_names)
    brought = models.get_model_weights(name).__members__  # DEFAULT is one name more of one of them
    if weights not in brought:
        raise InputError(
            f"torchvision has no weights {weights!r} of {name}{nearest(weights, brought)}; it has "
            f"{', '.join(brought)}."
        )
    given_weights = brought[weights]
    model = _with_weights(name, given_weights)
    given = {"crop_size": resolution, "resize_size": resolution, "mean": mean, "std": std}
    prepare = given_weights.transforms(**{key: v for key, v in given.items() if v is not None})
    whole = columns == list(range(len(wordnet_ids())))
    return Classifier(model, prepare, None if whole else columns)


def preparation(resolution: int, normalization: Plain) -> Callable[[Tensor], Tensor]:
    """From (B, 3, H, W) images in [0, 1], or from vectors, to the input of one of our networks."""
    if isinstance(normalization, Standardization):
        return normalization
    resize = v2.Resize([resolution, resolution], antialias=True)
    prepare: Callable[[Tensor], Tensor]
    prepare = v2.Compose([resize, v2.Normalize(normalization.mean, normalization.std)])
    return prepare


def _with_weights(name: str, weights: models.WeightsEnum) -> nn.Module:
    try:
        model: nn.Module = models.get_model(name, weights=weights)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f"cannot load the weights of {name}: {error}; download {weights.url} and put it into "
            f"{folder}."
        ) from error
    return model


def _differences(ours: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """In words, or empty where the weights fit."""
    counters = {key for key in ours if key.endswith("num_batches_tracked")}  # older files lack them
    missing = sorted(ours.keys() - given.keys() - counters)
    surplus = sorted(given.keys() - ours.keys())
    shapes = [
        f"{key} has shape {tuple(given[key].shape)} instead of {tuple(ours[key].shape)}"
        for key in ours
        if key in given and given[key].shape != ours[key].shape
    ]
    found = [f"{len(missing)} weights are missing ({', '.join(missing[:3])})"] if missing else []
    found += [f"{len(surplus)} are unknown ({', '.join(surplus[:3])})"] if surplus else []
    return ", ".join(found + shapes[:3])
