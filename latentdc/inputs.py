"""What lies at the paths of a recipe: sets that its method opens, and the hash of each content."""

from collections.abc import Callable, Iterator
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
from latentdc.recipe import Recipe
from latentdc.recipe.identity import file_digest
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.foreign.naming import Read
from latentdc.synthetic.open import find_set, open_set
from latentdc.synthetic.synthetic_set import set_hash


class OpenedSets:
    """Sets by their path or Hub id, each read once, in the classes of the real images.

    Args:
        recipe: of the run.
        train: real images.
        open_test: opens the test images, which class numbers are checked with.
        protocol: of the evaluation.
        accelerator: names the processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Dataset,
        open_test: Callable[[], Dataset],
        protocol: EvalProtocol,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._train, self._open_test = recipe, train, open_test
        self._protocol, self._accelerator = protocol, accelerator
        self.read, self.open = cache(self._read), cache(self._open)

    def _read(self, name: str) -> Read:
        """A set, and how its class numbers were read.

        Raises:
            InputError: there is none, or its class numbers can be read in two ways.
        """
        with _advice():
            source = find_set(name, numbers=self._recipe.selection.numbers)
            return open_set(source, self._train, self._recipe.data)

    def _open(self, name: str) -> SyntheticSet:
        """A set whose class numbers fit its images; all processes call this together.

        Raises:
            InputError: there is none, or its class numbers are read wrongly.
        """
        found, data = self.read(name), self._recipe.data
        setting = Setting(
            test=runtime.main_first(self._accelerator, self._open_test),
            normalization=Normalization(data.mean, data.std),
            accelerator=self._accelerator,
            train=self._train,
        )
        protocols, scorer = [self._protocol], self._recipe.prune.scorer
        with _advice():
            check_numbers(
                {name: found},
                setting,
                lambda: open_classifier(data, scorer, protocols, self._train, setting),
            )
        return found[0]


@contextmanager
def _advice() -> Iterator[None]:
    """Say of numbers what a recipe says, in place of the command that scores such sets."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("--numbers ", "selection.numbers=")) from error


def inputs_of(
    recipe: Recipe, sets: OpenedSets, experts: ExpertFiles | ReplayBuffers | None
) -> dict[str, str]:
    """Hash of what lies at each path that the method reads, by its key in the recipe.

    A path that is gone has none, nor has a set that cannot be read; where one is needed, it is
    refused. The prior and the core set have hashes of their own.
    """
    found, weights = {}, recipe.prune.scorer.weights
    for key, name in recipe.sets.items():
        if Path(name).exists():
            with suppress(InputError):
                found[key] = set_hash(sets.read(name)[0])
    if recipe.asks_classifier and weights is not None and Path(weights).is_file():
        found["prune.scorer.weights"] = file_digest(weights)
    if experts is not None:
        found["objective.trajectory.experts"] = experts.identity
    return found
