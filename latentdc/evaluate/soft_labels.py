"""Soft labels: teachers' logits of what students see, computed, one per image, or stored."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor
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
from latentdc.recipe.labels import OWN, Labels, changed
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
    return {} if soft is None else {"source": OWN, "label_bytes": soft.nbytes}


def require_given_labels(
    given: Path,
    protocol: EvalProtocol,
    sets: Mapping[str, SyntheticSet],
    teachers: str | None = None,
) -> None:
    """Refuse a folder of stored labels that fits none of the sets, in the words of the first.

    Args:
        given: the folder.
        protocol: with its budget in steps and stored labels.
        sets: by hash.
        teachers: hash of those that label; None compares without it, before there are any.

    Raises:
        InputError: says the first difference, or that the folder holds no stored labels.
    """
    stores = [
        LabelStore.under(Path(), _store_facts(protocol, digest, labelled, teachers))
        for digest, labelled in sets.items()
    ]
    if not any(store.same(given) for store in stores):
        stores[0].require_same(given)


def _store_facts(
    protocol: EvalProtocol, digest: str, labelled: SyntheticSet, teachers: str | None
) -> dict[str, object]:
    """What the stored labels of a set with this hash depend on."""
    labels = protocol.labels
    facts: dict[str, object] = {
        "set": digest,
        "views": changed(views_for(protocol.views, labelled)),
        "seed": STORE_SEED,
        "epochs": _stored_epochs(protocol, len(labelled.labels)),
        "precision": labels.precision,
        "top": labels.top,
    }
    return facts if teachers is None else {**facts, "teachers": teachers}


def _epochs(protocol: EvalProtocol, count: int) -> int:
    """Of a training on `count` images."""
    assert protocol.steps is not None, "resolve() turns epochs into steps"
    return math.ceil(protocol.steps / math.ceil(count / protocol.batch))


def _stored_epochs(protocol: EvalProtocol, count: int) -> int:
    """Of them, those that are stored."""
    epochs = _epochs(protocol, count)
    return min(protocol.labels.epochs or epochs, epochs)


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
        self._stored = protocol.labels.source == "stored"
        assert folder is not None or not self._stored, "open_labelling() refuses it"
        self._folder, self._given = folder or Path(), given

    def store(self, digest: str, labelled: SyntheticSet) -> LabelStore:
        """Where the stored labels of a set with this hash lie, or will lie."""
        facts = _store_facts(self.protocol, digest, labelled, self.hash)
        store = LabelStore.under(self._folder, facts)
        if self._given is not None and store.same(self._given):
            return LabelStore(self._given, store.facts)
        return store

    def prepare(self, sets: Mapping[str, SyntheticSet], wanted: Collection[str]) -> None:
        """Store the labels that are missing, each process its share.

        Args:
            sets: by hash.
            wanted: hashes of those that will be trained on.

        Raises:
            InputError: labels were given that fit none of the sets, or some are damaged.
        """
        if not self._stored:
            return
        if self._given is not None:
            require_given_labels(self._given, self.protocol, sets, self.hash)
        stores = {digest: self.store(digest, sets[digest]) for digest in sets if digest in wanted}
        needed = [
            (digest, epoch, store.path(epoch).is_file())
            for digest, store in stores.items()
            for epoch in range(_stored_epochs(self.protocol, len(sets[digest].labels)))
        ]
        self._accelerator.wait_for_everyone()  # so that all have seen the same ones missing
        share = slice(self._accelerator.process_index, None, self._accelerator.num_processes)
        for digest, epoch, _ in [one for one in needed if one[2]][share]:
            stores[digest].read(epoch)  # refuses a damaged one now, not in the midst of a training
        missing = [one for one in needed if not one[2]][share]
        quiet, labels = not self._accelerator.is_main_process, self.protocol.labels
        for digest, epoch, _ in tqdm(
            missing, "labelling", unit=" epochs", disable=quiet, leave=False
        ):
            logits = self._logits(sets[digest], epoch)
            stores[digest].write(epoch, encode(logits, labels.precision, labels.top))
        self._accelerator.wait_for_everyone()

    def soft_labels(self, labelled: SyntheticSet, digest: str) -> SoftLabels:
        """The labels of a set with this hash, for one training."""
        protocol, count, device = self.protocol, len(labelled.labels), self._accelerator.device
        if self._stored:
            return Stored(
                self.store(digest, labelled),
                stored=_stored_epochs(protocol, count),
                epochs=_epochs(protocol, count),
                classes=self._classes,
                device=device,
            )
        if protocol.labels.source == "online" and protocol.views.change:
            return Online(self._teachers)
        return Fixed(self._logits(labelled, None).to(device), protocol.labels)

    def facts(self, digests: tuple[str, ...], labelled: SyntheticSet) -> dict[str, object]:
        """What the labels of a set (or the first of several) are and cost, in JSON's types."""
        facts: dict[str, object] = {
            "source": self.protocol.labels.source,
            "teachers": [teacher.network for teacher in self.protocol.labels.teachers],
            "teacher_accuracy": self.accuracy,
            "teacher_accuracy_on_views": self._accuracy_on_views(labelled),
            "teacher_bytes": sum(p.nbytes for p in self._teachers.state_dict().values()),
        }
        if self._stored:
            facts["label_bytes"] = self.store(digests[0], labelled).bytes()
        return facts

    def _accuracy_on_views(self, labelled: SyntheticSet) -> float:
        """Share of some views of a set that the teachers name as the set labels them.

        Views are crops and mixtures, harder than real images whole, and a mixture counts as the
        image whose row it is. Near chance, soft labels say nothing of the set's classes.
        """
        rows = choose(len(labelled.labels), COMPARED, generator(0, "teacher check"))
        epochs: list[int | None] = [None]
        if self.protocol.views.change and self.protocol.labels.source != "fixed":
            epochs = list(range(math.ceil(COMPARED / len(rows))))
        named = [self._logits(labelled, epoch, rows) for epoch in epochs]
        right = torch.stack(named).argmax(dim=-1) == labelled.labels[rows]
        return right.float().mean().item()

    def _logits(
        self, labelled: SyntheticSet, epoch: int | None, rows: Tensor | None = None
    ) -> Tensor:
        """Logits (N, C) of the views of an epoch of stored labels, on the CPU.

        Args:
            labelled: the set.
            epoch: None takes the images as they are.
            rows: (N,) of the images wanted; None means all.
        """
        device, images, draws = self._accelerator.device, labelled.images, Draws()
        if epoch is not None:
            views, size = views_for(self.protocol.views, labelled), images.shape[-1]
            draws = draw_views(views, count=len(images), size=size, seed=STORE_SEED, epoch=epoch)
        placed = place(images, device)
        wanted = torch.arange(len(images)) if rows is None else rows
        parts = wanted.split(BATCH)
        return torch.cat(
            [self._teachers(view(placed, some, draws, device)).cpu() for some in parts]
        )


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
