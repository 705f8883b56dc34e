"""Classifiers of real data with given weights, and what is asked of any; see scorer_training.py."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.errors import InputError, in_short, nearest
from latentdc.images import Images, contiguous, fetch, kind_of, place
from latentdc.networks import build_network
from latentdc.preprocessing import Standardization, Unwhitened
from latentdc.recipe import Scorer
from latentdc.recipe.labels import Teacher
from latentdc.recipe.networks import pretrained
from latentdc.recipe.subsets import imagenet_indices, wordnet_ids

AT_ONCE = 256  # images that a classifier sees together, without gradients
CHECKED = 2000  # real test images, drawn by key, on which a teacher must beat chance


class Classifier(nn.Module):
    """Images in [-1, 1] to logits of the data set's classes.

    Args:
        network: (B, 3, H, W) input -> (B, K) logits.
        prepare: (B, 3, H, W) images in [0, 1], or (B, D) vectors -> the network's input.
        columns: position of each class of the data set among the K; None where they are the same.
    """

    columns: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.prepare = prepare
        self.register_buffer("columns", None if columns is None else torch.tensor(columns))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images in [-1, 1], or (B, D) vectors -> (B, C) logits."""
        logits: Tensor = self.network(self.input_of(images))
        return self.restrict(logits)

    def input_of(self, images: Tensor) -> Tensor:
        """What the network sees of images in [-1, 1], or of vectors."""
        seen = self.prepare(images if kind_of(images) == "vectors" else (images + 1) / 2)
        return contiguous(seen)

    def restrict(self, logits: Tensor) -> Tensor:
        """(B, K) logits of the network -> (B, C) of the data set's classes."""
        return logits if self.columns is None else logits[:, self.columns]

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) images -> (B, C) logits and the (B, D) features that the last layer sees.

        Raises:
            InputError: the network does not end in a linear layer.
        """
        seen: list[Tensor] = []
        hook = self._head().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(images)
        finally:
            hook.remove()
        return logits, seen[-1].flatten(start_dim=1)

    @property
    def width(self) -> int:
        """D of `embed`."""
        return self._head().in_features

    def _head(self) -> nn.Linear:
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise InputError(
                f"the scorer {type(self.network).__name__} has no linear layer whose input could "
                "be its features; choose another prune.scorer.network, or bring prune.features."
            )
        return linear[-1]


def given_scorer(
    settings: Scorer | Teacher, data: Dataset, normalization: Unwhitened, key: str = "prune.scorer"
) -> Classifier:
    """A classifier with given weights, for the classes of a data set.

    Of weights for all 1000 classes of ImageNet, a smaller set's are found by WordNet id or name;
    others were trained in the class order of the data set. Torchvision's are given images that are
    resized and cropped as the weights were evaluated, unless `resolution` says otherwise, in a
    normalisation of their own. `key` is what named the settings, for messages.

    Raises:
        InputError: no such network or weights, weights of another network or number of classes, or
            weights for ImageNet, which lacks a class.
    """
    assert settings.weights is not None
    published = pretrained(settings.weights)
    if published is not None:
        return _torchvision_classifier(settings, published, data.class_names)
    count, columns = data.num_classes, None
    resolution = settings.resolution or data.resolution
    model = build_network(settings.network, num_classes=count, resolution=resolution)
    try:
        state = model.named(load_file(settings.weights))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{key}: cannot read the weights {settings.weights}: {error}") from error
    last = state.get("linear.weight")
    if last is not None and last.shape[0] == len(wordnet_ids()) != count:
        columns, count = imagenet_indices(data.class_names), len(wordnet_ids())
        model = build_network(settings.network, num_classes=count, resolution=resolution)
    for name, part in model.state_dict().items():
        if part.is_floating_point() and name in state and not state[name].is_floating_point():
            raise InputError(
                f"{key}: {name} in {settings.weights} is of {state[name].dtype}, and weights are "
                "floats; take a form of them that is not quantised."
            )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        why = in_short(error, None).partition(": ")[2]
        raise InputError(
            f"{settings.weights} does not fit {settings.network} with {count} classes; name the "
            f"network of these weights in {key}: {why[:300]}"
        ) from error
    return Classifier(model, preparation(resolution, normalization), columns)


def published_weights(network: str, published: str) -> Any:
    """A member of torchvision's enum of a classifier's weights.

    Raises:
        InputError: no such classifier or weights.
    """
    from torchvision import models  # takes a second

    known = models.list_models(module=models)
    if network not in known:
        raise InputError(
            f"torchvision has no classifier {network!r}{nearest(network, known) or '.'}"
        )
    # DEFAULT is one name more of one of them.
    members = models.get_model_weights(network).__members__
    if published not in members:
        raise InputError(
            f"torchvision has no weights {published!r} of {network}{nearest(published, members)}; "
            f"it has {', '.join(members)}."
        )
    return members[published]


def _torchvision_classifier(
    settings: Scorer | Teacher, published: str, class_names: Sequence[str]
) -> Classifier:
    """A classifier with `published` weights for ImageNet, restricted to a data set's classes."""
    from torchvision import models  # takes a second

    name, weights = settings.network, published_weights(settings.network, published)
    columns, size = imagenet_indices(class_names), settings.resolution
    try:
        model: nn.Module = models.get_model(name, weights=weights)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f"cannot load the weights of {name}: {error}; download {weights.url} and put it into "
            f"{folder}."
        ) from error
    changes = {"crop_size": size, "resize_size": size, "mean": settings.mean, "std": settings.std}
    prepare = weights.transforms(**{key: v for key, v in changes.items() if v is not None})
    whole = columns == list(range(len(wordnet_ids())))
    return Classifier(model, prepare, None if whole else columns)


