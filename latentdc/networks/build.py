"""From a name to a network, its initial weights drawn by key."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from latentdc.draws import global_draws
from latentdc.networks.alexnet import AlexNet
from latentdc.networks.base import Network
from latentdc.networks.convnet import ConvNet
from latentdc.networks.mlp import MLP
from latentdc.networks.resnet import CifarResNet, ResNet18
from latentdc.networks.resnet_ap import ResNetAP10
from latentdc.networks.vgg import VGG11
from latentdc.networks.vit import ViT
from latentdc.recipe.networks import PREFIX, check_network, parse_network

# The keys are those of names.LIMITS.
NETWORKS: dict[str, Callable[..., Network]] = {
    "convnet": partial(ConvNet, depth=None),
    "convnet3": partial(ConvNet, depth=3),
    "convnet4": partial(ConvNet, depth=4),
    "convnet5": partial(ConvNet, depth=5),
    "convnet6": partial(ConvNet, depth=6),
    "convnet7": partial(ConvNet, depth=7),
    "convnet3-bn": partial(ConvNet, depth=3, norm=nn.BatchNorm2d),
    "convnet4-bn": partial(ConvNet, depth=4, norm=nn.BatchNorm2d),
    "convnet5-bn": partial(ConvNet, depth=5, norm=nn.BatchNorm2d),
    "convnet6-bn": partial(ConvNet, depth=6, norm=nn.BatchNorm2d),
    "alexnet": AlexNet,
    "vgg11": VGG11,
    "resnet18": partial(ResNet18, stem="small"),
    "resnet18-bn": partial(ResNet18, stem="small", norm=nn.BatchNorm2d),
    "resnet18-bn-he": partial(ResNet18, stem="small", norm=nn.BatchNorm2d, he=True),
    "resnet18-imagenet": partial(ResNet18, stem="imagenet"),
    "resnet18-idc": partial(ResNet18, stem="idc", he=True),
    "resnetap10": ResNetAP10,
    "vit": ViT,
    "resnet20": partial(CifarResNet, blocks=3),
    "resnet56": partial(CifarResNet, blocks=9),
    "linear": partial(MLP, hidden=0),
    "mlp": partial(MLP, hidden=2),
}


def build_network(name: str, *, num_classes: int, resolution: int) -> Network:
    """A network with the initialisation of its source, drawn from the global stream.

    Args:
        name: such as `convnet3`, `convnet3@32` for a base width of 32, or `torchvision/resnet50`.
        num_classes: size of the logits.
        resolution: height and width of its images, in pixels; or values of its vectors.

    Raises:
        InputError: unknown name, or a width or resolution that the network cannot have.
    """
    check_network(name, resolution)
    base, width = parse_network(name)
    if base.startswith(PREFIX):
        from latentdc.networks.torchvision_student import TorchvisionStudent  # takes a second

        return TorchvisionStudent(
            base.removeprefix(PREFIX), num_classes=num_classes, resolution=resolution
        )
    return NETWORKS[base](width=width, num_classes=num_classes, resolution=resolution)


def new_network(
    name: str, *keys: int | str, num_classes: int, resolution: int, seed: int
) -> Network:
    """`build_network` with initial weights drawn from (seed, "network", keys), on the CPU."""
    with global_draws(seed, "network", *keys):
        return build_network(name, num_classes=num_classes, resolution=resolution)


def outline(name: str, *, num_classes: int, resolution: int) -> Network:
    """`build_network` without weights, on the meta device; nothing is drawn."""
    sizes = {"num_classes": num_classes, "resolution": resolution}
    try:
        with torch.device("meta"):
            return build_network(name, **sizes)
    except NotImplementedError:  # torchvision's RegNets compute with tensors how wide they are
        with torch.random.fork_rng(devices=[]):
            return build_network(name, **sizes).to("meta")
