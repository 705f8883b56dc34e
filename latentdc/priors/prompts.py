"""What a text-conditional prior is told of each class: a template with the class's name in it."""

from collections.abc import Mapping, Sequence

from latentdc.errors import InputError
from latentdc.ranks import warn
from latentdc.recipe.fields import nearest
from latentdc.recipe.subsets import imagenet_synonyms


def class_prompts(
    class_names: Sequence[str], template: str, names: Mapping[str, str]
) -> dict[str, str]:
    """The prompt of every class of a data set, by its name there.

    Args:
        class_names: of the data set: words, synonyms divided by commas, or WordNet ids.
        template: with `{}` in place of the class.
        names: what to write for a class in place of its first synonym, by its name in the data set.

    Raises:
        InputError: `names` has a class that the data set has not.
    """
    for name in names:
        if name not in class_names:
            raise InputError(
                f"prior.names: the data set has no class {name!r}{nearest(name, class_names)}; "
                f"its classes are {', '.join(class_names[:10])}"
                f"{', ...' if len(class_names) > 10 else ''}."
            )
    spoken = {name: names.get(name, spoken_name(name)) for name in class_names}
    return {name: template.format(word) for name, word in spoken.items()}


def spoken_name(class_name: str) -> str:
    """The first synonym of a class, in words: `n01440764` and `tench, Tinca tinca` are `tench`."""
    first = (imagenet_synonyms(class_name) or class_name).split(",")[0]
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
