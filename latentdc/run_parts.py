"""What a run opens before it scores or trains anything, and what it lends its method.

Sets at the paths of its recipe are opened here too, and what lies there is hashed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from accelerate import Accelerator

from latentdc import io, runtime
from latentdc.checkpoint import in_folder
from latentdc.data.dataset import Dataset
from latentdc.data.files import is_clutter
from latentdc.data.open import OpenData, open_used, preprocessing
from latentdc.errors import InputError
from latentdc.evaluate.class_numbers import check_numbers, open_classifier
from latentdc.evaluate.loading import recipe_protocol
from latentdc.evaluate.setting import Setting, require_trainable
from latentdc.evaluate.teachers import require_given_teachers
from latentdc.experts.files import FollowedExperts, open_experts
from latentdc.experts.training import training_snapshots
from latentdc.methods import FoundMethod, find_method
from latentdc.methods.context import Context, Picture
from latentdc.modes import precision_of
from latentdc.networks.build import try_network
from latentdc.objectives.base import Objective
from latentdc.objectives.build import build_objective
from latentdc.preprocessing import Normalization, Preprocessing, Unwhitened, Whitening
from latentdc.priors.base import Prior
from latentdc.priors.files import prior_folder
from latentdc.priors.load import load_prior, warn_if_slow
from latentdc.priors.pixel import VectorPrior
from latentdc.provenance import shared_recipe
from latentdc.prune.scorer_training import real_classifier, trained_as_long
from latentdc.recipe import Recipe
from latentdc.recipe.identity import file_digest
from latentdc.recipe.own import is_own
from latentdc.recipe.protocol import EvalProtocol
from latentdc.results.result import RESULTS
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.folder import CARD
from latentdc.synthetic.foreign.naming import Read
from latentdc.synthetic.open import find_set, open_set, tell_whitening
from latentdc.synthetic.synthetic_set import set_hash
from latentdc.training import OnStep


@dataclass(frozen=True)
class Parts:
    """What a run has before it has scored or trained anything.

    Attributes:
        recipe: of the run.
        shared: YAML of the recipe without this machine's paths, as the set carries it.
        method: that the recipe names.
        protocol: of the evaluation.
        train: real images, all of them.
        open_test: the images to evaluate on; all processes call it together.
        normalization: what networks see of images.
        prior: the space that a method works in; None where it needs none.
        objective: what to match; None for methods that match nothing.
        experts: that trajectory matching follows; None where nothing does.
        picture: see `Context`.
        asked_network: name of the classifier that the method asks; None where it asks none.
    """

    recipe: Recipe
    shared: str
    method: FoundMethod
    protocol: EvalProtocol
    train: Dataset
    open_test: Callable[[], Dataset]
    normalization: Preprocessing
    prior: Prior | None
    objective: Objective | None
    experts: FollowedExperts | None
    picture: Picture | None = None
    asked_network: str | None = None

    @property
    def plain(self) -> Unwhitened:
        """What scorers see of images, which is never whitened."""
        seen = self.normalization
        plain = seen.normalization if isinstance(seen, Whitening) else seen
        assert isinstance(plain, Unwhitened)
        return plain


def open_parts(
    recipe: Recipe, method: FoundMethod, accelerator: Accelerator, open_data: OpenData = open_used
) -> Parts:
    """Read the protocol, the data and the weights; refuse what they show to be wrong."""
    protocol, experts = recipe_protocol(recipe.evaluate), None
    if recipe.follows_experts:
        experts = open_experts(recipe.asked_experts)
    asks = recipe.asks_classifier or method.asks_classifier
    tests = bool(recipe.evaluate.rows) or asks
    train, open_test, open_pictures = open_data(recipe.data, tests)
    normalization = preprocessing(recipe.data, train)
    if recipe.evaluate.rows:
        teachers = [one.network for one in protocol.labels.teachers if one.weights is None]
        averaged = protocol.ema is not None
        for network in protocol.students:
            try_network(
                network, train.num_classes, train.resolution, trains=True, averaged=averaged
            )
        for network in teachers:
            try_network(network, train.num_classes, train.resolution, trains=True)
    if recipe.samples and "influence" in recipe.sampling.guides:
        try_network(recipe.sampling.influence.network, train.num_classes, train.resolution)
    prior, objective, picture = None, None, None
    if method.takes_prior:
        prior = _open_prior(recipe, train, normalization, accelerator)
    if experts is not None:
        experts.check(train, normalization)
    if recipe.matches:
        objective = build_objective(
            recipe.objective,
            num_classes=train.num_classes,
            resolution=train.resolution,
            normalization=normalization,
            experts=experts,
            prior=prior,
            class_names=train.class_names,
            seed=recipe.seed,
        )
    if recipe.method.kind == "mosaic" and recipe.mosaic.fit != "center":
        picture = open_pictures()
    asked_network = recipe.prune.scorer.network if asks else None
    seen = (normalization, prior, objective, experts)
    shared = shared_recipe(recipe)
    tested = partial(runtime.main_first, accelerator, open_test)
    return Parts(recipe, shared, method, protocol, train, tested, *seen, picture, asked_network)


def _open_prior(
    recipe: Recipe, train: Dataset, normalization: Preprocessing, accelerator: Accelerator
) -> Prior:
    """The prior, of the kind of the data."""
    prior = load_prior(
        recipe.prior,
        resolution=recipe.data.resolution,
        class_names=train.class_names,
        normalization=normalization,
        seed=recipe.seed,
        precision="bf16" if accelerator.mixed_precision == "bf16" else "no",
        device=accelerator.device,
    )
    warn_if_slow(prior, accelerator.device, precision_of(accelerator))
    if (train.kind == "vectors") != isinstance(prior, VectorPrior):
        raise InputError(
            f"prior.kind={recipe.prior.kind} does not go with data.kind={train.kind}; a prior "
            "of kind vector goes with vectors, the others go with images."
        )
    return prior


def evaluation_setting(
    parts: Parts, trainings: Path, accelerator: Accelerator, on_step: OnStep | None
) -> Setting:
    """What the evaluation needs beside its sets; teachers that could not teach are refused."""
    setting = Setting(
        test=parts.open_test(),
        normalization=parts.normalization,
        accelerator=accelerator,
        train=parts.train,
        folder=trainings,
        on_step=on_step,
    )
    require_given_teachers(parts.protocol, setting)
    return setting


def method_context(
    parts: Parts,
    folder: Path,
    trainings: Path,
    accelerator: Accelerator,
    on_step: OnStep | None = None,
) -> Context:
    """What the method may use of the run, whose folder keeps its states."""
    recipe, data, scorer = parts.recipe, parts.recipe.data, parts.recipe.prune.scorer
    mean = scorer.mean or data.mean
    seen = Normalization(mean, scorer.std or data.std)
    drawn = {"normalization": seen, "seed": recipe.seed, "accelerator": accelerator}
    sets = OpenedSets(parts, accelerator)
    context = Context(
        ipc=recipe.ipc,
        seed=recipe.seed,
        accelerator=accelerator,
        train=parts.train,
        picture=parts.picture,
        mean=mean,
        classifier=partial(
            real_classifier,
            scorer,
            parts.train,
            parts.open_test,
            folder=trainings.parent / "classifiers",
            **drawn,
        ),
        student=partial(trained_as_long, scorer, images=len(parts.train), **drawn),
        snapshots=partial(
            training_snapshots,
            settings=recipe.experts,
            network=recipe.sampling.influence.network,
            normalization=parts.normalization,
            seed=recipe.seed,
            folder=trainings.parent / "snapshots",
            accelerator=accelerator,
        ),
        open_set=sets.open,
        objective=parts.objective,
        inputs=sets.inputs(),
        on_step=on_step,
    )
    return in_folder(folder, context)


def check_selected(parts: Parts, context: Context) -> None:
    """Refuse sets, of which images are chosen, that the protocol could not train on."""
    recipe, opened = parts.recipe, context.open_set
    if recipe.method.kind != "selection" or not recipe.evaluate.rows or opened is None:
        return
    pool, start = recipe.selection.pool, recipe.selection.start
    for name in (pool, start):
        if name is not None:
            one = opened(name)  # of two sets with other grids the sum has none
            one = one if start is None else replace(one, grid=None)
            require_trainable(one, parts.protocol, name)


# ---- What lies at the paths of a recipe ----


class OpenedSets:
    """Sets by their path or Hub id, each read once, in the classes of a run's real images.

    The recipe says what their class numbers are, where that is not plain. They are checked with the
    test images, by the scorer or a teacher of the protocol.
    """

    def __init__(self, parts: Parts, accelerator: Accelerator) -> None:
        self._parts, self._accelerator = parts, accelerator
        self.read, self.open = cache(self._read), cache(self._open)

    def _read(self, name: str) -> Read:
        """A set, and how its class numbers were read."""
        recipe = self._parts.recipe
        with _in_words_of_a_recipe():
            found = find_set(name, numbers=recipe.selection.numbers)
            return open_set(found, self._parts.train, recipe.data)

    def _open(self, name: str) -> SyntheticSet:
        """A set whose class numbers fit its images; all processes call this together."""
        found, parts, data = self.read(name), self._parts, self._parts.recipe.data
        setting = Setting(
            test=parts.open_test(),
            normalization=Normalization(data.mean, data.std),
            accelerator=self._accelerator,
            train=parts.train,
        )
        known = (data, parts.recipe.prune.scorer, [parts.protocol], parts.train, setting)
        with _in_words_of_a_recipe():
            check_numbers({name: found}, setting, lambda: open_classifier(*known))
        if found[0].whitening is not None:
            tell_whitening(name, True, data)
        return found[0]

    def inputs(self) -> dict[str, str]:
        """Hash of what lies at each path that the method reads, by its key in the recipe.

        A path that is gone has none, nor has a set that cannot be read; where one is needed, it is
        refused. The prior and the core set have hashes of their own.
        """
        parts, found = self._parts, dict[str, str]()
        for key, name in parts.recipe.opened_sets.items():
            if Path(name).exists():
                with suppress(InputError):
                    found[key] = set_hash(self.read(name)[0])
        weights = parts.recipe.prune.scorer.weights
        if parts.asked_network is not None and weights is not None and Path(weights).is_file():
            found["prune.scorer.weights"] = file_digest(weights)
        if parts.experts is not None:
            found["objective.trajectory.experts"] = parts.experts.identity
        return found


def path_contents(recipe: Recipe) -> dict[str, str]:
    """Hash of what lies at each path that a recipe names, by its key, while no data is open.

    A path that is gone has none, nor has what cannot be read; the run refuses that where it needs
    it. Images have hashes of their own, and protocols and own code are part of the recipe.
    """
    prune, prior = recipe.prune, recipe.prior
    named: dict[str, str | Path | None] = {
        "prune.coreset": prune.coreset,
        "prune.scores": prune.scores,
        "prune.features": prune.features,
        "prune.scorer.weights": prune.scorer.weights,
    }
    if find_method(recipe.method.kind).takes_prior:
        named["prior.weights"] = _prior_here(prior.weights, prior.revision)
        named["prior.autoencoder"] = _prior_here(prior.autoencoder)
    for key, name in recipe.opened_sets.items():
        with suppress(InputError):
            named[key] = find_set(name).path if Path(name).exists() else None
    here = {key: Path(place) for key, place in named.items() if place is not None}
    found = {key: _digest(place) for key, place in here.items() if place.exists()}
    if recipe.follows_experts:
        with suppress(InputError):
            found["objective.trajectory.experts"] = open_experts(recipe.asked_experts).identity
    return found


def _prior_here(weights: str | None, revision: str | None = None) -> Path | None:
    """Its folder, unless it is code, or a prior of the Hub that has not been downloaded."""
    if weights is None or is_own(weights):
        return None
    with suppress(InputError):
        return prior_folder(weights, revision, local_only=True)
    return None


def _digest(path: Path) -> str:
    """Of a file, or of those of a folder but for hidden ones and texts that are written later."""
    if path.is_file():
        return file_digest(str(path))
    found: dict[str, str] = {}
    for file in path.rglob("*"):
        parts = file.relative_to(path).parts
        if file.is_file() and file.name not in (CARD, RESULTS) and not any(map(is_clutter, parts)):
            found["/".join(parts)] = file_digest(str(file))
    return io.fingerprint(found)


@contextmanager
def _in_words_of_a_recipe() -> Iterator[None]:
    """Let errors about class numbers name the recipe's key in place of `--numbers`."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace("--numbers ", "selection.numbers=")) from error
