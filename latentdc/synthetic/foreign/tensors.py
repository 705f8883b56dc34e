"""A foreign set of tensors: images and labels, hard or soft, as its students were given them.

Floats without class names are normalised, and whitened where ZCA was used. They are taken back
through the preprocessing of the recipe, which has to be the one they were made with; students then
see the same numbers again. Floats beside class names, as in our own export, are plain images in
[0, 1], and whole numbers levels 0 to 255. Images are N x 3 x H x W or N x H x W x 3; grey ones, of
one channel or none, become RGB. Labels of N x C are soft.
"""

from pathlib import Path

import torch
from torch import Tensor

from latentdc.errors import InputError
from latentdc.preprocessing import Normalization, Preprocessing, Whitening
from latentdc.ranks import say
from latentdc.synthetic.foreign.contents import are_one_hot, read_contents
from latentdc.synthetic.foreign.kinds import BEST
from latentdc.synthetic.foreign.naming import Read, labels_of_names, relabelled, require_classes
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.synthetic_set import SyntheticSet

_BRIGHTEST = 10  # times white, beyond which no optimisation takes an image
_RAW = "data.mean=[0,0,0] data.std=[1,1,1]"


def read_tensors(
    path: Path,
    class_names: tuple[str, ...],
    ipc: int | None,
    numbers: Numbers | None,
    preprocessing: Preprocessing,
) -> Read:
    """The set in a file, or in the `images_best.pt` of a folder, for the classes of the test set.

    `ipc` images of each class, None for all; floats were made with the preprocessing.

    Raises:
        InputError: not one of these layouts, values that are no images, or labels and classes that
            do not fit.
    """
    path = path / BEST if path.is_dir() else path
    found = read_contents(path)
    images, given = _images(found.images, path), found.labels
    names = found.class_names
    if not isinstance(given, Tensor):
        names = names or sorted(set(given))
        given = torch.tensor([names.index(name) for name in given])
    classes = len(names or class_names)
    hard, soft = _labels(given, images, classes, path)
    if soft is not None and found.hard_labels is not None:
        hard, _ = _labels(found.hard_labels, images, classes, path)
    source, table = str(path), None
    if names is not None:
        require_classes(hard, names, source)
        labels, numbering = labels_of_names(names, class_names, source, numbers)
        table = torch.tensor(labels)
    elif soft is not None:
        require_classes(hard, class_names, source)
        columns = torch.arange(len(class_names))
        table, numbering = relabelled(columns, class_names, source, numbers)
    else:
        hard, numbering = relabelled(hard, class_names, source, numbers)
    if table is not None:
        hard = table[hard]
        soft = None if soft is None else soft[:, table.argsort()]
    whole = SyntheticSet(
        _levels(images, path, preprocessing, named=found.class_names is not None),
        hard,
        class_names,
        soft_labels=soft,
        weights=None if found.weights is None else found.weights.float(),
        learned_lr=found.learned_lr,
    )
    return whole if ipc is None else whole.first_of_each(ipc), numbering


def _images(images: Tensor, path: Path) -> Tensor:
    """(N, 3, H, W) floats or uint8."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.movedim(3, 1)
    if images.ndim == 4 and images.shape[1] == 1:  # grey, as the real images are made
        images = images.expand(-1, 3, -1, -1)
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape or images.dtype == torch.bool:
        raise InputError(
            f"{path}: images are floats of N x 3 x H x W, got {tuple(images.shape)} of "
            f"{images.dtype}; levels as uint8 will do too."
        )
    if images.shape[2] != images.shape[3]:
        raise InputError(
            f"{path}: its images are {images.shape[3]}x{images.shape[2]} px; those of a data set "
            "are squares, cut them or add what lacks."
        )
    if images.is_floating_point():
        if not images.isfinite().all():
            raise InputError(f"{path}: some values of its images are not finite.")
        return images.contiguous()
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        raise InputError(
            f"{path}: images of whole numbers are levels 0 to 255, got {low} to {high}."
        )
    if high <= 1:
        raise InputError(
            f"{path}: its images are levels 0 to 255 of which none is above 1, so all are black; "
            f"pictures in [0, 1] are saved as floats (and read with {_RAW})."
        )
    return images.to(torch.uint8).contiguous()


def _labels(
    labels: Tensor, images: Tensor, classes: int, path: Path
) -> tuple[Tensor, Tensor | None]:
    """(N,) classes, and (N, C) logits where labels are soft; probabilities become logarithms.

    N x 1 are classes, and rows with a single 1 among zeros are classes too.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if len(images) != (len(labels) if labels.ndim else -1) or labels.ndim not in (1, 2):
        raise InputError(
            f"{path}: {len(images)} images need as many labels, or rows of soft labels, got "
            f"{tuple(labels.shape)}."
        )
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise InputError(
            f"{path}: its soft labels are of {labels.shape[1]} classes, the test set has "
            f"{classes}; open the data that it was made from (data.source, data.subset)."
        )
    if labels.is_floating_point() and not labels.isfinite().all():
        raise InputError(f"{path}: some of its labels are not finite.")
    if labels.ndim == 1:
        if labels.dtype == torch.bool or not bool((labels == labels.long()).all()):
            raise InputError(
                f"{path}: labels are whole numbers or N x C soft labels, got {labels.dtype}, "
                f"beginning with {labels[:3].tolist()}."
            )
        return labels.long(), None
    soft = labels.float()
    whole = not labels.is_floating_point()
    if are_one_hot(soft):
        return soft.argmax(dim=1), None
    sums = soft.sum(dim=1)
    if bool((soft >= 0).all()) and torch.allclose(sums, torch.ones(len(soft)), atol=1e-3):
        soft = soft.clamp(min=1e-12).log()
    elif bool((soft >= 0).all()):
        _warn_of_shares(soft, sums, path, whole=whole)
    return soft.argmax(dim=1), soft


