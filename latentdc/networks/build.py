"""From a name to a network, its initial weights drawn by key."""

from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from torch import Tensor, nn

from latentdc.draws import global_draws
from latentdc.networks.base import Network
from latentdc.networks.convnet import ConvNet
from latentdc.networks.mlp import MLP
from latentdc.networks.resnet import CifarResNet, ResNet18, ResNetAP10
from latentdc.networks.vgg import VGG11, AlexNet
from latentdc.networks.vit import ViT
from latentdc.recipe.networks import LIMITS, PREFIX, SMALL_STEM, check_network, parse_network

# The keys are those of recipe.networks.LIMITS.
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


@cache
def needs_two_images(network: str, num_classes: int, resolution: int) -> bool:
    """Whether one image alone cannot be trained on, tried on an outline without weights.

    A batch norm refuses it where it sees a single value per channel.
    """
    limits = LIMITS.get(parse_network(network)[0])
    if limits is not None and limits.kind == "vectors":
        return False
    tried = outline(network, num_classes=num_classes, resolution=resolution).train()
    try:
        with torch.device("meta"):
            tried(torch.empty(1, 3, resolution, resolution))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return True
    return False


class TorchvisionStudent(Network):
    """An untrained torchvision classifier, its last linear layer set apart as `linear`."""

    def __init__(self, name: str, *, num_classes: int, resolution: int) -> None:
        from torchvision import models  # takes a second

        super().__init__()
        sized = {"image_size": resolution} if name.startswith("vit_") else {}
        self.trunk: nn.Module = models.get_model(
            name.removesuffix(SMALL_STEM), weights=None, num_classes=num_classes, **sized
        )
        if name.endswith(SMALL_STEM):
            _shrink_stem(self.trunk)
        self._head, self.linear = _take_last_linear(self.trunk)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), what the classifier of torchvision's network sees."""
        embedding: Tensor = self.trunk(images)
        return embedding

    def named(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of torchvision, such as `classifier.1.weight`, become this student's."""
        if any(key.startswith("trunk.") for key in state):
            return dict(state)
        head = f"{self._head}."
        return {
            f"linear.{key.removeprefix(head)}" if key.startswith(head) else f"trunk.{key}": value
            for key, value in state.items()
        }


def _shrink_stem(resnet: nn.Module) -> None:
    """The "modified" ResNet of papers on small images: a 3x3 convolution in front, no pooling."""
    resnet.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    resnet.maxpool = nn.Identity()


def _take_last_linear(trunk: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the classifier, in whose place the trunk keeps an identity."""
    name, linear = [(n, m) for n, m in trunk.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    setattr(trunk.get_submodule(parent), last, nn.Identity())
    return name, linear
