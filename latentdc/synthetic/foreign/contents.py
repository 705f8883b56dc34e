"""What lies in a .pt, .pth or .npz file, under the names that people give it.

- DC, DSA, DM: `{"data": [[images, labels], ...], "accs_all_exps": ...}`, one pair per experiment.
- MTT, TESLA, DATM, GLaD: `images_best.pt` beside `labels_best.pt`, and `lr_best.pt` where the
  learning rate was saved.
- `latentdc export --format pt`: a dictionary with `class_names`.
- By hand: a tuple or list (images, labels) or (images, labels, learning rate), or of such pairs of
  single images; a dictionary, or an .npz, under the names of `_KEYS` or of the images of each class
  by its name or number.

torch files are read with `weights_only=True`, NumPy's without pickle: nothing in them is run. A
small file that claims to hold gigabytes is refused before memory is asked for.
"""

import math
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentdc.data.files import require_plausible
from latentdc.errors import InputError, first_line
from latentdc.plain_text import printable
from latentdc.ranks import say
from latentdc.synthetic.foreign.plain import DAMAGED, all_are, dense, joined

# Under which names people save what, in lower case.
_KEYS = {
    "images": (
        *("images", "image", "imgs", "img", "data", "x", "x_train", "train_images", "images_train"),
        *("image_syn", "images_syn", "syn_images"),
    ),
    "labels": (
        *("labels", "label", "targets", "target", "y", "y_train", "train_labels", "labels_train"),
        *("label_syn", "labels_syn", "syn_labels"),
    ),
    "class_names": ("class_names", "classes", "class_to_idx"),
    "learned_lr": ("learned_lr",),
    "weights": ("weights",),
    "soft_labels": ("soft_labels", "soft_label"),
    "hard_labels": ("hard_labels",),
}
_KNOWN = frozenset(key for keys in _KEYS.values() for key in keys)
_MOST_CLASSES = 10**6


@dataclass(frozen=True)
class Contents:
    """What lies in a file: plain tensors in memory, whose shapes nobody has looked at."""

    images: Tensor  # which should be N x 3 x H x W
    labels: Tensor | list[str]  # hard, soft, or the name of each image's class
    class_names: list[str] | None = None  # that labels index
    learned_lr: float | None = None
    weights: Tensor | None = None  # of the images
    hard_labels: Tensor | None = None  # beside soft ones alone


@dataclass(frozen=True)
class _Found:
    """The same as it lies there: arrays, tensors, lists of them or of numbers, words."""

    images: Any
    labels: Any = None
    class_names: Any = None
    learned_lr: Any = None
    weights: Any = None
    hard_labels: Any = None


