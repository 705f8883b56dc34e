"""`latentdc export RUN --format FORMAT OUT`: a synthetic set for other tools.

Images and classes, as lossless PNGs of 8 bits (--round writes those of float images):

imagefolder: OUT/CLASS/CLASS_00000.png, as torchvision and `datasets` read it. Both number the
    classes by the names of their folders, so labels differ where class names are not sorted.
webdataset: a tar file of CLASS_00000.png, .cls (the label) and .json (label and class name), in
    the order of the set: shuffle it when you read it.

Tensors, ordered by class:

pt: a dictionary for torch.load with `images`, (N, 3, H, W) float32 in [0, 1], not normalised;
    `labels`, (N,) int64; and `class_names`. A set with soft labels has these, (N, C) logits, as
    `labels`, and its classes as `hard_labels`; one with weights of images or a learned rate has
    `weights`, (N,), and `learned_lr`. A set of feature vectors has `vectors`, (N, D) float32 in the
    data's units, in their place.
npz: the same for numpy.load, images as (N, H, W, 3): uint8 levels, or float32 in [0, 1].
dc: the file of DC, DSA and DM: {"data": [[images, labels]]}, images normalised (and whitened) as
    the set's recipe says.
mtt: a folder with the images_best.pt, labels_best.pt and lr_best.pt of MTT, TESLA and DATM,
    likewise; soft labels are the labels.
"""

import argparse
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdc import cli, config, io, locks, ranks
from latentdc.errors import InputError
from latentdc.recipe import Data
from latentdc.recipe.fields import build
from latentdc.run_folder import SET, require_apart
from latentdc.synthetic import folder as layout

if TYPE_CHECKING:
    from latentdc.preprocessing import Preprocessing
    from latentdc.synthetic.synthetic_set import SyntheticSet


def export_imagefolder(synthetic: "SyntheticSet", out: Path) -> None:
    """Write a folder of PNGs per class, whole or not at all; floats and vectors are refused."""
    _require_levels(synthetic, "imagefolder")
    io.require_free(out)
    folders = layout.folder_names(synthetic.class_names)
    with io.writing(out) as part:
        part.mkdir()
        for _, label, index, png in _pngs(synthetic):
            path = part / folders[label] / f"{folders[label]}_{index:05d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png)


def export_webdataset(synthetic: "SyntheticSet", out: Path) -> None:
    """Write a tar file of samples, whole or not at all; floats and vectors are refused.

    The same set gives the same bytes.
    """
    _require_levels(synthetic, "webdataset")
    _require_new(out, "webdataset", ".tar")
    names = [name.replace(".", "_") for name in synthetic.class_names]  # a dot ends a sample's name
    stems = layout.folder_names(names)
    with io.writing(out) as part, tarfile.open(part, "x", format=tarfile.PAX_FORMAT) as tar:
        for name, label, index, png in _pngs(synthetic):
            said = json.dumps({"label": label, "class_name": name}, ensure_ascii=False).encode()
            for suffix, data in {"png": png, "cls": str(label).encode(), "json": said}.items():
                member = tarfile.TarInfo(f"{stems[label]}_{index:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, BytesIO(data))


def export_pt(synthetic: "SyntheticSet", out: Path) -> None:
    """Write the dictionary that the module's docstring describes, whole or not at all.

    Float images that leave [-1, 1] leave [0, 1] here as well: nothing is clamped.
    """
    _require_new(out, "pt", ".pt", ".pth")
    _save(_content(synthetic), out)


def export_npz(synthetic: "SyntheticSet", out: Path) -> None:
    """Write the same for NumPy, whole or not at all; images of 8 bits stay levels."""
    import numpy as np

    _require_new(out, "npz", ".npz")
    content = _content(synthetic)
    content["class_names"] = np.array(content["class_names"], dtype=str)
    if "images" in content:
        images = content["images"]
        if not synthetic.images.is_floating_point():
            images = synthetic.levels()[_by_class(synthetic)]
        content["images"] = images.movedim(1, 3).contiguous()
    buffer = BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(part) for name, part in content.items()}
    np.savez(buffer, **arrays)
    io.write_bytes(out, buffer.getvalue())


