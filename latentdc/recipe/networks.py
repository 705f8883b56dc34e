"""The names of networks, such as `convnet3` or `resnet18@16`, and which images each takes.

Besides latentdc's own there are timm's, such as `timm/resnet10t`, those of users, such as
`mine:Net`, and torchvision's classifiers, such as `torchvision/mobilenet_v2`. Of the latter left
out: GoogLeNet and Inception (extra outputs in training), SqueezeNet (no linear classifier), MaxViT
(sizes that only 224 px divide into).
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from latentdc.errors import InputError, nearest
from latentdc.recipe.own import FORM, is_own

PREFIX = "torchvision/"
TIMM = "timm/"
PRETRAINED = "torchvision"  # weights on ImageNet: those that torchvision recommends
SMALL_STEM = "-small"  # one 3x3 convolution and no pooling in front, for images of 32 or 64 px

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_BY_SMALLEST = {  # least height and width of the images, in pixels: (names separated by blanks)
    8: " ".join(f"{name}{SMALL_STEM}" for name in _RESNETS),
    32: " ".join(_RESNETS)
    + """
        resnext50_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2 wide_resnet101_2
        vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn
        densenet121 densenet161 densenet169 densenet201
        mobilenet_v2 mobilenet_v3_small mobilenet_v3_large
        mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3
        shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
        efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
        efficientnet_b5 efficientnet_b6 efficientnet_b7
        efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l
        regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf
        regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf
        regnet_y_16gf regnet_y_32gf regnet_y_128gf
        convnext_tiny convnext_small convnext_base convnext_large
        swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b
        vit_b_16 vit_l_16 vit_b_32 vit_l_32
    """,
    64: "alexnet",
    56: "vit_h_14",
}
SMALLEST = {name: pixels for pixels, names in _BY_SMALLEST.items() for name in names.split()}


@dataclass(frozen=True)
class Limits:
    """Which base widths and resolutions a network takes.

    Attributes:
        width: published base width, the one of a name without `@`.
        smallest: least height and width of its images, in pixels.
        width_multiple: of which other base widths are multiples.
        patches: whether images are cut into whole patches: resolutions are multiples of 8 px up to
            128, of 16 px above.
        multiple: of which resolutions are multiples otherwise.
        kind: of samples that it takes; of `vectors`, a resolution is the number of their values.
        widths: whether a name may give another base width.
        stacks: whether several can be trained as one network (`networks.stacked`): each layer
            computes channel by channel, and none draws.
    """

    width: int
    smallest: int
    width_multiple: int = 1
    patches: bool = False
    multiple: int = 1
    kind: Literal["images", "vectors"] = "images"
    widths: bool = True
    stacks: bool = True

    def take(self, resolution: int) -> bool:
        """Whether images of `resolution` pixels are possible."""
        multiple = (8 if resolution <= 128 else 16) if self.patches else self.multiple
        return resolution >= self.smallest and resolution % multiple == 0

    @property
    def samples(self) -> str:
        """What it takes, in words."""
        if self.kind == "vectors":
            return "vectors"
        whole = ", multiples of 8 px up to 128 and of 16 px above" if self.patches else ""
        whole = whole or (f", multiples of {self.multiple} px" if self.multiple > 1 else "")
        return f"images of {self.smallest} px or more{whole}"


_WIDEST = 16_384  # base width; a wider network is a slip, which no machine holds
# An instance norm of a single pixel is zero whatever comes in, so every normalised map keeps 2 px.
LIMITS = {
    "convnet": Limits(128, smallest=8),
    "convnet3": Limits(128, smallest=8),
    "convnet4": Limits(128, smallest=16),
    "convnet5": Limits(128, smallest=32),
    "convnet6": Limits(128, smallest=64),
    "convnet7": Limits(128, smallest=128),
    "convnet3-bn": Limits(128, smallest=8),
    "convnet4-bn": Limits(128, smallest=16),
    "convnet5-bn": Limits(128, smallest=32),
    "convnet6-bn": Limits(128, smallest=64),
    "alexnet": Limits(128, smallest=8, width_multiple=2),
    "vgg11": Limits(64, smallest=8),
    "resnet18": Limits(64, smallest=16),
    "resnet18-bn": Limits(64, smallest=16),
    "resnet18-bn-he": Limits(64, smallest=16),
    "resnet18-imagenet": Limits(64, smallest=64),
    "resnet18-idc": Limits(64, smallest=16),
    "resnetap10": Limits(64, smallest=16),
    "vit": Limits(512, smallest=8, width_multiple=8, patches=True, stacks=False),
    "resnet20": Limits(16, smallest=8, width_multiple=2),
    "resnet56": Limits(16, smallest=8, width_multiple=2),
    "linear": Limits(1, smallest=1, kind="vectors", widths=False),
    "mlp": Limits(512, smallest=1, kind="vectors"),
}


def parse_network(name: str) -> tuple[str, int]:
    """The network's own name and its base width: `convnet3@32` -> ("convnet3", 32).

    Raises:
        InputError: unknown name (with the nearest one), or a width that it cannot have.
    """
    if not isinstance(name, str):
        raise InputError(f"a network is named, such as 'convnet3@32', got {str(name)[:80]!r}.")
    if is_own(name) or name.startswith((PREFIX, TIMM)):
        limits_of(name)
        return name, 1  # these come in one width
    base, at, width = name.partition("@")
    if base not in LIMITS:
        raise InputError(
            f"unknown network {name!r}{nearest(base, LIMITS)}; known: {list(LIMITS)}, "
            f"{PREFIX}NAME, {TIMM}NAME, or {FORM} of your own."
        )
    limits = LIMITS[base]
    if not at:
        return base, limits.width
    if not limits.widths:
        raise InputError(f"{name!r}: {base} has no hidden layer, and so no width; write {base}.")
    plain = width.isascii() and width.isdecimal() and len(width) <= len(str(_WIDEST))
    plain = plain and not width.startswith("0")  # one network, one name
    if not (plain and int(width) <= _WIDEST and int(width) % limits.width_multiple == 0):
        raise InputError(
            f"{name[:80]!r}: the base width after '@' is a positive multiple of "
            f"{limits.width_multiple} for {base}, got {width[:80]!r}; such as {base}@32, and at "
            f"most {_WIDEST}."
        )
    return base, int(width)


def is_foreign(name: str) -> bool:
    """Whether it is a network of timm or of the user's own code, which may compute when built."""
    return is_own(name) or name.startswith(TIMM)


