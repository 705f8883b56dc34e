"""Soft labels: teachers' logits of what students see, computed, one per image, or stored."""

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from latentdc.augment.mixing import mix_targets
from latentdc.augment.views import Draws, draw_views, view
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.evaluate import label_store
from latentdc.evaluate.setting import Setting, protocol_for
from latentdc.evaluate.steps import SoftLabels
from latentdc.evaluate.teachers import Ensemble, open_teachers
from latentdc.images import place, send
from latentdc.prune.scorers import AT_ONCE
from latentdc.ranks import progress
from latentdc.recipe.identity import changed
from latentdc.recipe.labels import Labels
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet

_COMPARED = 500  # views of a set, about, whose soft labels are compared with its hard ones


@dataclass(frozen=True)
class _Online:
    """Computed for each view while a student is trained."""

    teachers: Ensemble

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        return seed, epoch

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        logits: Tensor = self.teachers(views)
        return logits


@dataclass(frozen=True)
class Fixed:
    """One label per image, of the image as it is; mixed where images are.

    Attributes:
        table: (N, C) logits on the device.
        labels: their loss and temperature say how to mix.
    """

    table: Tensor
    labels: Labels

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        """The training's own views."""
        return seed, epoch

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        """See `SoftLabels.logits`."""
        device = self.table.device
        own = self.table[send(rows, device)]
        if "partner" not in draws:
            return own
        partners = self.table[send(draws["partner"][rows], device)]
        kept = send(draws["kept"][rows], device)
        return mix_logits(own, partners, kept, self.labels.loss, self.labels.temperature)


@dataclass
class _Stored:
    """Read from a store of so many epochs, one after another."""

    store: label_store.LabelStore
    stored: int
    epochs: int
    classes: int
    device: torch.device
    _coded: label_store.Coded = field(default_factory=dict, init=False)

    def replay(self, seed: int, epoch: int) -> tuple[int, int]:
        stored = label_store.replayed_epoch(epoch, self.stored, self.epochs, seed)
        self._coded = self.store.read(stored)
        return label_store.STORE_SEED, stored

    def logits(self, rows: Tensor, draws: Draws, views: Tensor) -> Tensor:
        return send(label_store.decode(self._coded, rows, self.classes), self.device)


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


def fitting_store(
    given: Path,
    protocol: EvalProtocol,
    sets: Mapping[str, SyntheticSet],
    teachers: str | None = None,
    folder: Path = Path(),
) -> label_store.LabelStore:
    """The store, in `folder`, of the set whose labels lie in the folder `given`.

    `sets` are by hash. Without the hash of the `teachers` stores are compared without it, before
    there are any. Labels that fit none of the sets are refused, in the words of the first, and a
    folder that lacks epochs and cannot be written.
    """
    stores = [
        label_store.LabelStore.under(folder, _store_facts(protocol, digest, labelled, teachers))
        for digest, labelled in sets.items()
    ]
    differences = [store.difference(given) for store in stores]
    if None not in differences:
        raise InputError(differences[0] or "")
    store = stores[differences.index(None)]
    there, epochs = replace(store, folder=given), int(str(store.facts["epochs"]))
    lacking = [epoch for epoch in range(epochs) if not there.path(epoch).is_file()]
    if lacking and not os.access(given, os.W_OK):
        raise InputError(
            f"the stored labels {given} lack {len(lacking)} of {epochs} epochs, such as "
            f"{there.path(lacking[0]).name}, and cannot be written; copy them to where they can."
        )
    return store


def _store_facts(
    protocol: EvalProtocol, digest: str, labelled: SyntheticSet, teachers: str | None
) -> dict[str, object]:
    """What the stored labels of a set with this hash depend on."""
    labels = protocol.labels
    facts: dict[str, object] = {
        "set": digest,
        "views": changed(protocol_for(protocol, labelled).views),
        "seed": label_store.STORE_SEED,
        "epochs": stored_epochs(protocol, len(labelled.labels)),
        "precision": labels.precision,
        "top": labels.top,
    }
    return facts if teachers is None else {**facts, "teachers": teachers}


def stored_epochs(protocol: EvalProtocol, count: int) -> int:
    """Epochs of a training on `count` images whose labels are stored."""
    epochs = protocol.epochs_on(count)
    return min(protocol.labels.epochs or epochs, epochs)


def _labels_views(protocol: EvalProtocol) -> bool:
    """Whether teachers see images otherwise in each epoch."""
    return protocol.views.change and protocol.labels.source != "fixed"


def compared_views(protocol: EvalProtocol, count: int) -> int:
    """Views of a set of `count` images whose soft labels are compared with its hard ones."""
    images = min(count, _COMPARED)
    return images * (math.ceil(_COMPARED / images) if _labels_views(protocol) else 1)