def export_dc(synthetic: "SyntheticSet", out: Path, seen: "Preprocessing") -> None:
    """Write DC's file, whole or not at all, of images as students see them through `seen`."""
    synthetic.require_images("--format dc")
    if synthetic.soft_labels is not None:
        raise InputError("this set has soft labels, and DC's file has classes; use --format mtt.")
    _require_new(out, "dc", ".pt", ".pth")
    images, labels = _seen(synthetic, seen)
    tell_left(synthetic, "weights", "learned_lr")
    _save({"data": [[images, labels]]}, out)


def export_mtt(synthetic: "SyntheticSet", out: Path, seen: "Preprocessing") -> None:
    """Write MTT's folder likewise."""
    import torch

    synthetic.require_images("--format mtt")
    io.require_free(out)
    images, labels = _seen(synthetic, seen)
    files: dict[str, object] = {"images_best.pt": images, "labels_best.pt": labels}
    if synthetic.learned_lr is not None:
        files["lr_best.pt"] = torch.tensor(float(synthetic.learned_lr))
    tell_left(synthetic, "weights")
    with io.writing(out) as part:
        part.mkdir()
        for name, content in files.items():
            _save(content, part / name)


_PLAIN = {
    "imagefolder": export_imagefolder,
    "webdataset": export_webdataset,
    "pt": export_pt,
    "npz": export_npz,
}
_NORMALISED = {"dc": export_dc, "mtt": export_mtt}


def _rounded(synthetic: "SyntheticSet") -> "SyntheticSet":
    """A set whose float images are rounded to 8 bits and clamped; it says how far they moved."""
    synthetic.require_images("--round")
    if not synthetic.images.is_floating_point():
        return synthetic
    levels = replace(synthetic, images=synthetic.levels())
    moved = (levels.floats() - synthetic.floats()).abs()
    clamped = float((synthetic.floats().abs() > 1).double().mean())
    ranks.say(
        "note",
        f"rounded to 8 bits: {100 * clamped:.3g} % of the values lie outside of [-1, 1] and are "
        f"clamped, and no value moves by more than {float(moved.max()):.3g}; scores of the set are "
        "not scores of these images.",
    )
    return levels


def _pngs(synthetic: "SyntheticSet") -> Iterator[tuple[str, int, int, bytes]]:
    """Class name, label, index within the class, and PNG of each image."""
    from latentdc.synthetic.files import encode

    tell_left(synthetic, "soft_labels", "weights", "learned_lr")
    count: Counter[int] = Counter()
    for image, label in zip(synthetic.levels(), synthetic.labels.tolist(), strict=True):
        yield synthetic.class_names[label], label, count[label], encode(image)
        count[label] += 1


def _by_class(synthetic: "SyntheticSet") -> Any:
    """(N,) rows, ordered by class."""
    return synthetic.labels.cpu().argsort(stable=True)


def _content(synthetic: "SyntheticSet") -> dict[str, Any]:
    """What pt and npz hold."""
    by_class = _by_class(synthetic)
    hard, soft = synthetic.labels.cpu()[by_class], synthetic.soft_labels
    content: dict[str, Any] = {"labels": hard, "class_names": list(synthetic.class_names)}
    if soft is not None:
        content |= {"labels": soft.cpu()[by_class], "hard_labels": hard}
    if synthetic.weights is not None:
        content["weights"] = synthetic.weights.cpu()[by_class]
    if synthetic.learned_lr is not None:
        content["learned_lr"] = float(synthetic.learned_lr)
    samples = synthetic.floats().cpu()[by_class]
    if synthetic.kind == "vectors":
        return content | {"vectors": samples}
    return content | {"images": (samples + 1) / 2}


