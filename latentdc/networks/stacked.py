"""Several networks of one kind as one, whose layers compute for all of them in one call each.

The channels of each network stand together, so that K maps (B, C, H, W) are one of (B, K C, H, W):
convolutions and group norms have K times as many groups, batch norms K times as many channels, and
linear layers are a product of K pairs of matrices. On a GPU, which small networks leave idle, K
networks so take the calls of one.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentdc.networks.base import Network
from latentdc.networks.resnet import ZeroPadShortcut


class _StackedLinear(nn.Module):
    """K linear layers, (B, K D) -> (B, K E); the weight is (K E, D), the bias (K E,)."""

    def __init__(self, one: nn.Linear, count: int) -> None:
        super().__init__()
        self.count, self.weight, self.bias = count, one.weight, one.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, K D) -> (B, K E)."""
        each = x.unflatten(1, (self.count, -1)).transpose(0, 1)  # (K, B, D)
        weights = self.weight.unflatten(0, (self.count, -1)).transpose(1, 2)  # (K, D, E)
        biases = self.bias.unflatten(0, (self.count, 1, -1))  # (K, 1, E)
        return torch.baddbmm(biases, each, weights).transpose(0, 1).flatten(1)


class Stacked(nn.Module):
    """K networks that differ in their weights alone; each tensor is theirs, one after another.

    Args:
        networks: of one name that `recipe.networks.Limits` calls stackable; they stay as they are.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.count, self.trunk = len(networks), copy.deepcopy(networks[0])
        for name, module in list(self.trunk.named_modules()):
            _widen(self.trunk, name, module, self.count)
        others = [network.state_dict(keep_vars=True) for network in networks]
        for name, module in self.trunk.named_modules(remove_duplicate=False):
            prefix = f"{name}." if name else ""
            for key, value in module.named_parameters(recurse=False):
                joined = torch.cat([other[prefix + key].detach() for other in others])
                setattr(module, key, nn.Parameter(joined, requires_grad=value.requires_grad))
            for key, value in module.named_buffers(recurse=False):
                if value.ndim:  # a count of batches is the same for all
                    setattr(module, key, torch.cat([other[prefix + key] for other in others]))

    def forward(self, images: Tensor) -> Tensor:
        """(K B, 3, H, W) images, those of each network together -> (K B, num_classes) logits."""
        each = images.unflatten(0, (self.count, -1)).transpose(0, 1)  # (B, K, 3, H, W)
        logits: Tensor = self.trunk(each.flatten(1, 2))
        return logits.view(len(each), self.count, -1).transpose(0, 1).flatten(0, 1)

    def split(self, networks: Sequence[Network]) -> Sequence[Network]:
        """Load each network's part of the weights and statistics into the networks given."""
        state = self.trunk.state_dict()
        for place, network in enumerate(networks):
            network.load_state_dict(
                {k: v.chunk(self.count)[place] if v.ndim else v for k, v in state.items()}
            )
        return networks


def _widen(trunk: nn.Module, name: str, module: nn.Module, count: int) -> None:
    """Let one layer take and give the channels of `count` networks."""
    match module:
        case nn.Conv2d():
            module.groups *= count
            module.in_channels *= count
            module.out_channels *= count
        case nn.GroupNorm():
            module.num_groups *= count
            module.num_channels *= count
        case nn.BatchNorm2d():
            module.num_features *= count
        case ZeroPadShortcut():
            module.groups *= count
        case nn.Linear():
            trunk.set_submodule(name, _StackedLinear(module, count))
        case _:
            assert not list(module.parameters(recurse=False)), f"{name} cannot be stacked"
