"""Real images by step and class, and which of them a batch leaves out by their effect.

Batches are held on the device where they fit, else read ahead by a thread.

Trimming is BiLP's dynamic level (https://arxiv.org/abs/2305.18381): of every real batch both ends
of the effects (`objectives/effects.py`) are left out: images that hardly matter, and outliers. As
notes on the paper have it, a running mean and variance with the quantiles of a Normal stand for a
look at all images, and decisions are refreshed at some steps alone. The rest is ours: both numbers
are kept per class, so that processes need not exchange them; an effect is measured as the logarithm
of its share of the batch's mean, because the scale of effects changes with each random student
about as much as among images; and what is known of an image holds until it is met in a step that
looks. An image of which nothing is known is kept.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from statistics import NormalDist

import torch
from torch import Tensor

from latentdc import draws
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Images, MappedImages, as_floats, place, send
from latentdc.methods.context import ByClass
from latentdc.objectives.base import Objective, Separable
from latentdc.recipe import Trim

AHEAD = 2  # batches that wait in memory while another one is used
_NEW = 0.1  # weight of a batch in the running mean and variance
_FEWEST = 3  # images of which two are the ends


class RealBatches:
    """Batches drawn by (seed, step, class), without replacement inside a batch; kept as stored.

    Images that would fill half of the device's free memory stay on the host, or in their
    memory-mapped file, from where `expect` has them read ahead. The draws are the same.

    Args:
        dataset: the core set.
        classes: that this process needs.
        batch: images per class; a smaller class gives all it has.
        seed: of the draws.
        device: where batches are wanted.
    """

    def __init__(
        self,
        dataset: Dataset,
        classes: Sequence[int],
        *,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        members = [dataset.members(label) for label in classes]
        if self.device.type != "cpu":  # a process's memory holds its own classes alone
            dataset = dataset.select(torch.cat(members))
            own = torch.arange(len(dataset)).split([len(rows) for rows in members])
            members = list(own)
        self.dataset = dataset
        self.rows = dict(zip(classes, members, strict=True))
        self.batch = batch
        self.seed = seed
        self.left_out: dict[int, Tensor] = {}  # by class, for each of its images
        self.wanted: deque[tuple[int, int]] = deque()
        self.coming: dict[tuple[int, int], Future[Tensor]] = {}

    @cached_property
    def images(self) -> Images:
        """The images of all classes, placed when the first batch is wanted."""
        return place(self.dataset.images, self.device)

    @cached_property
    def reader(self) -> ThreadPoolExecutor | None:
        """The thread that reads ahead; None where the images are on the device."""
        images = self.images
        far = isinstance(images, MappedImages) or images.device.type != self.device.type
        return ThreadPoolExecutor(1) if far else None

    def expect(self, step: int, labels: Iterable[int]) -> None:
        """Begin to read the batches of a step, in the order in which they will be asked for."""
        if self.reader is not None:
            self.coming.clear()
            self.wanted = deque((step, label) for label in labels)
            for _ in range(AHEAD):
                self._read_next()

    def places(self, step: int, label: int) -> Tensor:
        """(min(batch, class size),) which images of its class a batch has, none left out."""
        source = draws.generator(self.seed, "real", step, label)
        return draws.choose(len(self.rows[label]), self.batch, source)

    def whole(self, step: int, label: int) -> Tensor:
        """The images at `places`, (min(batch, class size), 3, H, W) in [-1, 1]."""
        return as_floats(send(self._levels(label, self.places(step, label)), self.device))

    def leave_out(self, label: int, images: Tensor) -> None:
        """Batches of a class come without those of its `images` (class size,) that are True.

        Unless none would stay.
        """
        self.left_out[label] = images
        self.coming = {key: batch for key, batch in self.coming.items() if key[1] != label}

    def __call__(self, step: int, label: int) -> Tensor:
        """(B, 3, H, W) images in [-1, 1] at those of `places` that are not left out."""
        coming = self.coming.pop((step, label), None)
        levels = self._read(step, label) if coming is None else coming.result()
        self._read_next()
        return as_floats(send(levels, self.device))

    def _read_next(self) -> None:
        if self.reader is not None and self.wanted:
            key = self.wanted.popleft()
            self.coming[key] = self.reader.submit(self._read, *key)

    def _read(self, step: int, label: int) -> Tensor:
        """uint8, pinned if it has to be sent to a GPU."""
        chosen = self.places(step, label)
        if label in self.left_out:
            kept = chosen[~self.left_out[label][chosen]]
            chosen = kept if len(kept) else chosen
        return self._levels(label, chosen)

    def _levels(self, label: int, places: Tensor) -> Tensor:
        levels = self.images[send(self.rows[label][places], self.images.device)]
        pin = levels.device.type == "cpu" and self.device.type == "cuda"
        return levels.pin_memory() if pin else levels


class Trimming:
    """What is known of the images of some classes, and what a real batch leaves out by it.

    Attributes:
        left_out: () the share of its batches that the last step left out, summed over its classes.
    """

    left_out: Tensor

    def __init__(self, trim: Trim, objective: Separable, real: RealBatches) -> None:
        self.trim = trim
        self.objective = objective
        self.real = real
        self.met = dict.fromkeys(real.rows, 0)  # steps that met a class
        self.running: dict[int, Tensor] = {}  # of a class: mean and mean square

    def update(self, step: int, synthetic: Tensor, labels: Tensor) -> None:
        """Refresh what is known of the classes whose turn it is, before a step compares.

        `synthetic` are (N, 3, H, W) decoded images in [-1, 1], detached, `labels` (N,) their
        classes.
        """
        classes = labels.unique().tolist()
        places = {label: self.real.places(step, label) for label in classes}
        due = [
            label
            for label in classes
            if self.met[label] % self.trim.refresh == 0 and len(places[label]) >= _FEWEST
        ]
        if due:
            effects = self.objective.effects(
                step, synthetic, labels, self.real.whole, classes=due, form=self.trim.effect
            )
            for label, lengths in zip(due, effects, strict=True):
                self._decide(label, places[label], lengths.cpu().double())
        for label in classes:
            self.met[label] += 1
        shares = [self._share(label, places[label]) for label in classes]
        self.left_out = torch.tensor(sum(shares))

    def _decide(self, label: int, places: Tensor, lengths: Tensor) -> None:
        """Take note of the effects of the images at `places`."""
        levels = relative_levels(lengths)
        self.running[label] = updated(self.running.get(label), levels)
        known = self.real.left_out.get(label)
        known = (
            torch.zeros(len(self.real.rows[label]), dtype=torch.bool) if known is None else known
        )
        known = known.clone()
        known[places] = in_tails(levels, self.running[label], self.trim.share)
        self.real.leave_out(label, known)

    def _share(self, label: int, places: Tensor) -> float:
        known = self.real.left_out.get(label)
        share = 0.0 if known is None else float(known[places].float().mean())
        return share if share < 1 else 0.0

    def state(self, classes: Iterable[int]) -> ByClass:
        """What is known of these classes, for checkpoints."""
        kept: ByClass = {}
        for label in classes:
            kept[label] = {"met": torch.tensor(self.met[label])}
            if label in self.running:
                kept[label] |= {
                    "running": self.running[label],
                    "left_out": self.real.left_out[label],
                }
        return kept

    def restore(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go on from what `state` returned."""
        for label, known in state.items():
            self.met[label] = int(known["met"])
            if "running" in known:
                self.running[label] = known["running"]
                self.real.leave_out(label, known["left_out"])


