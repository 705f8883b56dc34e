"""Soft labels: teachers' logits of what students see, computed, one per image, or stored."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from latentdc.augment.mixing import mix_targets
from latentdc.augment.views import Draws, draw_views, view
from latentdc.data.dataset import Dataset
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.evaluate.label_store import (
    STORE_SEED,
    Coded,
    LabelStore,
    decode,
    encode,
    replayed_epoch,
)
from latentdc.evaluate.sets import views_for
from latentdc.evaluate.teachers import Ensemble, open_teachers
from latentdc.evaluate.training import SoftLabels
from latentdc.images import Preprocessing, place, send
from latentdc.recipe.labels import Labels, Views, changed
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet

BATCH = 256  # images that teachers label at once
COMPARED = 500  # views of a set, about, whose soft labels are compared with its hard ones


class Online:
    """Computed for each view while a student is trained."""

    def __init__(self, teachers: Ensemble) -> None:
        self._teachers = teachers

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The training's own views."""
        return seed, epoch

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        logits: Tensor = self._teachers(views)
        return logits


class Fixed:
    """One label per image, of the image as it is; mixed where images are.

    Args:
        table: (N, C) logits on the device.
        labels: their loss and temperature say how to mix.
    """

    def __init__(self, table: Tensor, labels: Labels) -> None:
        self._table, self._labels = table, labels

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The training's own views."""
        return seed, epoch

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        device = self._table.device
        own = self._table[send(rows, device)]
        if "partner" not in draws:
            return own
        partners = self._table[send(draws["partner"][rows], device)]
        kept = send(draws["kept"][rows], device)
        return mix_logits(own, partners, kept, self._labels.loss, self._labels.temperature)


