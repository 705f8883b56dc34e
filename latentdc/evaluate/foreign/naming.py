"""Which class of the test set a name in a foreign set stands for.

Folders and columns name classes in three ways: by name, by WordNet id, or by number (`00003` of
RDED, `new003` of SRe2L, `class_id` of rethinkdc). Numbers count the sorted folders of the training
set, which for ImageNet are WordNet ids; a test set whose classes stand in another order would turn
every label into a wrong one, and is refused.
"""

import re
from collections.abc import Sequence

from latentdc.data.imagenet import imagenet_index, wordnet_ids
from latentdc.errors import InputError
from latentdc.synthetic.export import folder_names

Places = list[int | None]


def class_places(names: Sequence[str], class_names: Sequence[str], source: str) -> list[int]:
    """Label of the test set for each name.

    Raises:
        InputError: names that are none of its classes, classes without a name, or numbers where
            the test set's classes are not in order.
    """
    by_name, by_wordnet = _by_name(names, class_names), _by_wordnet(names, class_names)
    by_number = _by_number(names, len(class_names))
    best = max((by_name, by_wordnet, by_number), key=_matches)  # of equals, the first
    surplus = [name for name, place in zip(names, best, strict=True) if place is None]
    if surplus:
        raise InputError(
            f"{source} has {len(surplus)} classes that the test set has not: "
            f"{', '.join(surplus[:5])}; its {len(class_names)} classes: "
            f"{', '.join(class_names[:5])}{', ...' if len(class_names) > 5 else ''}. Open the data "
            "that it was made from (data.source, data.subset, data.classes)."
        )
    places = [place for place in best if place is not None]
    missing = [name for label, name in enumerate(class_names) if label not in places]
    if missing or len(set(places)) < len(places):
        what = f"lacks {len(missing)} of" if missing else "names one twice of"
        raise InputError(
            f"{source} {what} the test set's {len(class_names)} classes"
            f"{': ' + ', '.join(missing[:10]) if missing else ''}; name the ones that it has with "
            "data.classes=[...]."
        )
    if best is by_number:
        _require_sorted(class_names, source)
    return places


def _matches(places: Places) -> int:
    return sum(place is not None for place in places)


def _by_name(names: Sequence[str], class_names: Sequence[str]) -> Places:
    """As the test set writes them, or as `latentdc export` writes folders."""
    known = {name: label for label, name in enumerate(folder_names(class_names))}
    known |= {name: label for label, name in enumerate(class_names)}
    return [known.get(name) for name in names]


def _by_wordnet(names: Sequence[str], class_names: Sequence[str]) -> Places:
    """One side by WordNet id, the other by id or by ImageNet's name."""
    known = {imagenet_index(name, label): label for label, name in enumerate(class_names)}
    known.pop(None, None)
    return [known.get(imagenet_index(name, place)) for place, name in enumerate(names)]


def _by_number(names: Sequence[str], classes: int) -> Places:
    found = [re.fullmatch(r"(?:new)?(\d+)", name) for name in names]
    numbers = [int(match[1]) if match else classes for match in found]
    return [number if number < classes else None for number in numbers]


def _require_sorted(class_names: Sequence[str], source: str) -> None:
    indices = [imagenet_index(name, label) for label, name in enumerate(class_names)]
    known = [index for index in indices if index is not None]
    if len(known) == len(indices) and known != sorted(known):
        ids = [wordnet_ids()[index] for index in sorted(known)]
        raise InputError(
            f"{source} numbers its classes, which counts WordNet ids in ascending order, and the "
            f"test set's classes stand in another order; name them as data.classes="
            f"[{','.join(ids[:3])},...] in that order."
        )
