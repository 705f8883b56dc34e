"""`latentdc export RUN --format imagefolder|pt OUT`: a synthetic set for other tools.

imagefolder: OUT/<class name>/00000.png, as torchvision and `datasets` read it. Both number the
    classes by the names of their folders, so labels differ where class names are not sorted.
pt: a dictionary for torch.load with `images`, (N, 3, H, W) float32 in [0, 1], not normalised;
    `labels`, (N,) int64; and `class_names`. A set with soft labels has these, (N, C) logits, as
    `labels`, and its classes as `hard_labels`; one with weights of images or a learned rate has
    `weights`, (N,), and `learned_lr`. Images are ordered by class, as the evaluators of DC, DM and
    MTT expect: normalise (and whiten) them as your students expect.
    A set of feature vectors has `vectors`, (N, D) float32 in the data's units, in their place.
"""

import argparse
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import cli
from latentdc.errors import InputError
from latentdc.io import is_free, locked, write_bytes, writing
from latentdc.synthetic import folder as layout

if TYPE_CHECKING:
    from latentdc.synthetic.synthetic_set import SyntheticSet


def export_imagefolder(synthetic: "SyntheticSet", out: Path) -> None:
    """Write a folder of PNGs per class, whole or not at all; floats are refused."""
    from latentdc.synthetic.files import encode

    synthetic.require_images("--format imagefolder")
    if synthetic.images.is_floating_point():
        raise InputError(
            "the images of this set are float and PNGs would round them; use --format pt."
        )
    if not is_free(out):
        raise InputError(f"{out} exists and is not an empty folder; choose a new one.")
    folders = layout.folder_names(synthetic.class_names)
    count: Counter[int] = Counter()
    with writing(out) as part:
        part.mkdir()
        for image, label in zip(synthetic.levels(), synthetic.labels.tolist(), strict=True):
            path = part / folders[label] / f"{count[label]:05d}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode(image))
            count[label] += 1


def export_pt(synthetic: "SyntheticSet", out: Path) -> None:
    """Write the dictionary that the module's docstring describes, whole or not at all.

    Float images that leave [-1, 1] leave [0, 1] here as well: nothing is clamped.

    Raises:
        InputError: `out` exists.
    """
    import torch

    if out.exists():
        raise InputError(f"{out} exists; choose a new file.")
    by_class = synthetic.labels.argsort(stable=True)
    hard, soft = synthetic.labels[by_class].cpu(), synthetic.soft_labels
    content: dict[str, object] = {"labels": hard, "class_names": list(synthetic.class_names)}
    if soft is not None:
        content |= {"labels": soft[by_class].cpu(), "hard_labels": hard}
    if synthetic.weights is not None:
        content["weights"] = synthetic.weights[by_class].cpu()
    if synthetic.learned_lr is not None:
        content["learned_lr"] = float(synthetic.learned_lr)
    samples = synthetic.floats()[by_class].cpu()
    if synthetic.kind == "vectors":
        content["vectors"] = samples
    else:
        content["images"] = (samples + 1) / 2
    buffer = io.BytesIO()  # torch.save to a file does not raise OSError when the disk is full
    torch.save(content, buffer)
    write_bytes(out, buffer.getvalue())


FORMATS = {"imagefolder": export_imagefolder, "pt": export_pt}


def arguments(parser: cli.Parser) -> None:
    """Those of the command."""
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", help="run folder, folder of a synthetic set, or Hub id")
    parser.add_argument("--format", choices=list(FORMATS), required=True)
    parser.add_argument("out", type=Path, help="new or empty folder; for pt a new file")


def run(options: argparse.Namespace) -> None:
    """Write a synthetic set in another form."""
    cli.one_process("latentdc export")
    from latentdc.synthetic import SyntheticSet

    with locked(options.out):
        FORMATS[options.format](SyntheticSet.from_pretrained(options.run), options.out)
    print(options.out)


main = cli.entry("export")

if __name__ == "__main__":
    main()