def _warn_of_shares(soft: Tensor, sums: Tensor, path: Path, *, whole: bool) -> None:
    """Say so where soft labels that are read as logits look like probabilities of another sum.

    None of them is negative; `whole` says whether they are of whole numbers, as shares of 255 are.
    """
    low, high = float(sums.min()), float(sums.max())
    if whole or float(soft.max()) <= 1 or high - low <= 1e-3 * high:
        say(
            "warning",
            f"{path}: no soft label is negative, and those of an image add up to "
            f"{f'{low:.4g}' if high - low <= 1e-3 * high else f'{low:.4g} to {high:.4g}'}; they "
            "are read as logits. If they are probabilities, divide those of each image by their "
            "sum.",
        )


def _levels(images: Tensor, path: Path, preprocessing: Preprocessing, *, named: bool) -> Tensor:
    """(N, 3, H, W) uint8, or float32 in the scale of [-1, 1], of images as they were stored.

    Floats are taken back through `preprocessing`; with `named`, where class names lie beside them,
    they are in [0, 1], as those of our own export.
    """
    if images.dtype == torch.uint8:
        return images
    taken = (images.double() * 2 - 1).float() if named else _taken_back(images, preprocessing)
    brightest = float(((taken + 1) / 2).abs().max())
    low, high = float(images.min()), float(images.max())
    if brightest > _BRIGHTEST:
        advice = "Give the data.mean, data.std and data.zca that the set was made with "
        advice += f"({_RAW} for images in [0, 1])."
        if low >= 0 and 1 < high <= 255:
            advice = "They look like levels 0 to 255: save them as uint8."
        raise InputError(
            f"{path}: its values, {low:.3g} to {high:.3g}, are up to {brightest:.3g} times white "
            f"{'as they are' if named else 'once data.mean, data.std and data.zca are taken back'}"
            f"; {_BRIGHTEST} times is the most. {advice}"
        )
    if not named:
        _warn_of_scale(low, high, path, preprocessing)
    elif low < -0.5 or high > 1.5:
        say(
            "warning",
            f"{path}: its values, {low:.3g} to {high:.3g}, are read as plain pictures in [0, 1], "
            "since class names lie with them; if they are normalised, save them without the names.",
        )
    return taken


def _warn_of_scale(low: float, high: float, path: Path, preprocessing: Preprocessing) -> None:
    """Say so where values look like images that nobody normalised."""
    whitened = isinstance(preprocessing, Whitening)
    plain = preprocessing.normalization if isinstance(preprocessing, Whitening) else preprocessing
    assert isinstance(plain, Normalization)
    black = max(-m / s for m, s in zip(plain.mean, plain.std, strict=True))
    white = min((1 - m) / s for m, s in zip(plain.mean, plain.std, strict=True))
    if low >= 0 and (whitened or black < -0.25 or (high <= 1 and white > 1.25)):
        scale = "[0, 1]" if high <= 1 else f"[0, {high:.3g}]"
        keys = _RAW if high <= 1 else "the keys that they were made with"
    elif -1 <= low <= -0.9 and 0.9 <= high <= 1 and (whitened or abs(black + 1) > 0.25):
        scale, keys = "[-1, 1]", "data.mean=[0.5,0.5,0.5] data.std=[0.5,0.5,0.5]"
    else:
        return
    say(
        "warning",
        f"{path}: its values all lie within {scale}, and are read as normalised by data.mean and "
        f"data.std{' and whitened' if whitened else ''}; if they are plain pictures in {scale}, "
        f"add {keys}{' data.zca=false' if whitened else ''}.",
    )


def _taken_back(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(N, 3, H, W) float32 in the scale of [-1, 1], which `preprocessing` turns into `images`."""
    seen = images.double()
    if isinstance(preprocessing, Whitening):
        flat = seen.flatten(1)
        if flat.shape[1] != len(preprocessing.mean):
            raise InputError(
                f"the set has images of {images.shape[-1]} px, and data.zca whitens others; set "
                f"data.resolution={images.shape[-1]}."
            )
        back = torch.linalg.solve(preprocessing.matrix.double(), flat.T).T
        seen = (back + preprocessing.mean.double()).view_as(seen)
        preprocessing = preprocessing.normalization
    assert isinstance(preprocessing, Normalization)
    mean, std = (
        torch.tensor(part).double().view(-1, 1, 1)
        for part in (preprocessing.mean, preprocessing.std)
    )
    return ((seen * std + mean) * 2 - 1).float()
