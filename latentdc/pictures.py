"""Pictures of image sets: the images of each class side by side, large enough to be seen."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from latentdc.images import to_uint8
from latentdc.io import writing

GAP = 4  # pixels between images
CAPTION = 16  # pixels above the images of a class for its name
SMALLEST, LARGEST = 64, 256  # sides at which images are enlarged to be seen, and shrunk to fit


def image_grid(
    images: Tensor,
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
    side = _thumbnail(images[0]).width
    row_width = longest * (side + GAP)
    row_height = side + GAP + (CAPTION if class_names else 0)
    width = row_width * min(rows_per_line, len(rows)) + GAP
    canvas = Image.new("RGB", (width, lines * row_height + GAP), "white")
    for index, (label, row) in enumerate(zip(classes, rows, strict=True)):
        left = GAP + index % rows_per_line * row_width
        bottom = (index // rows_per_line + 1) * row_height
        for column, member in enumerate(row.tolist()):
            canvas.paste(_thumbnail(images[member]), (left + column * (side + GAP), bottom - side))
        if class_names:
            _write(canvas, class_names[label], left, bottom - side - CAPTION, row_width - GAP)
    return canvas


def save_grid(
    path: Path, images: Tensor, labels: Tensor, class_names: tuple[str, ...] | None = None
) -> None:
    """Write `image_grid` as a PNG, whole or not at all."""
    with writing(path) as part:
        image_grid(images, labels, class_names).save(part, "PNG")


def _thumbnail(image: Tensor) -> Image.Image:
    """(3, H, W) -> a picture of 64 pixels or a little more, if the image is not larger itself."""
    levels = to_uint8(image) if image.is_floating_point() else image
    picture = Image.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())
    if picture.width >= LARGEST:
        return picture.reduce(picture.width // (LARGEST // 2))
    factor = -(-SMALLEST // picture.width)
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