class Stored:
    """Read from a store, epoch by epoch.

    Args:
        store: whose epochs are there.
        stored: how many.
        epochs: of the training.
        classes: C.
        device: where the logits are wanted.
    """

    def __init__(
        self, store: LabelStore, *, stored: int, epochs: int, classes: int, device: torch.device
    ) -> None:
        self._store, self._stored, self._epochs = store, stored, epochs
        self._classes, self._device = classes, device
        self._coded: Coded = {}

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The views that were labelled; opens the labels of their epoch."""
        stored = replayed_epoch(epoch, self._stored, self._epochs, seed)
        self._coded = self._store.read(stored)
        return STORE_SEED, stored

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        return send(decode(self._coded, rows, self._classes), self._device)


def mix_logits(
    own: Tensor, partners: Tensor, kept: Tensor, kind: Literal["ce", "kl", "mse"], t: float
) -> Tensor:
    """(B, C) logits of two mixed labels: mixed themselves for `mse`, by their probabilities else.

    Then softmax(logits / t) = kept softmax(own / t) + (1 - kept) softmax(partners / t).
    """
    if kind == "mse":
        return mix_targets(own, partners, kept)
    mixed = mix_targets((own / t).softmax(dim=1), (partners / t).softmax(dim=1), kept)
    return mixed.clamp(min=1e-38).log() * t


def own_labels(labelled: SyntheticSet, labels: Labels, device: torch.device) -> Fixed | None:
    """The logits (N, C) that a set has itself (TESLA, DATM), which replace hard labels; or None."""
    soft = labelled.soft_labels
    return None if soft is None else Fixed(soft.to(device), labels)


def own_label_facts(labelled: SyntheticSet) -> dict[str, object]:
    """What a set's own soft labels are and cost, in JSON's types; empty where there are none."""
    soft = labelled.soft_labels
    return {} if soft is None else {"source": "brought", "label_bytes": soft.nbytes}


def view_logits(
    teachers: nn.Module,
    labelled: SyntheticSet,
    views: Views,
    epoch: int | None,
    *,
    device: torch.device,
    rows: Tensor | None = None,
) -> Tensor:
    """Logits (N, C) of the views of an epoch of stored labels, on the CPU.

    Args:
        teachers: on the device.
        labelled: the set.
        views: the protocol's.
        epoch: None takes the images as they are.
        device: where the views are made.
        rows: (N,) of the images wanted; None means all.
    """
    images, draws = labelled.images, Draws()
    count, size = len(images), images.shape[-1]
    if epoch is not None:
        own = views_for(views, labelled)
        draws = draw_views(own, count=count, size=size, seed=STORE_SEED, epoch=epoch)
    placed = place(images, device)
    wanted = torch.arange(count) if rows is None else rows
    return torch.cat(
        [teachers(view(placed, some, draws, device)).cpu() for some in wanted.split(BATCH)]
    )


class Stores:
    """Where the stored labels of a protocol's sets lie: in a folder of stores, or given.

    Args:
        protocol: with its budget in steps and stored labels.
        teachers: hash of those that label; None compares given labels without it, before there
            are any.
        folder: of stores.
        given: a folder of stored labels for one of the sets, None without.
    """

    def __init__(
        self, protocol: EvalProtocol, teachers: str | None, folder: Path, given: Path | None
    ) -> None:
        self._protocol, self._teachers = protocol, teachers
        self._folder, self._given = folder, given

    def epochs(self, count: int) -> int:
        """Of a training on `count` images."""
        assert self._protocol.steps is not None
        return math.ceil(self._protocol.steps / math.ceil(count / self._protocol.batch))

    def stored(self, count: int) -> int:
        """Of these epochs, how many are stored."""
        epochs = self.epochs(count)
        return min(self._protocol.labels.epochs or epochs, epochs)

    def of(self, digest: str, labelled: SyntheticSet) -> LabelStore:
        """The store of a set with this hash, where it lies or will lie."""
        store = self._own(digest, labelled)
        if self._given is not None and store.same(self._given):
            return LabelStore(self._given, store.facts)
        return store

    def require_given(self, sets: Mapping[str, SyntheticSet]) -> None:
        """Refuse given labels that fit none of the sets (by hash), in the words of the first.

        Raises:
            InputError: says the first difference.
        """
        stores = [self._own(digest, labelled) for digest, labelled in sets.items()]
        if self._given is not None and not any(store.same(self._given) for store in stores):
            stores[0].require_same(self._given)

    require_brought = require_given

    def _own(self, digest: str, labelled: SyntheticSet) -> LabelStore:
        labels = self._protocol.labels
        facts: dict[str, object] = {
            "set": digest,
            "views": changed(views_for(self._protocol.views, labelled)),
            "seed": STORE_SEED,
            "epochs": self.stored(len(labelled.labels)),
            "precision": labels.precision,
            "top": labels.top,
        }
        if self._teachers is not None:
            facts["teachers"] = self._teachers
        return LabelStore.under(self._folder, facts)


class Labelling:
    """Gives sets their soft labels.

    Args:
        protocol: with its budget in steps, labels that are not hard and the classes to which
            teachers are restricted.
        teachers: on the accelerator's device.
        accuracy: of the teachers on real images, in [0, 1].
        classes: C.
        folder: of stored labels.
        given: a folder of stored labels for one of the sets, None without.
        accelerator: of this process.
    """

    def __init__(
        self,
        protocol: EvalProtocol,
        teachers: Ensemble,
        accuracy: float,
        *,
        classes: int,
        folder: Path | None,
        given: Path | None,
        accelerator: Accelerator,
    ) -> None:
        self.protocol, self._teachers, self._classes = protocol, teachers, classes
        self._accelerator = accelerator
        self.accuracy, self.hash = accuracy, teachers.hash()
        self._stores = None
        if protocol.labels.source == "stored":
            assert folder is not None, "open_labelling() refuses stored labels without one"
            self._stores = Stores(protocol, self.hash, folder, given)

    def prepare(self, sets: Mapping[str, SyntheticSet], wanted: Collection[str]) -> None:
        """Store the labels that are missing, each process its share.

        Args:
            sets: by hash.
            wanted: hashes of those that will be trained on.

        Raises:
            InputError: labels were given that fit none of the sets, or some are damaged.
        """
        if self._stores is None:
            return
        self._stores.require_given(sets)
        stores = {digest: self._stores.of(digest, sets[digest]) for digest in sets}
        present: list[tuple[str, int]] = []
        missing: list[tuple[str, int]] = []
        for digest in sets:
            if digest in wanted:
                for epoch in range(self._stores.stored(len(sets[digest].labels))):
                    there = stores[digest].path(epoch).is_file()
                    (present if there else missing).append((digest, epoch))
        self._accelerator.wait_for_everyone()  # so that all have seen the same ones missing
        share = slice(self._accelerator.process_index, None, self._accelerator.num_processes)
        for digest, epoch in present[share]:
            stores[digest].read(epoch)  # refuses a damaged one now, not in the midst of a training
        mine = missing[share]
        quiet = not self._accelerator.is_main_process
        for digest, epoch in tqdm(mine, "labelling", unit=" epochs", disable=quiet, leave=False):
            labels = self.protocol.labels
            logits = view_logits(
                self._teachers,
                sets[digest],
                self.protocol.views,
                epoch,
                device=self._accelerator.device,
            )
            coded = encode(logits, labels.precision, labels.top)
            stores[digest].write(epoch, coded)
        self._accelerator.wait_for_everyone()

    def soft_labels(self, labelled: SyntheticSet, digest: str) -> SoftLabels:
        """The labels of a set with this hash, for one training."""
        labels, count = self.protocol.labels, len(labelled.labels)
        if self._stores is not None:
            return Stored(
                self._stores.of(digest, labelled),
                stored=self._stores.stored(count),
                epochs=self._stores.epochs(count),
                classes=self._classes,
                device=self._accelerator.device,
            )
        if labels.source == "online" and self.protocol.views.change:
            return Online(self._teachers)
        device = self._accelerator.device
        table = view_logits(self._teachers, labelled, self.protocol.views, None, device=device)
        return Fixed(table.to(device), labels)

    def facts(self, digests: tuple[str, ...], labelled: SyntheticSet) -> dict[str, object]:
        """What the labels of a set (or the first of several) are and cost, in JSON's types."""
        facts: dict[str, object] = {
            "source": self.protocol.labels.source,
            "teachers": [teacher.network for teacher in self.protocol.labels.teachers],
            "teacher_accuracy": self.accuracy,
            "teacher_accuracy_on_views": self._accuracy_on_views(labelled),
            "teacher_bytes": sum(p.nbytes for p in self._teachers.state_dict().values()),
        }
        if self._stores is not None:
            facts["label_bytes"] = self._stores.of(digests[0], labelled).bytes()
        return facts

    def _accuracy_on_views(self, labelled: SyntheticSet) -> float:
        """Share of some views of a set that the teachers name as the set labels them.

        Views are crops and mixtures, harder than real images whole, and a mixture counts as the
        image whose row it is. Near chance, soft labels say nothing of the set's classes.
        """
        views, device = self.protocol.views, self._accelerator.device
        rows = choose(len(labelled.labels), COMPARED, generator(0, "teacher check"))
        epochs: list[int | None] = [None]
        if views.change and self.protocol.labels.source != "fixed":
            epochs = list(range(math.ceil(COMPARED / len(rows))))
        named = [
            view_logits(self._teachers, labelled, views, epoch, device=device, rows=rows)
            for epoch in epochs
        ]
        right = torch.stack(named).argmax(dim=-1) == labelled.labels[rows]
        return right.float().mean().item()