def _seen(synthetic: "SyntheticSet", seen: "Preprocessing") -> tuple[Any, Any]:
    """Normalised images and labels, ordered by class."""
    by_class = _by_class(synthetic)
    labels = synthetic.labels if synthetic.soft_labels is None else synthetic.soft_labels
    return seen(synthetic.floats().cpu()[by_class]), labels.cpu()[by_class]


def _preprocessing(synthetic: "SyntheticSet", folder: Path, kind: str) -> "Preprocessing":
    """What students see of the images: the set's own whitening, or its recipe's mean and std."""
    from latentdc.preprocessing import Normalization

    if synthetic.whitening is not None:
        return synthetic.whitening
    path = folder / layout.RECIPE
    if not path.is_file():
        raise InputError(
            f"--format {kind} holds normalised images, and no {layout.RECIPE} lies with this set "
            "to say by which mean and std; use --format pt, whose images are plain."
        )
    data = _data(path)
    return Normalization(data.mean, data.std)


def _data(recipe: Path, *, newer: bool = False) -> Data:
    """What a recipe says of the data; `newer` passes over keys that a newer version may have."""
    told = config.read(recipe).get("data") or {}
    if newer and isinstance(told, dict):
        known = {key.name for key in fields(Data)}
        told = {name: value for name, value in told.items() if name in known}
    return build(Data, told, "data.")


def _require_apart(folder: Path, out: Path, kind: str) -> None:
    """Refuse to write among the real images of the run that a set lies in."""
    recipe = folder.parent / layout.RECIPE  # which says where they lie; that of the set does not
    if folder.name == SET and recipe.is_file():
        require_apart(
            _data(recipe, newer=True),
            out,
            "another OUT",
            tables=kind in ("imagefolder", "webdataset"),
        )


def _save(content: object, out: Path) -> None:
    import torch

    buffer = BytesIO()  # torch.save to a file does not raise OSError when the disk is full
    torch.save(content, buffer)
    io.write_bytes(out, buffer.getvalue())


def tell_left(
    synthetic: "SyntheticSet", *parts: str, why: str = "only pt and npz hold them all"
) -> None:
    """Say which parts of a set are left out, such as those that a layout has no place for."""
    left = [part for part in parts if getattr(synthetic, part) is not None]
    if left:
        ranks.say("note", f"without {' and '.join(left)}: {why}.")


def _require_levels(synthetic: "SyntheticSet", kind: str) -> None:
    synthetic.require_images(f"--format {kind}")
    if synthetic.images.is_floating_point():
        raise InputError(
            "the images of this set are float and PNGs would round them; add --round, or use "
            "--format pt."
        )


def _require_new(out: Path, kind: str, *endings: str) -> None:
    """Refuse a file that exists, or whose ending its readers would not know."""
    if out.exists():
        raise InputError(f"{out} exists; choose a new file.")
    if out.suffix not in endings:
        raise InputError(f"a file of --format {kind} ends in {' or '.join(endings)}, got {out}.")


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", help="run folder, folder of a synthetic set, or Hub id")
    parser.add_argument("--format", choices=[*_PLAIN, *_NORMALISED], required=True)
    parser.add_argument("--round", action="store_true", help="round float images to 8 bits")
    parser.add_argument(
        "out", type=Path, help="new or empty folder; for webdataset, pt, npz and dc a new file"
    )


def run(options: argparse.Namespace) -> None:
    """Write a synthetic set in another form."""
    cli.one_process("latentdc export")
    from latentdc.synthetic import SyntheticSet

    kind, out = options.format, options.out
    with locks.locked(out):
        folder = layout.find(options.run)
        _require_apart(folder, out, kind)
        synthetic = SyntheticSet.from_pretrained(folder)
        if options.round:
            synthetic = _rounded(synthetic)
        if kind in _PLAIN:
            _PLAIN[kind](synthetic, out)
        else:
            _NORMALISED[kind](synthetic, out, _preprocessing(synthetic, folder, kind))
    print(out)
