"""The real data, and what recipes over feature vectors cannot say because it is about images."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from latentdc.recipe.checks import expand_home, require, require_normalization, require_once
from latentdc.recipe.fields import check_fields, show
from latentdc.recipe.own import Own
from latentdc.recipe.subsets import subset_indices

# Test splits, looked for in this order where none is named.
TEST_SPLITS = ("test", "validation", "val", "valid", "dev", "eval")
LARGEST_ZCA = 64  # px: a matrix of 0.6 GB in float32
_OF_IMAGES = (
    *("resolution", "config", "revision", "image", "label", "subset"),
    *("class_names", "unreadable", "mean", "std", "zca"),
)


@dataclass(frozen=True, kw_only=True)
class Data:
    """A labelled set of real images with a training and a test split.

    Attributes:
        kind: of samples: `images`, or `vectors` of features from the files of `source`
            (docs/data.md), to which the keys of images do not apply.
        source: `digits` (bundled with scikit-learn), a local folder (parquet files in the Hub's
            layout, tar files, what `save_to_disk` wrote, one folder per class, or CIFAR's binary
            files), a Hub data set id, or your own function that returns a training and a test
            `Dataset`; in Python also these two themselves, or one with `test_share`.
        resolution: height and width of the images, in pixels.
        config: configuration of a Hub data set, such as `plain_text`.
        revision: branch, tag or commit of a Hub data set.
        train: name of the training split; of image folders also a path, such as `data/train`.
        test: likewise of the test split; null looks for `test`, `validation`, `val`, `valid`,
            `dev` and `eval`.
        test_share: share of the training split, in (0, 1), that is tested on in place of a test
            split: of each class, chosen by the contents of its samples, so that every copy of the
            data is divided alike and repeats of a sample stay together.
        image: image column; null finds it.
        label: label column; null finds it.
        classes: keep these classes only, by name, in this order; null keeps all.
        subset: keep the classes of a named ImageNet subset, such as `imagenette` or `a`, in its
            order; they are found by WordNet id, whatever the data set calls them.
        class_names: `imagenet` says that labels, whole numbers or folders named by them, are
            ImageNet-1k's from 0 to 999; the classes are then named by WordNet id.
        unreadable: an image that cannot be decoded stops the run, or is counted and left out.
        cache: folder for decoded images and whitenings; null means `$LATENTDC_CACHE` or
            `~/.cache/latentdc`.
        mean: per channel, of images in [0, 1]; real, synthetic and test images share it.
        std: per channel, likewise.
        zca: whiten normalised images (ZCA, fitted on the training split); students of distillation
            and evaluation see real, synthetic and test images so. Scorers do not. In pixel space
            the whitened image is what is optimised.

    Examples:
        >>> latentdc.Data(source="digits", resolution=16).resolution
        16
        >>> train, _ = latentdc.open_splits(latentdc.Data(source="digits", classes=["1", "7"]))
        >>> train.class_names
        ('1', '7')
    """

    kind: Literal["images", "vectors"] = "images"
    source: Own = "digits"
    resolution: int = 16
    config: str | None = None
    revision: str | None = None
    train: str = "train"
    test: str | None = None
    test_share: float | None = None
    image: str | None = None
    label: str | None = None
    classes: list[str] | None = None
    subset: str | None = None
    class_names: Literal["imagenet"] | None = None
    unreadable: Literal["stop", "skip"] = "stop"
    cache: str | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    zca: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "data.")
        expand_home(self, "data.", "source", "cache")
        for name in ("train", "test"):
            value = getattr(self, name)
            require(value != "", f"data.{name} is a name, got ''; leave it out for the default.")
        require(
            self.test_share is None or 0 < self.test_share < 1,
            f"data.test_share is a share of each class in (0, 1), got {self.test_share}; for 20 % "
            "write 0.2.",
        )
        require(
            self.test_share is None or self.test is None,
            f"data.test={self.test} names a test split, and data.test_share={self.test_share} "
            "takes one of the training split; give one of them.",
        )
        if self.kind == "vectors":
            refuse_image_keys(self, _OF_IMAGES, "data")
        require(
            self.resolution >= 8,
            f"data.resolution is in pixels and at least 8, got {self.resolution}.",
        )
        require_normalization(self.mean, self.std, "data.")
        require(
            self.classes is None or (bool(self.classes) and all(self.classes)),
            f"data.classes names one class or more, got {show(self.classes)}; null keeps all.",
        )
        require(
            self.classes is None or len(self.classes) > 1,
            f"data.classes keeps the single class {self.classes}; a classifier needs two or more.",
        )
        require_once(self.classes or [], "data.classes")
        if self.subset is not None:
            subset_indices(self.subset)
            require(
                self.classes is None,
                f"data.subset={self.subset} and data.classes={self.classes} both choose classes; "
                "give one of them.",
            )
            require(
                self.source != "digits",
                f"data.subset={self.subset} is a part of ImageNet, and data.source is digits; name "
                "a folder or a Hub id.",
            )
        require(
            self.class_names is None or self.source != "digits",
            "data.class_names=imagenet is about labels of ImageNet, and data.source is digits; "
            "leave it out.",
        )
        values = 3 * self.resolution**2
        require(
            not self.zca or self.resolution <= LARGEST_ZCA,
            f"data.zca whitens images of up to {LARGEST_ZCA} px; at {self.resolution} px its "
            f"matrix would have {values:,} x {values:,} numbers. Leave out data.zca.",
        )

    @property
    def cache_folder(self) -> Path:
        """`cache`, else `$LATENTDC_CACHE`, else `~/.cache/latentdc`."""
        chosen = self.cache or os.environ.get("LATENTDC_CACHE") or "~/.cache/latentdc"
        return Path(chosen).expanduser()

    @property
    def size(self) -> int | None:
        """What networks are built for: pixels of a side; of vectors only their files say it."""
        return self.resolution if self.kind == "images" else None


def refuse_image_keys(spec: Any, keys: tuple[str, ...], prefix: str) -> None:
    """Refuse keys that are about images and are not at their defaults."""
    plain = {field.name: field.default for field in fields(spec)}
    for key in keys:
        value = getattr(spec, key)
        require(
            value == plain[key],
            f"{prefix}.{key}={value} is about images, and data.kind is vectors; leave it out.",
        )


def require_images(data: Data, command: str) -> None:
    """Refuse a command that is about images alone."""
    require(
        data.kind == "images",
        f"{command} works on images, and data.kind is vectors; vectors can be pruned, distilled "
        "and evaluated.",
    )
