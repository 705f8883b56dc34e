"""`Teaching`: the labels that a protocol's teachers give."""

from collections.abc import Collection, Mapping
from pathlib import Path

from accelerate import Accelerator
from tqdm import tqdm

from latentdc.evaluate.soft import Fixed, Online, Stored
from latentdc.evaluate.store import encode
from latentdc.evaluate.stores import Stores
from latentdc.evaluate.teacher_check import accuracy_on_views
from latentdc.evaluate.teachers import Ensemble
from latentdc.evaluate.training import SoftLabels
from latentdc.evaluate.view_logits import view_logits
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet


class Teaching:
    """Gives sets their soft labels.

    Args:
        protocol: with its budget in steps, labels that are not hard and the classes to which
            teachers are restricted.
        teachers: on the accelerator's device.
        accuracy: of the teachers on real images, in [0, 1].
        classes: C.
        folder: of stored labels.
        brought: a folder of stored labels for one of the sets, None without.
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
        brought: Path | None,
        accelerator: Accelerator,
    ) -> None:
        self.protocol, self._teachers, self._classes = protocol, teachers, classes
        self._accelerator = accelerator
        self.accuracy, self.hash = accuracy, teachers.hash()
        self._stores = None
        if protocol.labels.source == "stored":
            assert folder is not None, "open_teaching() refuses stored labels without one"
            self._stores = Stores(protocol, self.hash, folder, brought)

    def prepare(self, sets: Mapping[str, SyntheticSet], wanted: Collection[str]) -> None:
        """Store the labels that are missing, each process its share.

        Args:
            sets: by hash.
            wanted: hashes of those that will be trained on.

        Raises:
            InputError: labels were brought that fit none of the sets, or some are damaged.
        """
        if self._stores is None:
            return
        self._stores.require_brought(sets)
        stores = {digest: self._stores.of(digest, sets[digest]) for digest in sets}
        present: list[tuple[str, int]] = []
        missing: list[tuple[str, int]] = []
        for digest in sets:
            if digest in wanted:
                for epoch in range(self._stores.pool(len(sets[digest].labels))):
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
                pool=self._stores.pool(count),
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
            "teacher_accuracy_on_views": accuracy_on_views(
                self._teachers, labelled, self.protocol, self._accelerator.device
            ),
            "teacher_bytes": sum(p.nbytes for p in self._teachers.state_dict().values()),
        }
        if self._stores is not None:
            facts["label_bytes"] = self._stores.of(digests[0], labelled).bytes()
        return facts
