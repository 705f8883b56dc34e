"""Pictures of image sets: the images of each class side by side, large enough to be seen."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from latentdc.arguments import require_whole
from latentdc.errors import InputError, counted
from latentdc.figures import new_figure
from latentdc.images import Images, as_levels, kind_of
from latentdc.io import writing
from latentdc.plain_text import in_picture, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP = 4  # pixels between images
CAPTION = 16  # pixels above the images of a class for its name
_SMALLEST, _LARGEST = 64, 256  # sides at which images are enlarged to be seen, and shrunk to fit


def image_grid(
    images: Images,
    labels: Tensor,
    class_names: tuple[str, ...] | None = None,
    *,
    columns: int = 10,
    max_classes: int = 20,
) -> Image.Image:
    """A picture with one row per class; short rows (few images per class) share a line.

    Args:
        images: (N, 3, H, W) uint8, or floats that are shown clamped to [-1, 1].
        labels: (N,) class of each image, in any order.
        class_names: names written above the rows, by label; None writes none.
        columns: images in a line, and so the most that are shown of a class.
        max_classes: classes shown, those with the lowest labels.

    Returns:
        RGB picture. Images below 64 pixels are enlarged by an integer factor without smoothing.
    """
    classes = labels.unique()[:max_classes].tolist()
    rows = [(labels == label).nonzero().squeeze(1)[:columns] for label in classes]
    longest = max(len(row) for row in rows)
    rows_per_line = columns // longest
    lines = -(-len(rows) // rows_per_line)
    side = _thumbnail(images[:1][0]).width
    row_width = longest * (side + GAP)
    row_height = side + GAP + (CAPTION if class_names else 0)
    width = row_width * min(rows_per_line, len(rows)) + GAP
    canvas = Image.new("RGB", (width, lines * row_height + GAP), "white")
    for index, (label, row) in enumerate(zip(classes, rows, strict=True)):
        left = GAP + index % rows_per_line * row_width
        bottom = (index // rows_per_line + 1) * row_height
        for column, member in enumerate(row.tolist()):
            canvas.paste(
                _thumbnail(images[member : member + 1][0]),
                (left + column * (side + GAP), bottom - side),
            )
        if class_names:
            _write(canvas, class_names[label], left, bottom - side - CAPTION, row_width - GAP)
    return canvas


def save_grid(
    path: Path, images: Tensor, labels: Tensor, class_names: tuple[str, ...] | None = None
) -> None:
    """Write `image_grid` as a PNG, whole or not at all."""
    with writing(path) as part:
        image_grid(images, labels, class_names).save(part, "PNG")


def figure(
    images: Images,
    labels: Tensor,
    class_names: Sequence[str],
    *,
    columns: int,
    max_classes: int,
) -> "Figure":
    """A figure of matplotlib with a line of images for each class, its name beside it.

    Args:
        images: (N, 3, H, W) uint8, or floats that are shown clamped to [-1, 1].
        labels: (N,) class of each image, in any order.
        class_names: in label order.
        columns: most images of a class that are shown.
        max_classes: most classes, those with the lowest labels.

    Raises:
        InputError: feature vectors or no images, numbers below 1, or matplotlib is not installed.
    """
    if kind_of(images) == "vectors":
        raise InputError("a figure shows images, and these are feature vectors.")
    if not len(images):
        raise InputError("a figure shows images, and there are none.")
    columns = require_whole(columns, "columns")
    max_classes = require_whole(max_classes, "max_classes")
    classes = labels.unique()[:max_classes].tolist()
    rows = [(labels == label).nonzero().flatten()[:columns] for label in classes]
    side, wide = images.shape[-1], max(map(len, rows))
    drawn = new_figure(0.8 * wide + 1.6, 0.85 * len(rows))
    for axis, label, row in zip(
        drawn.subplots(len(rows), squeeze=False).flat, classes, rows, strict=True
    ):
        strip = np.full((side, side * wide, 3), 255, dtype=np.uint8)
        for place, image in enumerate(as_levels(images[row])):
            strip[:, place * side : (place + 1) * side] = image.permute(1, 2, 0).cpu().numpy()
        axis.imshow(strip, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(in_picture(class_names[label])[:40], rotation=0, ha="right", va="center")
    return drawn


def summary(images: Images, class_names: Sequence[str]) -> str:
    """A set in a few words, which a terminal prints as they are."""
    what = f"{images.shape[-1]} px" if kind_of(images) == "images" else f"{images.shape[-1]} values"
    some = ", ".join(repr(printable(name[:20])) for name in class_names[:3])
    more = ", ..." if len(class_names) > 3 else ""
    return (
        f"{len(images):,} {kind_of(images)} of {what}, "
        f"{str(images.dtype).removeprefix('torch.')}, {counted(len(class_names), 'class')}: "
        f"{some}{more}"
    )


def as_html(text: str, images: Images, labels: Tensor, class_names: tuple[str, ...]) -> str:
    """A set for notebooks: a line of text, and of images a picture with the names of classes.

    Text is escaped; the names above the images are part of the picture.
    """
    shown = f"<p><code>{escape(text)}</code></p>"
    if kind_of(images) == "vectors" or not len(images):
        return shown
    content = BytesIO()
    image_grid(images, labels, class_names, max_classes=10).save(content, "PNG")
    data = b64encode(content.getvalue()).decode()
    return f'{shown}<img alt="some images of each class" src="data:image/png;base64,{data}">'


def _thumbnail(image: Tensor) -> Image.Image:
    """(3, H, W) -> a picture of 64 pixels or a little more, if the image is not larger itself."""
    picture = Image.fromarray(as_levels(image).permute(1, 2, 0).contiguous().cpu().numpy())
    if picture.width >= _LARGEST:
        return picture.reduce(picture.width // (_LARGEST // 2))
    factor = -(-_SMALLEST // picture.width)
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def _write(canvas: Image.Image, text: str, left: int, top: int, width: int) -> None:
    """A line of text, cut to `width` pixels."""
    font = ImageFont.load_default(12)
    if font.getlength(text) > width:
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        text += "…"
    ImageDraw.Draw(canvas).text((left, top), text, fill="black", font=font)