def open_labelling(
    protocol: EvalProtocol,
    test: Dataset,
    train: Dataset | None,
    *,
    normalization: Preprocessing,
    rows: Path | None,
    given: Path | None,
    accelerator: Accelerator,
) -> Labelling | None:
    """The teachers of a protocol, loaded or trained, and checked; None where labels are hard.

    Args:
        protocol: with its budget in steps.
        test: real images on which the teachers must beat chance.
        train: real images, on which teachers without weights are trained.
        normalization: of the students.
        rows: folder of finished trainings, beside which labels are stored; None keeps nothing.
        given: a folder of stored labels.
        accelerator: of this process.

    Raises:
        InputError: as `open_teachers`, or stored labels without `rows`.
    """
    labels = protocol.labels
    if labels.source == "hard":
        return None
    if labels.source == "stored" and rows is None:
        raise InputError("stored labels need a folder: give rows=..., they lie beside it.")
    teachers, accuracy = open_teachers(
        protocol, test, train, normalization=normalization, folder=rows, accelerator=accelerator
    )
    classes = list(test.class_names)
    restricted = replace(labels, restricted_to=classes if teachers.restricted else [])
    return Labelling(
        replace(protocol, labels=restricted),
        teachers,
        accuracy,
        classes=len(classes),
        folder=None if rows is None else rows.parent / "labels",
        given=given,
        accelerator=accelerator,
    )
