"""The parts of a run as its recipe describes them: data, prior, objective, classifier."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from latentdc import runtime
from latentdc.data.dataset import Dataset, class_counts, hash_samples
from latentdc.data.open import open_splits, preprocessing
from latentdc.errors import InputError
from latentdc.experts.buffers import ReplayBuffers
from latentdc.experts.files import ExpertFiles, open_experts
from latentdc.images import Normalization, Preprocessing
from latentdc.io import fingerprint, load_tensors, save_tensors
from latentdc.methods.latents import check_classes_per_step
from latentdc.objectives.base import Objective
from latentdc.objectives.build import build_objective
from latentdc.priors.base import Precision, Prior
from latentdc.priors.load import load_prior
from latentdc.prune.scorers import (
    Classifier,
    ScorerTraining,
    given_scorer,
    real_accuracy,
    refuse_chance,
)
from latentdc.ranks import say
from latentdc.recipe import Recipe
from latentdc.synthetic.open import find, open_set
from latentdc.synthetic.synthetic_set import SyntheticSet


@dataclass(frozen=True)
class Parts:
    """What a run has before it has scored or trained anything.

    Attributes:
        train: real images, all of them.
        test: to evaluate on.
        normalization: what networks see of images.
        prior: the space that a method works in; None where it needs none.
        objective: what to match; None for methods that match nothing.
        experts: that trajectory matching follows; None for other objectives.
    """

    train: Dataset
    test: Dataset
    normalization: Preprocessing
    prior: Prior | None
    objective: Objective | None
    experts: ExpertFiles | ReplayBuffers | None


def open_parts(recipe: Recipe, accelerator: Accelerator) -> Parts:
    """Read the data and the weights; the main process first, so that each file is made once.

    Raises:
        InputError: what only the data, the weights or the number of processes show to be wrong.
    """
    matching = recipe.method.kind == "matching"
    experts = recipe_experts(recipe)
    train, test = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
    normalization = runtime.main_first(accelerator, lambda: preprocessing(recipe.data, train))
    prior, objective = None, None
    if recipe.method.needs_prior:
        prior = runtime.main_first(
            accelerator,
            lambda: build_prior(
                recipe,
                accelerator.device,
                class_names=train.class_names,
                normalization=normalization,
                precision="bf16" if accelerator.mixed_precision == "bf16" else "no",
            ),
        )
    if experts is not None:
        experts.check(train, normalization)
    if matching:
        objective = recipe_objective(recipe, train, normalization, experts)
        check_classes_per_step(
            recipe.distill.classes_per_step,
            num_classes=train.num_classes,
            processes=accelerator.num_processes,
            scope=objective.scope,
        )
    return Parts(train, test, normalization, prior, objective, experts)


def build_prior(
    recipe: Recipe,
    device: torch.device | str,
    *,
    class_names: Sequence[str] | None = None,
    normalization: Preprocessing | None = None,
    precision: Precision = "no",
) -> Prior:
    """The space to optimise in.

    Args:
        recipe: its prior and resolution.
        device: of the weights; on `meta` there are none.
        class_names: of the data set, which a text-conditional prior starts from.
        normalization: what networks see of images; if it whitens, pixels are whitened ones. The
            space of vectors is what they see of these.
        precision: of the networks.

    Raises:
        InputError: weights missing or of an unknown kind.
    """
    return load_prior(
        recipe.prior,
        resolution=recipe.data.resolution,
        class_names=class_names,
        normalization=normalization,
        seed=recipe.seed,
        precision=precision,
        device=device,
    )


def recipe_experts(recipe: Recipe) -> ExpertFiles | ReplayBuffers | None:
    """The experts that a recipe follows; None where its objective follows none.

    Raises:
        InputError: some are missing, or they were made otherwise.
    """
    if recipe.method.kind != "matching" or recipe.objective.kind != "mtt":
        return None
    return open_experts(recipe.experts, recipe.objective, recipe.data, recipe.prune, recipe.seed)


def recipe_objective(
    recipe: Recipe,
    train: Dataset,
    normalization: Preprocessing,
    experts: ExpertFiles | ReplayBuffers | None = None,
) -> Objective:
    """What to match; experts are opened unless they are given.

    Raises:
        InputError: experts that are missing or were made otherwise.
    """
    spec = recipe.objective
    if experts is None and (experts := recipe_experts(recipe)) is not None:
        experts.check(train, normalization)
    return build_objective(
        spec,
        num_classes=train.num_classes,
        resolution=train.resolution,
        normalization=normalization,
        experts=experts,
        seed=recipe.seed,
    )


def real_classifier(
    recipe: Recipe, parts: Parts, folder: Path, accelerator: Accelerator
) -> tuple[Classifier, float]:
    """The network of `prune.scorer`, trained to the end or given, and its accuracy on the test set.

    Trained here it sees the training images as they are, without augmentation; it is kept in a
    folder that the runs of a sweep share.

    Raises:
        InputError: weights that do not fit, or a classifier at chance.
    """
    scorer, train, test, seed = recipe.prune.scorer, parts.train, parts.test, recipe.seed
    data = recipe.data
    plain = Normalization(scorer.mean or data.mean, scorer.std or data.std)
    if scorer.weights is not None:
        size = scorer.resolution or train.resolution  # torchvision's own preparation would crop
        classifier = given_scorer(replace(scorer, resolution=size), train, plain)
        classifier = classifier.to(accelerator.device)
    else:
        training = ScorerTraining(
            train, scorer, normalization=plain, seed=seed, accelerator=accelerator
        )
        classifier = training.classifier
        facts = {
            "data": hash_samples(train.hashes, train.labels, train.class_names),
            "scorer": asdict(scorer),
            "normalization": plain.facts(),
            "seed": seed,
            "precision": accelerator.mixed_precision,
        }
        path = folder / f"{fingerprint(facts)}.safetensors"
        if runtime.broadcast(accelerator, path.is_file()):
            state = runtime.main_first(accelerator, lambda: _kept_classifier(path))
            classifier.load_state_dict(state)
        else:
            quiet = not accelerator.is_main_process
            epochs = tqdm(training.run(), "classifier", scorer.epochs, disable=quiet)
            for _ in epochs:
                pass
            if accelerator.is_main_process:
                save_tensors(path, classifier.state_dict())
    classifier.eval().requires_grad_(False)
    accuracy = real_accuracy(classifier, test.images, test.labels, accelerator.device)
    advice = "train it for more prune.scorer.epochs, or check class order and normalisation"
    refuse_chance(accuracy, class_counts(test).tolist(), advice)
    return classifier, accuracy


def student_of(
    recipe: Recipe, parts: Parts, one: SyntheticSet, accelerator: Accelerator
) -> Classifier:
    """The network of `prune.scorer`, trained on a set for as many steps as on all real images."""
    scorer, classes = recipe.prune.scorer, one.class_names
    steps = scorer.epochs * -(-len(parts.train) // scorer.batch)
    epochs = -(-steps // -(-len(one) // scorer.batch))
    images = Dataset(one.levels(), one.labels, classes, torch.arange(len(one)), "selection.start")
    training = ScorerTraining(
        images,
        replace(scorer, epochs=epochs, infobatch=None),
        normalization=Normalization(scorer.mean or recipe.data.mean, scorer.std or recipe.data.std),
        seed=recipe.seed,
        accelerator=accelerator,
    )
    for _ in training.run():
        pass
    return training.classifier.eval().requires_grad_(False)


def open_pool(recipe: Recipe, parts: Parts, name: str) -> SyntheticSet:
    """Any set that can be scored, in the classes of the training images.

    Raises:
        InputError: there is none, or its class numbers could stand for other classes.
    """
    found, numbering = open_set(find(name), parts.train, recipe.data)
    if numbering is not None and numbering.others:
        say(
            "note",
            f"the class numbers of {name} are read as {numbering.what}; `latentdc evaluate` checks "
            "whether they fit the images.",
        )
    return found


def _kept_classifier(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_tensors(path)
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}); remove it to train this classifier again."
        ) from error
