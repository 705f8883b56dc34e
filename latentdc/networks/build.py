"""From a name to a network, its initial weights drawn by key."""

import copy
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from latentdc.draws import global_draws, key_seed, own_streams
from latentdc.errors import InputError, nearest
from latentdc.estimates import multiply_adds
from latentdc.networks.base import Network
from latentdc.networks.convnet import ConvNet
from latentdc.networks.mlp import MLP
from latentdc.networks.resnet import CifarResNet, ResNet18, ResNetAP10
from latentdc.networks.vgg import VGG11, AlexNet
from latentdc.networks.vit import ViT
from latentdc.recipe import networks
from latentdc.recipe.own import call, failed, is_own, resolve

M = TypeVar("M", bound=nn.Module)

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
        name: such as `convnet3`, `convnet3@32` for a base width of 32, `torchvision/resnet50`,
            `timm/resnet10t`, or `package.module:attribute` of what makes an `nn.Module` of
            `num_classes` and, where it takes it, `resolution`.
        num_classes: size of the logits.
        resolution: height and width of its images, in pixels; or values of its vectors.

    Raises:
        InputError: unknown name, or a width or resolution that the network cannot have; code of
            yours that fails, or whose logits of a few images are not (B, num_classes) and finite.
    """
    networks.check_network(name, resolution)
    base, width = networks.parse_network(name)
    if base.startswith(networks.PREFIX):
        return _torchvision(base.removeprefix(networks.PREFIX), num_classes, resolution)
    if networks.is_foreign(base):
        try_network(base, num_classes, resolution)
        return _foreign(base, num_classes, resolution)
    return NETWORKS[base](width=width, num_classes=num_classes, resolution=resolution)


def _torchvision(name: str, num_classes: int, resolution: int) -> Network:
    """An untrained classifier of torchvision, perhaps with the stem of papers on small images."""
    from torchvision import models  # takes a second

    short = name.removesuffix(networks.SMALL_STEM)
    sized = {"image_size": resolution} if name.startswith("vit_") else {}
    trunk = models.get_model(short, weights=None, num_classes=num_classes, **sized)
    if short != name:
        trunk.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        trunk.maxpool = nn.Identity()
    return WrappedStudent(trunk)


def _foreign(name: str, num_classes: int, resolution: int) -> Network:
    """A network of timm, or of the user's code."""
    if is_own(name):
        made = _own_module(name, num_classes, resolution)
        network = made if isinstance(made, Network) else WrappedStudent(made)
        if any(map(is_lazy, network.parameters())):  # else drawn at the first batch, by no key
            with torch.no_grad():
                network.eval()(torch.zeros(2, 3, resolution, resolution))
            network.train()
        return network
    import timm

    short = name.removeprefix(networks.TIMM)
    if not timm.is_model(short):
        raise InputError(
            f"timm {timm.__version__} has no model {short!r}"
            f"{nearest(short, timm.list_models()) or '.'}"
        )
    fixed = timm.get_pretrained_cfg(short)
    sized: dict[str, Any] = {"img_size": resolution} if fixed and fixed.fixed_input_size else {}
    return WrappedStudent(timm.create_model(short, num_classes=num_classes, **sized))


def _own_module(name: str, num_classes: int, resolution: int) -> nn.Module:
    """What the user's code makes."""
    make = resolve(name, "network")
    if isinstance(make, nn.Module):
        raise InputError(
            f"network={name.partition('#')[0]} is a module that is made already, and each "
            "training begins with new weights; give its class, or a function that makes one."
        )
    made = call(make, "network", name, num_classes=num_classes, resolution=resolution)
    if not isinstance(made, nn.Module):
        raise InputError(
            f"network={name} made a {type(made).__name__}; it makes an nn.Module, the "
            "classifier of (B, 3, H, W) images."
        )
    return made


def _require_copy(network: nn.Module, label: str) -> None:
    """Refuse a network that cannot hold an average of weights: torch's older weight_norm cannot."""
    try:
        copy.deepcopy(network)
    except Exception as error:
        raise failed(label, "cannot be copied, which a protocol with `ema` does", error) from error


def _require_own_weights(one: nn.Module, other: nn.Module, label: str) -> None:
    """Refuse two makes of a network of which one training would move the weights of the other."""
    made = [p for p in other.parameters() if not is_lazy(p)]
    places = {p.untyped_storage().data_ptr() for p in made} - {0}
    for name, parameter in one.named_parameters():
        if parameter.requires_grad and parameter.untyped_storage().data_ptr() in places:
            raise InputError(
                f"{label} makes networks that share a weight ({name.removeprefix('trunk.')}), and "
                "each training begins with weights of its own; make that anew in each call, or "
                "take a copy.deepcopy of what is loaded once."
            )


def _state(network: nn.Module) -> dict[str, Tensor]:
    """The bytes of what a network keeps beside its weights."""
    kept = (
        (name, each)
        for name, each in network.named_buffers()
        if not is_lazy(each) and each.layout == torch.strided
    )
    return {name: each.reshape(-1).view(torch.uint8).clone() for name, each in kept}


def _require_own_state(other: nn.Module, before: dict[str, Tensor], label: str) -> None:
    """Refuse a make that images through another one have changed, as in a batch norm."""
    for name, kept in _state(other).items():
        if not kept.equal(before[name]):
            raise InputError(
                f"{label} makes networks that share {name}, which training moves, and each "
                "training begins with a state of its own; make that anew in each call, or take a "
                "copy.deepcopy of what is loaded once."
            )


