"""What a method may use beside its core set, prior and settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from latentdc import runtime
from latentdc.arguments import require_a, require_kinds, require_seed, require_whole
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.modes import precision_of
from latentdc.objectives.base import Objective
from latentdc.preprocessing import Normalization
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.prune.scorers import Classifier
from latentdc.recipe.fields import show
from latentdc.synthetic.synthetic_set import SyntheticSet

ByClass = dict[int, dict[str, Tensor]]  # tensors by class and name
Fill = Callable[[Tensor | None], None]
Picture = Callable[[int], Image.Image]  # row of a data set -> upright RGB


class State(NamedTuple):
    """How far a method has come, by class, so that another number of processes can go on.

    Attributes:
        step: steps that are done.
        facts: in JSON's types, about what the state belongs to.
        classes: that this process owns, and saves.
        tensors: classes -> their tensors by name, on the CPU; of a state that was found, whoever
            owned them.
        shared: tensors that are the same in every process.
        place: where it was found, for messages.
    """

    step: int
    facts: Mapping[str, Any]
    classes: Sequence[int]
    tensors: Callable[[Sequence[int]], ByClass]
    shared: Mapping[str, Tensor]
    place: str = ""

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse to go on from a state of another set."""
        require_same_inputs(self.facts.get("inputs"), facts.get("inputs", {}), self.place)
        for name, value in facts.items():
            found = self.facts.get(name)
            if found != value and name != "inputs":
                how = "launch as before, or " if name == "precision" else ""
                raise InputError(
                    f"{self.place} was made with {name} {found!r}, this run has {value!r}; "
                    f"{how}give it a folder of its own."
                )


