"""Real images by step and class: held on the device where they fit, else read ahead by a thread."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import torch
from torch import Tensor

from latentdc import draws
from latentdc.data.dataset import Dataset
from latentdc.images import Images, MappedImages, as_floats, place, send

AHEAD = 2  # batches that wait in memory while another one is used


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
        """From now on batches of a class come without some of its images, unless none would stay.

        Args:
            label: the class.
            images: (class size,) True where an image is left out.
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
