"""What is common to dry runs: counting work without weights, and writing quantities for people."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

UNKNOWN = "unknown until downloaded"


def multiply_adds(forward: Callable[[], object]) -> float:
    """Multiply-adds of a forward pass; on the `meta` device nothing is computed."""
    with FlopCounterMode(display=False) as counter:
        forward()
    return float(counter.get_total_flops()) / 2


def parameters(network: nn.Module) -> int:
    """Numbers that a network's weights are."""
    return sum(weight.numel() for weight in network.parameters())


def aligned(lines: Mapping[str, str]) -> str:
    """A line of `quantity: value` each."""
    width = max(map(len, lines)) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in lines.items())


def in_bytes(count: float) -> str:
    """A number of bytes, like 1.3 GB."""
    return _in_thousands(count, ("B", "kB", "MB", "GB", "TB"))


def in_work(count: float) -> str:
    """A number of multiply-adds, like 81.5 EMAC; an EMAC is 10^18 of them."""
    units = ("MAC", "kMAC", "MMAC", "GMAC", "TMAC", "PMAC", "EMAC", "ZMAC")
    return _in_thousands(count, units)


def _in_thousands(count: float, units: Sequence[str]) -> str:
    power = min(len(units) - 1, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.3g} {units[power]}"