@cache
def try_network(
    name: str, num_classes: int, resolution: int, *, trains: bool = False, averaged: bool = False
) -> None:
    """Refuse a network of others that two random images show to be none of these sizes.

    Or, where it `trains`, that has no parameters which gradients reach; or where it is `averaged`,
    which cannot be copied.
    """
    if not networks.is_foreign(name):
        return
    label = f"network={name.partition('#')[0]}"
    sizes = num_classes, resolution
    try:
        with torch.device("cpu"), global_draws(0, "try", name), torch.enable_grad():
            again = _own_module(name, *sizes) if is_own(name) else None
            network = _foreign(name, *sizes)
            if again is not None:
                _require_own_weights(network, again, label)
            if averaged:
                _require_copy(network, label)
            before = {} if again is None else _state(again)
            for train in (False, True) if trains else (False,):
                _try_images(network.train(train), num_classes, resolution, label)
            if again is not None:
                _require_own_state(again, before, label)
    except InputError as error:
        told = str(error)
        raise InputError(told if told.startswith(label) else f"{label}: {told}") from error
    except Exception as error:
        what = f"fails on two images of {resolution} px in {num_classes} classes"
        raise failed(label, what, error) from error


def _try_images(network: Network, num_classes: int, resolution: int, label: str) -> None:
    """Two random images through the network, in the mode that it is in."""
    mode = " in training mode" if network.training else ""
    images = torch.randn(2, 3, resolution, resolution)
    seen, kept = images.clone(), [buffer.clone() for buffer in network.buffers()]

    def begin() -> None:
        """Each pass draws alike, and begins with what the network keeps beside its weights."""
        torch.manual_seed(key_seed(0, "try"))
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), kept, strict=False):
                buffer.copy_(value)

    begin()
    embedding = network.features(images)
    if not seen.equal(images):
        raise InputError(
            f"{label} changes the images that it is given, which others see after it; let its "
            "first layer make a new tensor (no inplace=True, no `images -= ...`)."
        )
    begin()
    logits = network(images)
    if embedding.ndim != 2 or logits.shape != (2, num_classes):
        raise InputError(
            f"{label} gives logits of shape {tuple(logits.shape)} on an embedding of shape "
            f"{tuple(embedding.shape)}{mode}, for 2 images and {num_classes} classes; its last "
            "nn.Linear maps (B, D) to (B, num_classes)."
        )
    if not bool(logits.isfinite().all() & embedding.isfinite().all()):
        raise InputError(f"{label} gives logits that are not finite{mode}, of normalised images.")
    if isinstance(network, WrappedStudent):
        begin()
        with torch.no_grad():
            whole = network.whole(images)
        if whole.shape != logits.shape or not torch.allclose(whole, logits, rtol=1e-3, atol=1e-3):
            raise InputError(
                f"{label} goes on after its last nn.Linear{mode}, such as by a softmax, or has it "
                "in another place; what that layer gives is taken for the logits, so end in it."
            )
    if network.training and not logits.requires_grad:
        raise InputError(
            f"{label} has nothing to train: no gradient leads from its logits to a parameter; let "
            "some of them require it, and leave out torch.no_grad()."
        )


def new_network(
    name: str, *keys: int | str, num_classes: int, resolution: int, seed: int
) -> Network:
    """`build_network` with initial weights drawn from (seed, "network", keys), on the CPU."""
    with global_draws(seed, "network", *keys):
        return build_network(name, num_classes=num_classes, resolution=resolution)


def outline(name: str, *, num_classes: int, resolution: int) -> Network:
    """`build_network` without weights, on the meta device; nothing is drawn."""
    return trial_network(name, num_classes, resolution)[0].to("meta")


def trial_network(name: str, num_classes: int, resolution: int) -> tuple[Network, torch.device]:
    """A network to run for its shapes, and where: without weights, on the meta device.

    But others' networks, which may compute with their tensors, are whole and on the CPU.
    """
    build = partial(build_network, name, num_classes=num_classes, resolution=resolution)
    if not networks.is_foreign(name):
        return without_weights(build), torch.device("meta")
    with own_streams(), torch.device("cpu") as device:
        return build(), device


def without_weights(build: Callable[[], M]) -> M:
    """What a function builds, on the meta device."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # torchvision's RegNets compute with tensors how wide they are
        with own_streams(), torch.device("cpu"):
            return build().to("meta")


@cache
def forward_work(name: str, num_classes: int, resolution: int) -> float:
    """Multiply-adds of one image's forward pass; nothing is computed but by others' networks."""
    network, device = trial_network(name, num_classes, resolution)
    sample = torch.zeros(1, *networks.input_shape(name, resolution), device=device)
    network.eval()
    return multiply_adds(lambda: network(sample))


class WrappedStudent(Network):
    """Any classifier that ends in a linear layer, which is set apart as `linear`."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        linears = [(n, m) for n, m in trunk.named_modules() if n and isinstance(m, nn.Linear)]
        if not linears:
            raise InputError(
                "a student ends in an nn.Linear, its classifier, and this one has none."
            )
        self._head, self.linear = linears[-1]
        trunk.set_submodule(self._head, nn.Identity())

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), what the last linear layer sees."""
        embedding: Tensor = self.trunk(images)
        return embedding

    def whole(self, images: Tensor) -> Tensor:
        """What the classifier gave before its last linear layer was set apart."""
        self.trunk.set_submodule(self._head, self.linear)
        try:
            given: Tensor = self.trunk(images)
        finally:
            self.trunk.set_submodule(self._head, nn.Identity())
        return given

    def named(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of the classifier itself, such as `classifier.1.weight`, become this student's."""
        if any(key.startswith("trunk.") for key in state):
            return dict(state)
        head = f"{self._head}."
        return {
            f"linear.{key.removeprefix(head)}" if key.startswith(head) else f"trunk.{key}": value
            for key, value in state.items()
        }
