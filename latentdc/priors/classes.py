"""What classes are called: by a data set, by a prior, and in a prompt."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from latentdc.arguments import one_form
from latentdc.errors import InputError
from latentdc.priors.base import Prior
from latentdc.ranks import warn
from latentdc.recipe import subsets


def match_classes(
    names: tuple[str, ...],
    prior: Prior,
    advice: str = "use a prior trained on these classes, or prior.kind=autoencoder, which has none",
) -> Tensor:
    """(C,) labels of the prior for the classes of a data set; `advice` is for who has others.

    Equal names match, and so do names of one ImageNet class: `n01440764`, `tench, Tinca tinca` and
    `tench`, whichever side has which.

    Raises:
        InputError: a class that the prior does not know.
    """
    known = prior.class_names
    if known is None:
        return torch.arange(len(names))
    known = tuple(map(one_form, known))
    alike = {name: label for label, name in enumerate(known) if known.count(name) == 1}
    found = subsets.imagenet_matches(names, known)
    labels = [
        alike.get(name) if label is None else label
        for name, label in zip(names, found, strict=True)
    ]
    missing = [name for name, label in zip(names, labels, strict=True) if label is None]
    if missing:
        if len(subsets.imagenet_places(tuple(known))) == len(subsets.wordnet_ids()):
            try:
                subsets.imagenet_indices(names)
            except InputError as error:
                raise InputError(f"the prior's classes are those of ImageNet: {error}") from error
        raise InputError(
            f"the prior knows {len(known)} classes ({', '.join(known[:5])}, ...), but not "
            f"{missing[:5]} of the data set; {advice}."
        )
    return torch.tensor(labels)


def class_prompts(
    class_names: Sequence[str], template: str, names: Mapping[str, str]
) -> dict[str, str]:
    """The prompt of every class of a data set, by its name there.

    `{}` of the template is the class: what `names` has for it, or else the first synonym of its
    name (words, synonyms divided by commas, or a WordNet id).
    """
    spoken = {name: names.get(name, spoken_name(name)) for name in class_names}
    return {name: template.format(word) for name, word in spoken.items()}


def spoken_name(class_name: str) -> str:
    """The first synonym of a class, in words: `n01440764` and `tench, Tinca tinca` are `tench`."""
    first = (subsets.imagenet_synonyms(class_name) or class_name).split(",")[0]
    return " ".join(first.replace("_", " ").split())


def warn_of_alike(prompts: Mapping[str, str]) -> None:
    """Say which classes start from the same prompt, such as ImageNet's two cranes."""
    classes: dict[str, list[str]] = {}
    for name, prompt in prompts.items():
        classes.setdefault(prompt, []).append(name)
    for prompt, same in classes.items():
        if len(same) > 1:
            warn(
                f"the classes {', '.join(same)} have the prompt {prompt!r} in common; tell them "
                f'apart, as in prior.names={{{same[0]}: "..."}}.'
            )
