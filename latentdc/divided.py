"""A training whose batches all processes divide: of scorers, teachers, students and experts."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from latentdc.networks.build import forward_work, outline
from latentdc.ranks import note
from latentdc.training import Batch

LONG = 50e9  # multiply-adds of a step, forward and back, from which processes divide its batch


class Divided:
    """A training of all processes, each of which takes its share of every batch; or of one alone.

    By torch's DistributedDataParallel. The gradient is that of the whole batch, to rounding, and
    the weights stay alike. Batch norm sees the share of its process, and dropout draws for it, so
    that networks with these learn otherwise on another number of processes (`process_facts`); what
    batch norm has seen is in the end that of the main process. Accelerate's `prepare` makes the
    same of a network, but replaces its forward pass where the precision is mixed, and holds it
    until the program ends.

    Args:
        network: on the accelerator's device, the same on all processes.
        accelerator: of this process.
        what: is trained, for the line that tells of it; None for a training of this process alone.
        batch: images of a step, for the same line.

    Attributes:
        latest: () mean loss of the last step, over this process's share, without gradients.
    """

    def __init__(
        self, network: nn.Module, accelerator: Accelerator, what: str | None, batch: int
    ) -> None:
        self.network = network
        self.latest = torch.zeros(())
        self._rank, self._processes = 0, 1
        if what is None:
            return
        from torch.nn.parallel import DistributedDataParallel

        device = accelerator.device
        self._rank, self._processes = accelerator.process_index, accelerator.num_processes
        self.network = DistributedDataParallel(
            network,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=any(map(_foreign, network.modules())),  # they may have some
        )
        sees = "; batch norm and draws such as dropout act on the share of a process"
        note(
            f"{what} is trained by all {self._processes} processes, which divide each batch of "
            f"{batch}{sees if _acts_on_shares(network) else ''}."
        )

    def mean(self, loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """() mean loss of a batch; of this process's share so that the processes' mean is that.

        Each process sees all of a batch with too few images for shares of two.
        """
        scale = 1.0
        if len(batch.rows) >= 2 * self._processes and self._processes > 1:
            start, end = (
                len(batch.rows) * n // self._processes for n in (self._rank, self._rank + 1)
            )
            scale = (end - start) * self._processes / len(batch.rows)
            batch = batch.part(start, end)
        value = loss(batch)
        self.latest = value.detach()
        return scale * value

    def keys(self, *keys: int | str) -> tuple[int | str, ...]:
        """Keys of what this process draws for its share; on the main process those of one alone."""
        return keys if self._rank == 0 else (*keys, "process", self._rank)


def is_divided(
    network: str, *, num_classes: int, resolution: int, batch: int, processes: int
) -> bool:
    """Whether a training is long enough for all processes: by the work of a step, `LONG`."""
    if processes == 1 or batch < 2 * processes:
        return False
    return 3 * batch * forward_work(network, num_classes, resolution) >= LONG


def process_facts(
    network: str, *, num_classes: int, resolution: int, processes: int
) -> dict[str, object]:
    """The number of processes, where a divided training of the network depends on it."""
    plan = outline(network, num_classes=num_classes, resolution=resolution)
    return {"processes": processes} if _acts_on_shares(plan) else {}


def _acts_on_shares(network: nn.Module) -> bool:
    """Whether it has batch norm, or draws; modules of others may draw where nobody sees it."""
    kinds = nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd

    def acts(module: nn.Module) -> bool:
        if isinstance(module, nn.MultiheadAttention):
            return bool(module.dropout > 0)
        named = type(module).__name__ == "StochasticDepth"  # torchvision's, imported by its use
        return named or isinstance(module, kinds) or _foreign(module)

    return any(map(acts, network.modules()))


def _foreign(module: nn.Module) -> bool:
    return type(module).__module__.split(".")[0] not in ("torch", "latentdc", "torchvision")
