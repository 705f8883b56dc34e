"""Training images as their files hold them: whole, before they were cut to a square."""

from collections.abc import Callable

from PIL import Image

from latentdc.data.dataset import Dataset
from latentdc.data.decode import open_picture, to_rgb
from latentdc.data.open import encoded_split
from latentdc.errors import InputError
from latentdc.recipe import Data

Picture = Callable[[int], Image.Image]  # row of the training split -> upright RGB


def decoded_pictures(train: Dataset) -> Picture:
    """The training images as they were decoded: square, of `data.resolution`."""

    def picture(row: int) -> Image.Image:
        levels = train.images[row : row + 1][0]
        return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())

    return picture


def whole_pictures(data: Data, train: Dataset) -> Picture:
    """The training images as their files hold them; digits are square already.

    Raises:
        InputError: files were left out of `train`, so that rows are not files.
    """
    if data.source == "digits":
        return decoded_pictures(train)
    split = encoded_split(data, "train")
    if len(split) != len(train):
        raise InputError(
            f"{split.name} has {len(split) - len(train)} images that cannot be decoded, and whole "
            "images are read from their files again; remove those, or set combine.fit=center."
        )

    def picture(row: int) -> Image.Image:
        with open_picture(split.read(row)) as image:
            return to_rgb(image)

    return picture