@dataclass(frozen=True, kw_only=True)
class Context:
    """What surrounds a method: numbers of the whole run, and what its caller does for it.

    Attributes:
        ipc: synthetic images per class.
        seed: of all draws.
        accelerator: of this process.
        train: all real images of the training split.
        picture: row of `train` -> the image as its file holds it, before it was cut to a square;
            None where only the decoded one is there.
        mean: colour of the real images, in [0, 1].
        classifier: makes a classifier of the real images, (B, 3, H, W) in [-1, 1] -> (B, C) logits,
            in eval mode, that was found to know them, and tells its accuracy.
        student: trains a network like `classifier`'s on few images, for as many steps.
        open_set: a set by its path or Hub id, in the classes of `train`.
        snapshots: (real images, epochs) -> networks of one training on the images after each of the
            epochs, (B, 3, H, W) in [-1, 1] -> (B, C) logits, whose weights require gradients.
        objective: what a method that matches matches.
        inputs: hash of what lies at each path that the method reads, by its key in a recipe; states
            keep them, and a run does not go on with others.
        load_state: the last saved state, or None; all processes call it together.
        save_state: keeps a state; all processes call it together.
        on_step: is told the measures of each finished step (`step`, `loss`, ...), on every process.
        show: (step, images, labels, class names) -> a picture; called on the main process.
        large: (shape, dtype, fill) -> a tensor above what memory should hold, which the main
            process fills and all of them read; None keeps everything in memory.

    Examples:
        >>> told = []
        >>> latentdc.Context(ipc=10, seed=1, on_step=told.append).ipc
        10
    """

    ipc: int = 1
    seed: int = 0
    accelerator: Accelerator = field(default_factory=Accelerator)
    train: Dataset | None = None
    picture: Picture | None = None
    mean: tuple[float, float, float] = Normalization().mean
    classifier: Callable[[], tuple[nn.Module, float]] | None = None
    student: Callable[[Dataset], nn.Module] | None = None
    open_set: Callable[[str], SyntheticSet] | None = None
    snapshots: Callable[[Dataset, Sequence[int]], Sequence[nn.Module]] | None = None
    objective: Objective | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    load_state: Callable[[], State | None] | None = None
    save_state: Callable[[State], None] | None = None
    on_step: Callable[[Mapping[str, Any]], None] | None = None
    show: Callable[[int, Tensor, Tensor, tuple[str, ...]], None] | None = None
    large: Callable[[torch.Size, torch.dtype, Fill], Tensor] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ipc", require_whole(self.ipc, "ipc"))
        object.__setattr__(self, "seed", require_seed(self.seed))
        require_a(Accelerator, self.accelerator, "accelerator", "make one, or leave it out")
        if self.train is not None:
            require_a(Dataset, self.train, "train", "such as the first of open_splits(Data())")
        require_kinds(self, "a Context", inputs=Mapping)
        mean = getattr(self.mean, "tolist", lambda: self.mean)()  # an array of NumPy too
        object.__setattr__(self, "mean", Normalization(mean).mean)
        for name in _FUNCTIONS:
            value = getattr(self, name)
            is_network = isinstance(value, nn.Module)  # is called with images
            if value is not None and (is_network or not callable(value)):
                raise InputError(f"{name} of a Context is a function, got {show(value)}.")

    def real_images(self) -> Dataset:
        """The training split, of which a core set names images.

        Raises:
            InputError: the context has none.
        """
        if self.train is None:
            raise InputError("this method takes real images; give Context(train=...).")
        return self.train

    def core_images(self, coreset: Coreset) -> Dataset:
        """The real images of a core set.

        Raises:
            InputError: the context has none, or the core set is of others.
        """
        train = self.real_images()
        return train.select(coreset.indices(train))

    def saved_state(self) -> State | None:
        """The last saved state; None where there is none, or nothing is saved."""
        return None if self.load_state is None else self.load_state()

    def facts(self, real: Dataset, prior: Prior) -> dict[str, Any]:
        """What a saved state of any method belongs to, in JSON's types."""
        return {
            "classes": real.num_classes,
            "core_set": real.hash,
            "ipc": self.ipc,
            "seed": self.seed,
            "prior": prior.identity,
            "decoding": getattr(prior, "settings", None),
            "precision": precision_of(self.accelerator),
            **({"inputs": dict(self.inputs)} if self.inputs else {}),
        }

    @contextmanager
    def stop_requests(self) -> Iterator[Callable[[], bool]]:
        """Catch SIGTERM in the block where states are saved; elsewhere it ends the process.

        All processes enter the block together, and together call the function that it gives, which
        says to all of them whether one was sent SIGTERM. Then save a state and end.
        """
        if self.save_state is None:
            yield lambda: False
            return
        with runtime.stop_requests(self.accelerator) as requested:
            yield requested

    def real_classifier(self) -> tuple[Classifier, float]:
        """A classifier of the real images, and its accuracy.

        Raises:
            InputError: the context has none, it is at chance, or it is something else.
        """
        if self.classifier is None:
            raise InputError("this method takes a classifier; give Context(classifier=...).")
        made: object = self.classifier()
        if not isinstance(made, tuple) or len(made) != 2:
            raise InputError(
                "classifier of a Context makes a network and tells its accuracy, got "
                f"{show(made)}; return (network, 0.9)."
            )
        return _classifier(made[0], "classifier"), made[1]

    def trained_student(self, few: Dataset) -> Classifier:
        """A network that was trained on few images.

        Raises:
            InputError: the context trains none.
        """
        if self.student is None:
            raise InputError("learnability asks a student; give Context(student=...).")
        return _classifier(self.student(few), "student")


_FUNCTIONS = (
    *("picture", "classifier", "student", "open_set", "snapshots", "load_state", "save_state"),
    *("on_step", "show", "large"),
)


def _classifier(network: object, name: str) -> Classifier:
    """A network that tells its features too: any one that ends in a linear layer."""
    require_a(nn.Module, network, f"what {name} of a Context makes", "return a network")
    assert isinstance(network, nn.Module)
    if isinstance(network, Classifier):
        return network
    return Classifier(network, lambda seen: seen if seen.ndim == 2 else 2 * seen - 1).eval()


def require_same_inputs(known: object, inputs: Mapping[str, str], made: str) -> None:
    """Refuse to go on where a path holds something else than what a set is `made` of.

    `known` are hashes by key, as `Context.inputs`; what it does not tell is not compared.
    """
    told = known if isinstance(known, Mapping) else {}
    for key, value in inputs.items():
        if told.get(key, value) != value:
            raise InputError(
                f"{key} names other contents than those that {made} was made of; bring these back, "
                "or give this run a folder of its own with output=..."
            )


def check_call(coreset: object, settings: object, kind: type, context: object) -> None:
    """Refuse a method's arguments of another kind, its settings being of the class `kind`."""
    hint = "such as prune_dataset(train, Prune()), which keeps all of a Dataset"
    require_a(Coreset, coreset, "coreset", hint)
    require_a(kind, settings, "settings", f"such as {kind.__name__}()")
    require_a(Context, context, "context", "such as Context(ipc=10, train=train)")
