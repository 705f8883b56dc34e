"""What lies at the paths of a recipe: sets that its method opens, and the hash of each content."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from accelerate import Accelerator

from latentdc import runtime
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.class_numbers import check_numbers, open_classifier
from latentdc.evaluate.setting import Setting
from latentdc.experts.files import ExpertFiles, ReplayBuffers
from latentdc.preprocessing import Normalization
from latentdc.recipe import Data, Scorer
from latentdc.recipe.identity import file_digest
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.foreign.naming import Read
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.open import find_set, open_set
from latentdc.synthetic.synthetic_set import set_hash


class OpenedSets:
    """Sets by their path or Hub id, each read once, in the classes of the real images.

    `numbers` says what class numbers of sets are. They are checked with the test images, by the
    scorer or a teacher of the protocol.
    """

    def __init__(
        self,
        data: Data,
        scorer: Scorer,
        protocol: EvalProtocol,
        numbers: Numbers | None,
        *,
        train: Dataset,
        open_test: Callable[[], Dataset],
        accelerator: Accelerator,
    ) -> None:
        self._data, self._scorer, self._protocol = data, scorer, protocol
        self._numbers, self._train, self._open_test = numbers, train, open_test
        self._accelerator = accelerator
        self.read, self.open = cache(self._read), cache(self._open)

    def _read(self, name: str) -> Read:
        """A set, and how its class numbers were read."""
        with _advice():
            return open_set(find_set(name, numbers=self._numbers), self._train, self._data)

    def _open(self, name: str) -> SyntheticSet:
        """A set whose class numbers fit its images; all processes call this together."""
        found, data = self.read(name), self._data
        setting = Setting(
            test=runtime.main_first(self._accelerator, self._open_test),
            normalization=Normalization(data.mean, data.std),
            accelerator=self._accelerator,
            train=self._train,
        )
        known = (data, self._scorer, [self._protocol], self._train, setting)
        with _advice():
            check_numbers({name: found}, setting, lambda: open_classifier(*known))
        return found[0]


@contextmanager
def _advice() -> Iterator[None]:
    """Say of numbers what a recipe says, in place of the command that scores such sets."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("--numbers ", "selection.numbers=")) from error


def inputs_of(
    sets: Mapping[str, str],
    opened: OpenedSets,
    weights: str | None,
    experts: ExpertFiles | ReplayBuffers | None,
) -> dict[str, str]:
    """Hash of what lies at each path that a method reads, by its key in the recipe.

    A path that is gone has none, nor has a set that cannot be read; where one is needed, it is
    refused. The prior and the core set have hashes of their own. `sets` are those that the method
    opens, by key; `weights` of the classifier that it asks.
    """
    found = {}
    for key, name in sets.items():
        if Path(name).exists():
            with suppress(InputError):
                found[key] = set_hash(opened.read(name)[0])
    if weights is not None and Path(weights).is_file():
        found["prune.scorer.weights"] = file_digest(weights)
    if experts is not None:
        found["objective.trajectory.experts"] = experts.contents
    return found