def separable(trim: Trim, objective: Objective) -> Separable | None:
    """The objective, which tells effects, where batches are trimmed; None where they are not."""
    if trim.share == 0:
        return None
    if not isinstance(objective, Separable):
        raise InputError(
            f"trim.share={trim.share} needs the effects of single real images, which "
            f"{type(objective).__name__} cannot tell; take dm or dc, or a share of 0."
        )
    return objective


def relative_levels(lengths: Tensor) -> Tensor:
    """(B,) logarithms of effects in units of their mean, finite where all of them are zero too."""
    tiny = torch.finfo(lengths.dtype).tiny
    return (lengths / lengths.mean().clamp(min=tiny)).clamp(min=1e-12).log()


def updated(running: Tensor | None, levels: Tensor) -> Tensor:
    """(2,) running mean and mean square, with a batch more of `levels` (B,)."""
    batch = torch.stack([levels.mean(), levels.square().mean()])
    return batch if running is None else (1 - _NEW) * running + _NEW * batch


def in_tails(levels: Tensor, running: Tensor, share: float) -> Tensor:
    """(B,) whether a level is among the `share` of a Normal that is farthest from its mean.

    Half of the share is at either end; `running` (2,) are mean and mean square of the Normal.
    """
    mean, square = running
    spread = (square - mean.square()).clamp(min=0).sqrt()
    outside: Tensor = (levels - mean).abs() > NormalDist().inv_cdf(1 - share / 2) * spread
    return outside