def read_contents(path: Path) -> Contents:
    """Images and labels in a file, or in those beside it.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    found = _find(path)
    images, names = dense(found.images, "images", path), _names(found.class_names, path)
    labels: Tensor | list[str]
    if names is None and _are_texts(found.labels):
        labels, hard = [str(name) for name in found.labels], None
    else:
        labels = _classes(found.labels, names, "labels", path)
        hard = found.hard_labels if labels.ndim == 2 else None
    return Contents(
        images,
        labels,
        names,
        learned_lr=None if found.learned_lr is None else _rate(found.learned_lr, path),
        weights=None if found.weights is None else dense(found.weights, "weights", path),
        hard_labels=None if hard is None else _classes(hard, names, "hard labels", path),
    )


def _classes(given: Any, names: list[str] | None, what: str, path: Path) -> Tensor:
    """Labels as numbers; words become their places among the class names."""
    if names is None or not _are_texts(given):
        return dense(given, what, path)
    places = {name: place for place, name in enumerate(names)}
    if missing := [name for name in dict.fromkeys(map(str, given)) if name not in places]:
        raise InputError(
            f"{path}: its {what} are words that its class names lack, such as "
            f"{printable(missing[0][:40])}; save class names that hold every label, or none."
        )
    return torch.tensor([places[str(name)] for name in given])


def _find(path: Path) -> _Found:
    content, found = _load(path), None
    if isinstance(content, Mapping):
        found = _of_mapping(content, path)
    elif isinstance(content, Tensor | np.ndarray):
        found = _Found(content)
    elif isinstance(content, Sequence) and not isinstance(content, str | bytes):
        found = _of_sequence(content)
    if found is None:
        raise InputError(
            f"{path} holds neither a tensor of images nor {{'images': ..., 'labels': ...}} nor "
            "(images, labels) nor {'data': [[images, labels], ...]} nor the images of each class "
            "nor what `latentdc export --format pt` writes."
        )
    return _with_files_beside(found, path) if found.labels is None else found


def _of_mapping(given: Mapping[Any, Any], path: Path) -> _Found | None:
    """Images and labels by their names, else experiments, arrays without names, or classes."""
    words = {key: value for key, value in given.items() if isinstance(key, str)}
    content = {key.lower(): value for key, value in words.items()}
    parts = _parts(words, path)
    images, labels, soft = parts["images"], parts["labels"], parts.pop("soft_labels")
    listed = images if isinstance(images, list | tuple) and "data" in content else ()
    experiments = (
        labels is None and listed and isinstance(listed[0], list | tuple) and len(listed[0]) >= 2
    )
    if soft is not None and labels is None and not experiments:
        parts["labels"] = soft
    elif soft is not None and _may_have_soft(labels, soft, parts["class_names"], path):
        parts |= {"labels": soft, "hard_labels": labels}
    are_read = soft is not None and parts["labels"] is soft
    unread = [
        key
        for key, value in words.items()
        if key.lower() in _KEYS["soft_labels"] and value is not None
        if not (are_read and _same(value, soft, path))
    ]
    if images is not None and parts["labels"] is not None:
        _tell_of_others([key for key in words if key.lower() not in _KNOWN or key in unread], path)
        return _Found(**parts)
    if len(listed) > 1:
        several = f"{path} holds {len(listed)} sets, one per experiment"
        say("note", f"{several}; the first is scored.")
    if experiments:
        _tell_of_others(unread, path)
        return _Found(*listed[0][:2])
    if images is None and {"arr_0", "arr_1"} <= content.keys():  # numpy.savez without names
        return _Found(content["arr_0"], content["arr_1"])
    return _by_class(given, path)


def _parts(words: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What lies under the names of each part, the commonest first; None of parts without any.

    Several names of one part have to hold the same. Soft labels are those of the images.
    """
    parts: dict[str, Any] = {}
    for part, keys in _KEYS.items():
        named = {k: v for k, v in words.items() if k.lower() in keys and v is not None}
        named = {k: v for k, v in named.items() if k.lower() != "classes" or not _is_number(v)}
        if part == "soft_labels":  # what only has their name is passed over
            named = {k: v for k, v in named.items() if _are_soft(v, parts["images"], path)}
        named = {k: v for k, v in named.items() if _is_of_part(part, v)} or named
        found = sorted(named, key=lambda key: keys.index(key.lower()))
        parts[part] = named[found[0]] if found else None
        if not all(_same(parts[part], value, path) for value in named.values()):
            raise InputError(
                f"{path} holds {part} under {len(named)} names, and they differ: "
                f"{', '.join(found)}; keep the ones that are meant."
            )
    return parts


def _tell_of_others(names: Sequence[str], path: Path) -> None:
    """Say what lies beside images and labels under names that stand for nothing here."""
    if names:
        more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
        read = ", ".join(part for part in _KEYS if part not in ("images", "labels"))
        listed = printable(", ".join(name[:40] for name in names[:5]))
        note = f"{path}: not read: {listed}{more}; beside images and labels there may be {read}."
        if any(name.lower() in _KEYS["soft_labels"] for name in names):
            note += (
                " Soft labels are numbers, N x C and not one-hot, a row for each image, beside "
                "labels that are numbers, or words among class_names."
            )
        say("note", note)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0


def _kind(value: Any) -> str:
    """NumPy's letter of a value: U of texts, one of biuf of numbers; empty without values."""
    if isinstance(value, list | tuple):
        return "U" if all_are(value, str) else "f" if all_are(value, int | float) else "O"
    return "f" if isinstance(value, Tensor) else getattr(getattr(value, "dtype", None), "kind", "")


