"""Sets of mosaics: PCA and RDED."""

from dataclasses import dataclass
from typing import Literal

from latentdc.recipe.checks import require
from latentdc.recipe.fields import check_fields


@dataclass(frozen=True, kw_only=True)
class Combine:
    """Mosaics of whole training images (`latentdc pca`).

    Attributes:
        grid: images along each side of a mosaic.
        fit: how an image takes the square shape of a cell: `squash` it, `pad` it with grey, or keep
            its `center`, which crops images that are not square.
        order: `stride` deals the ranked images out, so that each mosaic has easy and less easy
            ones; `rank` fills one mosaic after the other; `random` shuffles them.
    """

    grid: int = 2
    fit: Literal["squash", "pad", "center"] = "squash"
    order: Literal["stride", "rank", "random"] = "stride"

    def __post_init__(self) -> None:
        check_fields(self, "combine.")
        require(
            2 <= self.grid <= 16,
            f"combine.grid is the number of images along a side, from 2 to 16, got {self.grid}.",
        )


@dataclass(frozen=True, kw_only=True)
class Rded:
    """Mosaics of realistic crops (RDED), which `latentdc pca` makes beside its own.

    Attributes:
        pool: images of each class that are drawn at random and cropped; all of a smaller class.
        crops: of each image, of which the most realistic one is kept.
        scale: smallest and largest share of the area that a crop has.
        mosaic: n^2 crops make an image; false keeps single ones at full size, as published for
            CIFAR and Tiny ImageNet.
        canvas: the teacher sees a crop of a mosaic amid a canvas of the mean colour, as in the
            released code; false shows it enlarged to the whole image.
    """

    pool: int = 300
    crops: int = 5
    scale: tuple[float, float] = (0.08, 1.0)
    mosaic: bool = True
    canvas: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "rded.")
        for name in ("pool", "crops"):
            value = getattr(self, name)
            require(value >= 1, f"rded.{name} is at least 1, got {value}.")
        require(
            0 < self.scale[0] <= self.scale[1] <= 1,
            f"rded.scale is a range of shares in (0, 1], got {list(self.scale)}; such as "
            "[0.08, 1.0].",
        )
