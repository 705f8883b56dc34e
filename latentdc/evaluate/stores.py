"""`Stores`: where the stored soft labels of a protocol's sets lie."""

import math
from collections.abc import Mapping
from pathlib import Path

from latentdc.evaluate.sets import views_for
from latentdc.evaluate.soft import STORE_SEED
from latentdc.evaluate.store import LabelStore
from latentdc.recipe.labels import changed
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet


class Stores:
    """One store for each set, in a folder or brought from elsewhere.

    Args:
        protocol: with its budget in steps and stored labels.
        teachers: hash of those that label; None compares brought labels without it, before there
            are any.
        folder: of stores.
        brought: a folder of stored labels for one of the sets, None without.
    """

    def __init__(
        self, protocol: EvalProtocol, teachers: str | None, folder: Path, brought: Path | None
    ) -> None:
        self._protocol, self._teachers = protocol, teachers
        self._folder, self._brought = folder, brought

    def epochs(self, count: int) -> int:
        """Of a training on `count` images."""
        assert self._protocol.steps is not None
        return math.ceil(self._protocol.steps / math.ceil(count / self._protocol.batch))

    def pool(self, count: int) -> int:
        """Of them, those that are stored."""
        epochs = self.epochs(count)
        return min(self._protocol.labels.epochs or epochs, epochs)

    def of(self, digest: str, labelled: SyntheticSet) -> LabelStore:
        """The store of a set with this hash, where it lies or will lie."""
        store = self._own(digest, labelled)
        if self._brought is not None and store.same(self._brought):
            return LabelStore(self._brought, store.facts)
        return store

    def require_brought(self, sets: Mapping[str, SyntheticSet]) -> None:
        """Refuse brought labels that fit none of the sets, in the words of the first.

        Args:
            sets: by hash.

        Raises:
            InputError: says the first difference.
        """
        stores = [self._own(digest, labelled) for digest, labelled in sets.items()]
        if self._brought is not None and not any(store.same(self._brought) for store in stores):
            stores[0].require_same(self._brought)

    def _own(self, digest: str, labelled: SyntheticSet) -> LabelStore:
        labels = self._protocol.labels
        facts: dict[str, object] = {
            "set": digest,
            "views": changed(views_for(self._protocol.views, labelled)),
            "seed": STORE_SEED,
            "epochs": self.pool(len(labelled.labels)),
            "precision": labels.precision,
            "top": labels.top,
        }
        if self._teachers is not None:
            facts["teachers"] = self._teachers
        return LabelStore.under(self._folder, facts)