def _is_of_part(part: str, value: Any) -> bool:
    """Whether a value is of a part's kind, and no note that has one of its names by chance."""
    kind = _kind(value)
    if part == "class_names":  # words, where numbers lie beside them
        return kind not in tuple("biuf")
    if part not in ("images", "labels"):
        return True
    if isinstance(value, list | tuple):  # a size or paths are no images
        return part == "labels" or kind == "O"
    return kind != "" and value.ndim > (part == "images") and (part == "labels" or kind != "U")


def _are_soft(value: Any, images: Any, path: Path) -> bool:
    """Whether a value is N x C numbers, a row for each image, C at least 2."""
    try:
        soft = dense(value, "soft labels", path)
        rows = soft.ndim == 2 and soft.shape[1] > 1 and len(soft) == len(images)
    except (*DAMAGED, InputError):
        return False
    return rows and soft.dtype != torch.bool


def _may_have_soft(labels: Any, soft: Any, class_names: Any, path: Path) -> bool:
    """Whether soft labels say more than the labels beside them, which have to be classes."""
    if labels is None or are_one_hot(dense(soft, "soft labels", path)):
        return False
    if _are_texts(labels):  # without names nothing says which class a column is of
        return class_names is not None
    try:
        hard = dense(labels, "labels", path)
    except InputError:
        return False
    return hard.ndim == 1 or (hard.ndim == 2 and (hard.shape[1] == 1 or are_one_hot(hard)))


def are_one_hot(labels: Tensor) -> bool:
    """Whether every row of N x C numbers has a single 1 among zeros."""
    rows = labels.float()
    return bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(dim=1) == 1).all())


def _same(one: Any, other: Any, path: Path) -> bool:
    """Whether two parts hold the same, also class names in a list and by their numbers."""
    if one is other:
        return True
    try:
        pair = [sorted(x, key=x.__getitem__) if isinstance(x, Mapping) else x for x in (one, other)]
        texts = [_kind(x) == "U" for x in pair]
        if any(texts):
            return all(texts) and [*map(str, pair[0])] == [*map(str, pair[1])]
        first, second = (dense([x] if _is_number(x) else x, "values", path) for x in pair)
        return first.shape == second.shape and bool((first == second).all())
    except (*DAMAGED, InputError):
        return False


def _by_class(given: Mapping[Any, Any], path: Path) -> _Found | None:
    """The images of two or more classes, N x 3 x H x W or N x H x W x 3 each."""
    keys = list(given)
    alike = all(isinstance(key, str) for key in keys) or all(type(key) is int for key in keys)
    if len(keys) < 2 or not alike or not all(map(_holds_images, given.values())):
        return None
    parts = [dense(images, "images", path) for images in given.values()]
    labels = [key for key, part in zip(keys, parts, strict=True) for _ in range(len(part))]
    return _Found(joined(torch.cat, parts, 1, "images", path), labels)


def _holds_images(value: Any) -> bool:
    shape = tuple(value.shape) if isinstance(value, Tensor | np.ndarray) else ()
    return len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3))


def _of_sequence(content: Sequence[Any]) -> _Found | None:
    pairs = all(isinstance(item, list | tuple) and len(item) == 2 for item in content)
    if pairs and content and getattr(content[0][0], "ndim", 0) == 4:  # one for each experiment
        return _Found(*content[0])
    if pairs and content:
        return _Found([pair[0] for pair in content], [pair[1] for pair in content])
    if len(content) == 3:
        return _Found(content[0], content[1], learned_lr=content[2])
    return _Found(*content) if len(content) == 2 else None


