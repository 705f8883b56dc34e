"""Where the classes of a data set stand among the 1000 of ImageNet, found by name or WordNet id."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from latentdc.errors import InputError


def imagenet_indices(class_names: Sequence[str]) -> list[int]:
    """ImageNet-1k index of every class.

    A class is named by its WordNet id (`n01440764`), by its synonyms (`tench, Tinca tinca`) or by
    one of them (`tench`). A name that several classes share is taken where its own position is one
    of theirs, as in the whole of ImageNet. The numbers 0 to 999, all of them, are its own order.

    Raises:
        InputError: a class that ImageNet does not have, or a name that fits several.
    """
    if list(class_names) == [str(index) for index in range(len(wordnet_ids()))]:
        return list(range(len(wordnet_ids())))
    return [_index(name, position) for position, name in enumerate(class_names)]


def imagenet_index(name: str, position: int) -> int | None:
    """ImageNet-1k index of a class, or None where ImageNet has it not or the name fits several.

    Args:
        name: as of `imagenet_indices`.
        position: of the class in its data set, which settles a name that several classes share.
    """
    try:
        return _index(name, position)
    except InputError:
        return None


def _index(name: str, position: int) -> int:
    candidates = [table.get(_plain(name), set()) for table in _tables()]
    if any(position in found for found in candidates):
        return position
    for found in candidates:
        if len(found) == 1:
            return next(iter(found))
        if found:
            ids = ", ".join(sorted(wordnet_ids()[index] for index in found))
            raise InputError(f"the class {name!r} may be any of ImageNet's {ids}; use such an id.")
    raise InputError(
        f"ImageNet-1k has no class {name!r}; classes are found by WordNet id (n01440764) or by "
        "name (tench)"
        + (
            ", not by number; choose them by id, data.classes=[n01440764,...]."
            if name.isdigit()
            else "."
        )
    )


@cache
def wordnet_ids() -> tuple[str, ...]:
    """The 1000 WordNet ids, by index."""
    return tuple(wordnet_id for wordnet_id, _ in _rows())


def imagenet_synonyms(wordnet_id: str) -> str | None:
    """`tench, Tinca tinca` for `n01440764`; None for what is no id of an ImageNet class."""
    return dict(_rows()).get(wordnet_id)


@cache
def _tables() -> tuple[dict[str, set[int]], ...]:
    """Indices by WordNet id, by all synonyms together, and by each of them."""
    by_id, by_all, by_one = defaultdict(set), defaultdict(set), defaultdict(set)
    for index, (wordnet_id, synonyms) in enumerate(_rows()):
        by_id[wordnet_id].add(index)
        by_all[_plain(synonyms)].add(index)
        for synonym in synonyms.split(","):
            by_one[_plain(synonym)].add(index)
    return dict(by_id), dict(by_all), dict(by_one)


@cache
def _rows() -> list[tuple[str, str]]:
    text = (files("latentdc.data") / "imagenet1k.tsv").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return [(wordnet_id, synonyms) for wordnet_id, synonyms in lines]


def _plain(name: str) -> str:
    """Without commas and underscores; upper case stays (`Cardigan` is a dog, `cardigan` a coat)."""
    return " ".join(name.replace("_", " ").replace(",", " ").split())
