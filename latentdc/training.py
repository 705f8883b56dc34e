"""The one training loop, and what it is fed with: batches in keyed order, samplers, precision.

Students, teachers, scorers, experts, priors and the inner training of gradient matching all go
through `fit`. Averages of weights, snapshots, progress bars and stopping are the caller's.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from latentdc.augment.dsa import Draw, draw_augmentation
from latentdc.draws import generator, gpus_in_use, key_seed, own_streams
from latentdc.errors import InputError, RunError
from latentdc.images import send
from latentdc.io import load_with_metadata
from latentdc.networks.build import trial_network
from latentdc.recipe.networks import input_shape

_Tensors = tuple[Tensor, ...] | list[Tensor]
T = TypeVar("T")
Forward = Callable[[Tensor], Tensor]  # of the network, in its precision; float32 comes out
Keys = tuple[int, *tuple[int | str, ...]]  # a seed, and what is drawn


class Precision:
    """How a network computes: under the accelerator's autocast, its loss scaled in fp16.

    One for a whole training, because the scale adapts itself. Without an accelerator the precision
    is the caller's own.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        half = accelerator is not None and accelerator.mixed_precision == "fp16"
        device = "cpu" if accelerator is None else accelerator.device.type
        self._scaler = torch.amp.GradScaler(device, enabled=half)
        self._accelerator = accelerator

    def forward(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """The network's outputs in float32."""
        with nullcontext() if self._accelerator is None else self._accelerator.autocast():
            outputs: Tensor = network(inputs)
        return outputs.float()

    def step(self, loss: Tensor, optimizer: Optimizer, clip: float | None) -> None:
        """One update of the optimiser's parameters, whose gradients have norm `clip` at most."""
        optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        if clip is not None:
            self._scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)
        self._scaler.update()


OnStep = Callable[[Mapping[str, Any]], None]
"""Is told the measures of a finished step (`step`, `loss`, ...); what it raises ends the work."""


def fit(
    network: nn.Module,
    batches: Iterable[T],
    loss: Callable[[Forward, T], Tensor],
    optimizer: Optimizer,
    *,
    precision: Precision | None = None,
    lr: Callable[[T], float] | None = None,
    clip: float | None = None,
    dropout: Keys | None = None,
) -> Iterator[tuple[T, Tensor]]:
    """Train a network by one step for each batch, yielding the batch and its loss after the step.

    Args:
        network: in the mode in which it trains.
        batches: whatever `loss` takes; each is asked for when its step begins.
        loss: () loss of a batch, given the network as a function of inputs.
        optimizer: of the network's parameters.
        precision: of this and, where a training is several calls, all of them; None takes the
            caller's autocast and scales nothing.
        lr: learning rate of a batch; None leaves the optimiser's.
        clip: largest norm of the gradients; None for any.
        dropout: keys of torch's global stream, from which layers draw in the steps, and which is
            the caller's own between them; None draws from the caller's.
    """
    precision, stream = precision or Precision(), _Stream(dropout)
    for batch in batches:
        if lr is not None:
            rate = lr(batch)
            for group in optimizer.param_groups:
                group["lr"] = rate
        with stream.resumed():
            value = loss(lambda inputs: precision.forward(network, inputs), batch)
        precision.step(value, optimizer, clip)
        torch.clear_autocast_cache()  # an autocast of the caller's holds the weights of before
        yield batch, value.detach()