def _with_files_beside(found: _Found, path: Path) -> _Found:
    """Images alone, with the labels and the learning rate in the files beside them."""
    if path.stem.startswith("images_zca"):
        raise InputError(
            f"{path} holds pictures of a whitened set; score {path.name.replace('_zca', '')} with "
            "data.zca=true, which is what its students saw."
        )
    labels, rate = (path.with_name(path.name.replace("images", n, 1)) for n in ("labels", "lr"))
    beside = "images" in path.name and labels.is_file()
    if not beside:
        where = (
            (path.name, labels.name) if "images" in path.name else ("images_1.pt", "labels_1.pt")
        )
        raise InputError(
            f"{path} holds one tensor alone; images and their labels lie beside each other in "
            f"files such as {' and '.join(where)}."
        )
    lr = _rate(_load(rate), rate) if rate.is_file() else None
    return replace(found, labels=_load(labels), learned_lr=lr)


def _rate(content: Any, path: Path) -> float:
    """A learning rate, given as a number or as a tensor of one."""
    content = content.item() if isinstance(content, np.floating) else content
    values = dense([content] if isinstance(content, int | float) else content, "rates", path)
    rate = float(values.flatten()[0]) if values.numel() == 1 else math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(f"{path} holds no learning rate: one finite number above 0.")
    return rate


def _names(given: Any, path: Path) -> list[str] | None:
    """Class names that a file brings."""
    if given is None:
        return None
    if isinstance(given, Mapping):  # torchvision's class_to_idx
        names = {str(number): name for name, number in given.items()}
        given = [names.get(str(number)) for number in range(len(given))]
    elif isinstance(given, Tensor | np.ndarray) and not _are_texts(given):
        given = dense(given, "class names", path)
        given = given.tolist() if given.ndim == 1 and len(given) < _MOST_CLASSES else []
    listed = list(given) if isinstance(given, list | tuple) or _are_texts(given) else []
    if not listed or not all(isinstance(name, str | int) for name in listed):
        raise InputError(
            f"{path}: its class names are a list of words, each in the place of its label, or "
            "{name: label} with the labels 0, 1, ...; save them so, or leave them out."
        )
    return [str(name) for name in listed]


def _are_texts(given: Any) -> bool:
    array = getattr(getattr(given, "dtype", None), "kind", "") == "U" and given.ndim == 1
    return array or all_are(given, str)


def _load(path: Path) -> Any:
    """The content of one file; of an .npz a dictionary of its arrays."""
    try:
        if zipfile.is_zipfile(path):  # what torch.save and numpy.savez write
            with zipfile.ZipFile(path) as archive:
                require_plausible(sum(m.file_size for m in archive.infolist()), path)
        if path.suffix.lower() == ".npz":
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if isinstance(archive, np.ndarray):
                    return archive
                wanted = {key for key in archive.files if key.lower() in _KNOWN}
                if all(key.lower() in _KEYS["soft_labels"] for key in wanted):
                    wanted = set(archive.files)  # images without names, as arr_0
                unread = dict.fromkeys(archive.files)
                return unread | {key: archive[key] for key in archive.files if key in wanted}
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    except InputError:
        raise
    except DAMAGED as error:
        reason = first_line(error) or type(error).__name__
        if code := re.search(r"GLOBAL (\S+)", str(error)):  # torch's advice is to run it
            reason = f"code of {code[1]}, which is not run; save tensors in a dictionary"
        raise InputError(
            f"cannot read {path}: it holds more than tensors and numbers, or is damaged ({reason})."
        ) from error


def _empty_array(cls: type, shape: Sequence[int], kind: bytes) -> Any:
    """What NumPy pickles an array with, before its values are set: of no size."""
    if cls is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array that claims a size before it has values")
    return np.ndarray((0,), np.int8)


# DC keeps accuracies as NumPy scalars, and others whole arrays; their home was numpy.core before
# NumPy 2.
_SCALAR = np.float64(0).__reduce__()[0]
_KINDS = (
    *("float16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_PLAIN: list[Any] = [
    np.dtype,
    np.ndarray,
    *(type(np.dtype(kind)) for kind in _KINDS),
    *((_SCALAR, f"numpy.{home}.multiarray.scalar") for home in ("_core", "core")),
    *((_empty_array, f"numpy.{home}.multiarray._reconstruct") for home in ("_core", "core")),
]