@dataclass(frozen=True)
class Labelling:
    """Gives sets their soft labels.

    Attributes:
        protocol: with its budget in steps, labels that are not hard and the classes to which
            teachers are restricted.
        setting: of the evaluation.
        teachers: on the accelerator's device.
        accuracy: of the teachers on real images, in [0, 1].
        hash: of the teachers.
    """

    protocol: EvalProtocol
    setting: Setting
    teachers: Ensemble
    accuracy: float
    hash: str

    @property
    def folder(self) -> Path:
        """Folder of stored labels."""
        assert self.setting.folder is not None, "open_labelling() refuses it"
        return self.setting.folder.parent / "labels"

    def store(self, digest: str, labelled: SyntheticSet) -> label_store.LabelStore:
        """Where the stored labels of a set with this hash lie, or will lie."""
        facts = _store_facts(self.protocol, digest, labelled, self.hash)
        return label_store.LabelStore.under(self.folder, facts)

    def prepare(
        self, sets: Mapping[str, SyntheticSet], wanted: Collection[str], given: Path | None = None
    ) -> None:
        """Store the labels that are missing, each process its share.

        Args:
            sets: by hash.
            wanted: hashes of those that will be trained on.
            given: a folder of stored labels for one of the sets, which is linked to.
        """
        labels, accelerator = self.protocol.labels, self.setting.accelerator
        if labels.source != "stored":
            return
        stores = {digest: self.store(digest, sets[digest]) for digest in sets if digest in wanted}
        found = None
        if given is not None:
            found = fitting_store(given, self.protocol, sets, self.hash, self.folder)
        if accelerator.is_main_process:
            for store in stores.values():
                store.link()
            if found is not None:
                found.link(given)
        accelerator.wait_for_everyone()
        for store in stores.values():
            store.require_own()
        needed = [
            (digest, epoch, store.path(epoch).is_file())
            for digest, store in stores.items()
            for epoch in range(stored_epochs(self.protocol, len(sets[digest].labels)))
        ]
        accelerator.wait_for_everyone()  # so that all have seen the same ones missing
        share = slice(accelerator.process_index, None, accelerator.num_processes)
        for digest, epoch, _ in [one for one in needed if one[2]][share]:
            stores[digest].read(epoch)  # refuses a damaged one now, not in the midst of a training
        missing = [one for one in needed if not one[2]][share]
        for digest, epoch, _ in progress(missing, "labelling", unit=" epochs", leave=False):
            logits = self._logits(sets[digest], epoch)
            stores[digest].write(epoch, label_store.encode(logits, labels.precision, labels.top))
        accelerator.wait_for_everyone()

    def soft_labels(self, labelled: SyntheticSet, digest: str) -> SoftLabels:
        """The labels of a set with this hash, for one training."""
        protocol, count = self.protocol, len(labelled.labels)
        device = self.setting.accelerator.device
        if protocol.labels.source == "stored":
            return _Stored(
                self.store(digest, labelled),
                stored=stored_epochs(protocol, count),
                epochs=protocol.epochs_on(count),
                classes=self.setting.test.num_classes,
                device=device,
            )
        if protocol.labels.source == "online" and protocol.views.change:
            return _Online(self.teachers)
        return Fixed(self._logits(labelled, None).to(device), protocol.labels)

    def facts(self, digests: tuple[str, ...], labelled: SyntheticSet) -> dict[str, object]:
        """What the labels of a set (or the first of several) are and cost, in JSON's types."""
        facts: dict[str, object] = {
            "source": self.protocol.labels.source,
            "teachers": [teacher.network for teacher in self.protocol.labels.teachers],
            "teacher_accuracy": self.accuracy,
            "teacher_accuracy_on_views": self._accuracy_on_views(labelled),
            "teacher_bytes": sum(p.nbytes for p in self.teachers.state_dict().values()),
        }
        if self.protocol.labels.source == "stored":
            facts["label_bytes"] = self.store(digests[0], labelled).bytes()
        return facts

    def _accuracy_on_views(self, labelled: SyntheticSet) -> float:
        """Share of some views of a set that the teachers name as the set labels them.

        Views are crops and mixtures, harder than real images whole, and a mixture counts as the
        image whose row it is. Near chance, soft labels say nothing of the set's classes.
        """
        rows = choose(len(labelled.labels), _COMPARED, generator(0, "teacher check"))
        epochs: list[int | None] = [None]
        if _labels_views(self.protocol):
            epochs = list(range(compared_views(self.protocol, len(rows)) // len(rows)))
        named = [self._logits(labelled, epoch, rows) for epoch in epochs]
        right = torch.stack(named).argmax(dim=-1) == labelled.labels[rows]
        return right.float().mean().item()

    def _logits(
        self, labelled: SyntheticSet, epoch: int | None, rows: Tensor | None = None
    ) -> Tensor:
        """Logits (N, C) on the CPU of some images, as they are or as a stored epoch shows them."""
        images, draws = labelled.images, Draws()
        device = self.setting.accelerator.device
        if epoch is not None:
            views, size = protocol_for(self.protocol, labelled).views, images.shape[-1]
            draws = draw_views(
                views, count=len(images), size=size, seed=label_store.STORE_SEED, epoch=epoch
            )
        placed = place(images, device)
        wanted = torch.arange(len(images)) if rows is None else rows
        parts = wanted.split(AT_ONCE)
        return torch.cat([self.teachers(view(placed, some, draws, device)).cpu() for some in parts])


def open_labelling(protocol: EvalProtocol, setting: Setting) -> Labelling | None:
    """The teachers of a protocol, loaded or trained, and checked; None where labels are hard.

    The protocol has its budget in steps. What `open_teachers` refuses is refused, and stored labels
    without a folder.
    """
    labels = protocol.labels
    if labels.source == "hard":
        return None
    if labels.source == "stored" and setting.folder is None:
        raise InputError("stored labels need a folder: give trainings=..., they lie beside it.")
    teachers, accuracy = open_teachers(protocol, setting)
    classes = list(setting.test.class_names) if teachers.restricted else []
    protocol = replace(protocol, labels=replace(labels, restricted_to=classes))
    return Labelling(protocol, setting, teachers, accuracy, teachers.hash())
