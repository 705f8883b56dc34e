"""torchvision's classifiers that can be students, by name, known without importing torchvision.

Left out: GoogLeNet and Inception (extra outputs in training), SqueezeNet (no linear classifier),
MaxViT (sizes that only 224 px divide into).
"""

PREFIX = "torchvision/"
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


def pretrained(weights: str | None) -> str | None:
    """Which of torchvision's own weights are asked for, None for a file or none.

    `torchvision` are those that it recommends, `DEFAULT`; `torchvision/IMAGENET1K_V1` are others,
    by their name. What papers call pretrained is mostly the latter.
    """
    if weights == PRETRAINED:
        return "DEFAULT"
    name = (weights or "").removeprefix(PREFIX)
    return name if name != weights and name.isidentifier() else None


def patch_multiple(name: str) -> int:
    """Of which the image size is a multiple: the patch of a vision transformer, else 1."""
    return int(name.rpartition("_")[2]) if name.startswith("vit_") else 1
