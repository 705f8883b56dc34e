"""ImageNet's classes by name or WordNet id, and its subsets in the class order of their papers.

ImageNette, ImageWoof, Fruits, Yellow, Cats (Meow), Birds (Squawk) and the rest of the first block:
Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
https://arxiv.org/abs/2203.11932. A to E: the same authors' GLaD, https://arxiv.org/abs/2305.01649,
which LD3M (https://arxiv.org/abs/2403.03881) also scores on. (ImageNet-A is a set of easy classes
there, not the set of adversarial examples of that name.) The last block stands in the released code
without results; `imageveg` is there a copy of `imagemisc` with one class changed, and a list
`imagestrings`, a copy of `imagewind`, is left out.

Classes are positions in the sorted WordNet ids of ImageNet-1k; data sets are matched by these ids,
whatever they call their classes. All subsets take the whole of ImageNet's training and validation
images of a class, `imagenette` too (fastai's data set of that name holds fewer).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files

from latentdc.errors import InputError, nearest

SUBSETS = {
    "imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "fruits": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "yellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
    "cats": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "birds": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "geo": (980, 970, 975, 974, 973, 977, 976, 978, 972, 979),
    "food": (933, 934, 932, 963, 930, 928, 924, 959, 931, 927),
    "mammals": (386, 387, 354, 340, 338, 104, 103, 279, 334, 366),
    "marine": (148, 2, 397, 327, 33, 150, 107, 108, 119, 392),
    "a": (255, 376, 984, 364, 500, 986, 333, 576, 148, 135),
    "b": (129, 916, 90, 275, 995, 874, 102, 259, 685, 139),
    "c": (565, 94, 554, 535, 92, 392, 291, 136, 324, 11),
    "d": (9, 258, 13, 262, 19, 339, 321, 24, 93, 322),
    "e": (816, 96, 100, 145, 739, 713, 783, 76, 688, 326),
    "imageblub": (392, 393, 33, 397, 6, 107, 327, 390, 108, 122),
    "imagewind": (776, 513, 566, 558, 683, 684, 432, 875, 699, 593),
    "imagesport": (429, 430, 522, 574, 722, 768, 805, 852, 890, 746),
    "imageherp": (29, 31, 56, 47, 39, 27, 25, 37, 50, 42),
    "imagewheels": (555, 569, 561, 751, 866, 880, 612, 820, 466, 671),
    "imagemisc": (971, 719, 920, 506, 614, 486, 507, 873, 562, 514),
    "imageveg": (971, 719, 920, 506, 614, 486, 507, 873, 562, 940),
    "imagebug": (301, 309, 323, 319, 315, 75, 306, 313, 311, 71),
    "mascots": (199, 294, 337, 250, 309, 286, 36, 292, 362, 97),
    "alyosha": (292, 340, 971, 987, 130, 323, 937, 337, 199, 294),
    "custom": (1, 199, 388, 294, 340, 932, 327, 765, 928, 486),
}

ALIASES = {  # of Cazenavette et al.'s first paper
    "imagefruit": "fruits",
    "imageyellow": "yellow",
    "imagemeow": "cats",
    "imagesquawk": "birds",
}


def subset_indices(name: str) -> tuple[int, ...]:
    """ImageNet-1k indices of a subset's classes, in its order."""
    known = SUBSETS.get(ALIASES.get(name, name))
    if known is None:
        names = [*SUBSETS, *ALIASES]
        raise InputError(f"unknown data.subset {name!r}{nearest(name, names)}; known: {names}.")
    return known


def subset_names(names: Sequence[str], subset: str, source: str) -> list[str]:
    """What a data set calls the classes of a subset, in the subset's order.

    `names` are those of its classes, in label order: WordNet ids or ImageNet's names. Classes of
    the subset that it lacks, or has under two names, are refused.
    """
    called: dict[int, list[str]] = {}
    for position, name in enumerate(names):
        index = imagenet_index(name, position)
        if index is not None:
            called.setdefault(index, []).append(name)
    indices = subset_indices(subset)
    missing = [wordnet_ids()[index] for index in indices if index not in called]
    if missing:
        raise InputError(
            f"data.subset={subset}: {source} lacks {len(missing)} of its {len(indices)} classes "
            f"({', '.join(missing)}); classes are found by WordNet id or by ImageNet's names."
        )
    for index in indices:
        if len(called[index]) > 1:
            raise InputError(
                f"data.subset={subset}: {source} has the class {wordnet_ids()[index]} under "
                f"several names, {called[index]}."
            )
    return [called[index][0] for index in indices]


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

    `position`, of the class in its data set, settles a name that several classes share.
    """
    try:
        return _index(name, position)
    except InputError:
        return None


@lru_cache(maxsize=4)
def imagenet_places(class_names: tuple[str, ...]) -> Mapping[int, int]:
    """Position of each class that is ImageNet's, by its index there."""
    found = [imagenet_index(name, position) for position, name in enumerate(class_names)]
    return {index: position for position, index in enumerate(found) if index is not None}


def imagenet_matches(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Position in `known` of the class of ImageNet that each name stands for, None without one."""
    places = imagenet_places(tuple(known))
    indices = [imagenet_index(name, position) for position, name in enumerate(names)]
    return [None if index is None else places.get(index) for index in indices]


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
    text = (files("latentdc.recipe") / "imagenet1k.tsv").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return [(wordnet_id, synonyms) for wordnet_id, synonyms in lines]


def _plain(name: str) -> str:
    """A name without commas and underscores; upper case stays: `Cardigan` is a dog."""
    return " ".join(name.replace("_", " ").replace(",", " ").split())