class _Stream:
    """torch's global streams, of CPU and GPU, of one purpose, taken up step by step."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys
        self._states: list[Tensor] = []

    @contextmanager
    def resumed(self) -> Iterator[None]:
        if self._keys is None:
            yield
            return
        gpus = gpus_in_use()
        with own_streams(gpus):
            if not self._states:
                torch.manual_seed(key_seed(*self._keys))
            else:
                torch.set_rng_state(self._states[0])
            for gpu, state in zip(gpus, self._states[1:], strict=False):
                torch.cuda.set_rng_state(state, gpu)
            yield
            self._states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, gpus)]


def moving_average(network: nn.Module, decay: Callable[[int], float]) -> AveragedModel:
    """Averaged weights of a network, moved by `update_parameters`; statistics are copied.

    The weights come first, unless `n_averaged` is set to 1 to begin with the initial ones. `decay`
    is the share that an average keeps, by the number of weights that are in it.
    """

    def average(kept: _Tensors, latest: _Tensors, _: Tensor | int) -> None:
        torch._foreach_lerp_(kept, latest, 1 - decay(int(model.n_averaged)))

    model = AveragedModel(network, multi_avg_fn=average)
    return model


def require_finite(loss: Tensor, network: nn.Module, what: str, advice: str) -> None:
    """Refuse a training of `what` that ended with a loss or weights that are not finite."""
    weights = [t for t in network.state_dict().values() if t.is_floating_point()]
    finite = math.isfinite(loss.item())
    if not finite or not all(bool(t.isfinite().all()) for t in weights):
        raise RunError(
            f"the training of {what} ended with a loss of {loss.item()}"
            f"{' and weights that are not finite' if finite else ''}; {advice}"
        )


class Sampler(Protocol):
    """Which of the images an epoch sees."""

    def epoch(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """(M,) rows to see in this epoch and (M,) weights of their losses; None where all are 1."""


class RandomSubsets:
    """A sampler of other random images in each epoch, until all of them have been seen.

    RS2 without replacement: Okanovic et al., "Repeated Random Sampling for Minimizing the
    Time-to-Accuracy of Learning", ICLR 2024, https://openreview.net/forum?id=JnRStoIuTe. The
    `count` images are shuffled and dealt out to epochs in turn, `size` to each, then shuffled anew;
    the last epoch of a round is filled up with the first images of it.
    """

    def __init__(self, count: int, size: int, *, seed: int = 0) -> None:
        self.count, self.size, self.seed = count, size, seed

    def epoch(self, epoch: int) -> tuple[Tensor, None]:
        """(size,) rows to see in this epoch; no weights."""
        number, place = divmod(epoch, math.ceil(self.count / self.size))
        order = torch.randperm(self.count, generator=generator(self.seed, "subsets", number))
        return order.roll(-place * self.size)[: self.size], None


class InfoBatch:
    """A sampler that leaves out some of what is already learned, anew in every epoch, without bias.

    Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024,
    https://arxiv.org/abs/2303.04947. Of the images whose last loss is below the mean, each is left
    out with probability rho; those that stay count 1 / (1 - rho). The last (1 - delta) of the
    epochs see everything with weight 1, whatever the number of epochs. Losses of images not seen
    yet are unknown, so that the first epoch leaves out nothing. Draws are keyed by epoch.
    """

    def __init__(
        self, count: int, epochs: int, *, rho: float = 0.5, delta: float = 0.875, seed: int = 0
    ) -> None:
        assert 0 <= rho < 1 and 0 <= delta <= 1
        self.rho, self.seed = rho, seed
        self.pruned_epochs = round(delta * epochs)
        self._losses = torch.full((count,), torch.nan)
        self._latest: list[tuple[Tensor, Tensor]] = []  # on their device, which no step waits for

    @property
    def losses(self) -> Tensor:
        """(N,) last loss of each image on the CPU, NaN of one that was not seen yet."""
        if self._latest:
            rows, losses = (torch.cat(parts) for parts in zip(*self._latest, strict=True))
            self._losses[rows] = losses.float().cpu()
            self._latest.clear()
        return self._losses

    @losses.setter
    def losses(self, losses: Tensor) -> None:
        self._losses, self._latest = losses, []

    def epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        """(M,) ascending rows to see in this epoch and (M,) weights of their losses."""
        losses = self.losses
        weights, known = torch.ones(len(losses)), losses.isfinite()
        if epoch >= self.pruned_epochs or not bool(known.any()):
            return torch.arange(len(weights)), weights
        easy = known & (losses < losses[known].mean())
        draws = torch.rand(len(weights), generator=generator(self.seed, "infobatch", epoch))
        weights[easy] = 1 / (1 - self.rho)
        rows = (~easy | (draws >= self.rho)).nonzero().squeeze(1)
        return rows, weights[rows]

    def update(self, rows: Tensor, losses: Tensor) -> None:
        """Note (B,) unweighted losses of the rows just trained on, each once in an epoch."""
        self._latest.append((rows, losses.detach()))

    def loss(self, batch: "Batch", logits: Tensor, labels: Tensor, smoothing: float = 0) -> Tensor:
        """() weighted cross-entropy of a batch's logits (B, C) and labels (B,), taken note of."""
        losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        self.update(batch.rows, losses)
        assert batch.weights is not None
        return (losses * send(batch.weights, losses.device)).mean()


class Batch(NamedTuple):
    """Images of one step.

    Attributes:
        rows: (B,) indices, on the CPU.
        draw: their DSA augmentation.
        weights: (B,) of their losses; None where all weigh the same.
    """

    rows: Tensor
    draw: Draw | None
    weights: Tensor | None = None

    def part(self, start: int, end: int) -> "Batch":
        """The batch's images from `start` up to `end`, with their draws and weights."""
        own = slice(start, end)
        draw = self.draw
        if draw is not None and len(draw.uniforms) > 1:  # one row stands for all images
            draw = replace(draw, uniforms=draw.uniforms[own])
        return Batch(self.rows[own], draw, None if self.weights is None else self.weights[own])