def preparation(resolution: int, normalization: Unwhitened) -> Callable[[Tensor], Tensor]:
    """Turns (B, 3, H, W) images in [0, 1], or vectors, into the input of one of our networks."""
    if isinstance(normalization, Standardization):
        return normalization
    from torchvision.transforms import v2  # takes a second

    resize = v2.Resize([resolution, resolution], antialias=True)
    prepare: Callable[[Tensor], Tensor]
    prepare = v2.Compose([resize, v2.Normalize(normalization.mean, normalization.std)])
    return prepare


@torch.no_grad()
def real_accuracy(
    classifier: Callable[[Tensor], Tensor], images: Images, labels: Tensor, device: torch.device
) -> float:
    """Share of up to `CHECKED` real images (N, ...) that a classifier names rightly."""
    chosen = choose(len(labels), CHECKED, generator(0, "teacher check"))
    placed, right = place(images, device), 0
    for rows in chosen.chunk(-(-len(chosen) // AT_ONCE)):  # batch norms may ask for more than one
        logits = classifier(fetch(placed, rows, device))
        right += int((logits.argmax(dim=1).cpu() == labels[rows]).sum())
    return right / len(chosen)


def refuse_chance(accuracy: float, class_counts: Sequence[int], advice: str) -> None:
    """Refuse to score with a classifier that does hardly better than always naming one class.

    Its accuracy, in [0, 1], was measured on so many images of each class.
    """
    chance, least = least_accuracy(class_counts)
    if accuracy < least:
        raise InputError(
            f"the scorer is right on {accuracy:.2%} of the images and chance is {chance:.2%}, so "
            f"its losses say nothing (at least {least:.2%} is needed): {advice}."
        )


def least_accuracy(class_counts: Sequence[int]) -> tuple[float, float]:
    """The accuracy of always naming the largest class, and the least of a classifier to be used.

    A wrong class order or normalisation leaves a good classifier near the share of the largest
    class. It has to reach twice that share; with few classes, where twice would be too much to ask,
    a tenth of the way from it to 1 is enough.
    """
    chance = max(class_counts) / sum(class_counts)
    return chance, min(2 * chance, chance + 0.1 * (1 - chance))