def input_shape(name: str, resolution: int) -> tuple[int, ...]:
    """Shape of one sample that a network takes: (3, H, W), or (D,) of vectors."""
    base, _ = parse_network(name)
    vectors = base in LIMITS and LIMITS[base].kind == "vectors"
    return (resolution,) if vectors else (3, resolution, resolution)


def can_stack(name: str) -> bool:
    """Whether several of a network can be trained as one: those of latentdc, but for `vit`."""
    base, _ = parse_network(name)
    return base in LIMITS and LIMITS[base].stacks


def check_network(
    name: str,
    resolution: int | None = None,
    kind: Literal["images", "vectors"] | None = None,
) -> None:
    """Refuse a name that no network has, or samples of a data set that it cannot take.

    `resolution` is that of its images, in pixels, `kind` that of its samples; None checks none.
    """
    base, _ = parse_network(name)
    limits = limits_of(base)
    if kind not in (None, limits.kind):
        fitting = [other for other, its in LIMITS.items() if its.kind == kind]
        raise InputError(
            f"{name} is a network of {limits.kind}, and the data set has {kind}; use one of "
            f"{fitting}."
        )
    if resolution is None:
        return
    if not limits.take(resolution):
        alike = [other for other, its in LIMITS.items() if its.kind == limits.kind]
        fitting = [other for other in alike if LIMITS[other].take(resolution)]
        raise InputError(
            f"{name} takes {limits.samples}, got {resolution} px; at this resolution use one of "
            f"{fitting}."
        )


def limits_of(base: str) -> Limits:
    """Limits of a network; of others' than ours only torchvision's are known before it is built."""
    if is_own(base):
        return Limits(1, 1)
    if base.startswith(TIMM):
        if find_spec("timm") is None:
            raise InputError(f'{base} needs timm; install it with pip install "latentdc[timm]".')
        return Limits(1, 8)
    if not base.startswith(PREFIX):
        return LIMITS[base]
    name = base.removeprefix(PREFIX)
    if name not in SMALLEST:
        raise InputError(
            f"unknown network {base!r}{nearest(name, SMALLEST)}; torchvision's classifiers that "
            f"can be students, behind {PREFIX!r}: {', '.join(SMALLEST)}."
        )
    patch = int(name.rpartition("_")[2]) if name.startswith("vit_") else 1
    return Limits(1, SMALLEST[name], multiple=patch)


def pretrained(weights: str | None) -> str | None:
    """Which of torchvision's own weights are asked for, None for a file or none.

    `torchvision` are those that it recommends, `DEFAULT`; `torchvision/IMAGENET1K_V1` are others,
    by their name. What papers call pretrained is mostly the latter.
    """
    if weights == PRETRAINED:
        return "DEFAULT"
    name = (weights or "").removeprefix(PREFIX)
    return name if name != weights and name.isidentifier() else None