def epoch_batches(
    count: int,
    batch: int,
    augmentation: str | None,
    seed: int,
    *keys: int | str,
    join: bool = False,
    sampler: Sampler | None = None,
) -> list[Batch]:
    """One pass over `count` images in an order drawn by (seed, keys); the last batch may be short.

    Args:
        count: of images.
        batch: images per step.
        augmentation: DSA strategy, of which each batch draws one kind, with parameters of its own
            for each image; None draws nothing.
        seed: of the draws.
        keys: of the pass, the last of them its epoch.
        join: as of `split`.
        sampler: which of the images the pass sees, None for all.
    """
    source = generator(seed, *keys)
    if sampler is None:
        order, weights = torch.randperm(count, generator=source), None
    else:
        seen, weights = sampler.epoch(int(keys[-1]))
        places = torch.randperm(len(seen), generator=source)
        order, weights = seen[places], None if weights is None else weights[places]
    parts = split(order, batch, join=join)
    weighed = [None] * len(parts) if weights is None else split(weights, batch, join=join)
    return [
        Batch(rows, draw_augmentation(augmentation, source, samples=len(rows)), own)
        for rows, own in zip(parts, weighed, strict=True)
    ]


def split(order: Tensor, batch: int, *, join: bool) -> list[Tensor]:
    """Batches of an epoch; with `join`, a last one of a single image joins the one before."""
    parts = list(order.split(batch))
    if join and len(parts) > 1 and len(parts[-1]) == 1 < batch:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def joins(network: str, *, num_classes: int, resolution: int, count: int, batch: int) -> bool:
    """Whether a training has to `join` a last single image: where batch norm would refuse it.

    All other trainings see it alone. Of `count` images each step takes `batch`; where there would
    be nothing to join, the training is refused.
    """
    if not needs_two_images(network, num_classes, resolution):
        return False
    if min(count, batch) == 1:
        raise InputError(
            f"{network} cannot learn from one image of {resolution} px at a time, because its "
            "batch norm would see one value per channel; take batches of 2 images or more, or "
            "another network."
        )
    return True


@cache
def needs_two_images(network: str, num_classes: int, resolution: int) -> bool:
    """Whether one image alone cannot be trained on, tried on an outline without weights.

    A batch norm refuses it where it sees a single value per channel.
    """
    sample = input_shape(network, resolution)
    if len(sample) == 1:  # of vectors
        return False
    tried, device = trial_network(network, num_classes, resolution)
    try:
        with device:
            tried.train()(torch.zeros(1, *sample))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return True
    return False


def training_state(
    modules: Mapping[str, nn.Module], optimizer: Optimizer
) -> Iterator[tuple[str, Tensor]]:
    """All tensors that a training goes on from, by name."""
    for kind, module in modules.items():
        for name, tensor in module.state_dict().items():
            yield f"{kind} {name}", tensor.contiguous()
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, tensor in slots.items():
            yield f"optimizer {index} {slot}", tensor.contiguous()


def read_training_state(
    path: Path, inputs: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and facts of the state at `path`, none without a file.

    `inputs` are hashes of what a network is trained on, such as {"training split": hash}. A state
    that names another one is refused.

    Raises:
        InputError: the state is damaged, or of other inputs.
    """
    if not path.is_file():
        return {}, {}
    again = "or remove it to train this network from the start"
    try:
        tensors, facts = load_with_metadata(path)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); bring back a copy, {again}.") from error
    for name, value in inputs.items():
        if (known := facts.get(name, value)) != value:
            raise InputError(
                f"{path} is of another {name} (hash {known}) than this run's ({value}); bring "
                f"that back, {again}, or give this run a folder of its own with output=..."
            )
    return tensors, facts


def load_training_state(
    path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer, inputs: Mapping[str, str]
) -> tuple[int, float]:
    """Steps that are done and their seconds, with the state that they left; 0 without a file.

    Raises:
        InputError: as `read_training_state`.
    """
    tensors, facts = read_training_state(path, inputs)
    if not facts:
        return 0, 0.0
    groups: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*modules, "optimizer")}
    for name, tensor in tensors.items():
        kind, _, key = name.partition(" ")
        groups[kind][key] = tensor
    for kind, module in modules.items():
        module.load_state_dict(groups[kind])
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in groups["optimizer"].items():
        index, _, slot = key.partition(" ")
        slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": slots})
    return int(facts["done"]), float(facts["seconds"])
