"""Scores of every image: from a file, from before, from a scorer's training, or by its weights.

The way is `score_dataset` -> `Scoring` -> `scored` -> `compute_scores` -> `ScoreTable`.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import arguments, draws, io, modes, ranks, runtime, training
from latentdc.data.classes import require_members, require_same_classes
from latentdc.data.dataset import Dataset
from latentdc.data.open import plain_preprocessing
from latentdc.errors import InputError
from latentdc.images import forward_batch
from latentdc.modes import in_plain_modes
from latentdc.networks.build import outline
from latentdc.preprocessing import Normalization, Unwhitened
from latentdc.prune.dynamics import GIVEN, Columns, Dynamics, Workspace
from latentdc.prune.features import Features, own_features, read_features
from latentdc.prune.foreign import read_scores
from latentdc.prune.measures import scorer_accuracy, try_own_rules
from latentdc.prune.rules.dynamics import held_out_parts
from latentdc.prune.score_table import PREDICTED, ScoreTable
from latentdc.prune.scorer_training import ScorerTraining, scorer_facts
from latentdc.prune.scorers import Classifier, given_scorer, refuse_chance
from latentdc.recipe import Data, Prune, identity
from latentdc.recipe.networks import check_network, pretrained
from latentdc.recipe.own import is_own
from latentdc.recipe.rules import RULES

SCORES = "scores.parquet"  # in a run folder
PASSES = {"predictions", "last", "records"}  # stages that need a pass over the images
_WHOLE = "run-0"  # the first training on all images, which has the recipe's own seed


class Scoring:
    """All that decides the scores of a data set, and where they are made.

    Arguments of `prune_dataset`, with their defaults.

    Raises:
        InputError: one is of another kind.
    """

    def __init__(
        self,
        train: Dataset,
        prune: Prune,
        test: Dataset | None = None,
        normalization: Unwhitened | None = None,
        seed: int = 0,
        folder: Path | None = None,
        accelerator: Accelerator | None = None,
        on_step: training.OnStep | None = None,
    ) -> None:
        self.seed = check_arguments(train, prune, seed)
        if test is not None:
            arguments.require_a(Dataset, test, "test", "such as one of open_splits(Data())")
        if normalization is not None:
            arguments.require_able(
                "__call__ facts", normalization, "normalization", "a Normalization"
            )
        if accelerator is not None:
            arguments.require_a(
                Accelerator, accelerator, "accelerator", "make one, or leave it out"
            )
        self.train, self.prune, self.scorer = train, prune, prune.scorer
        self.window = prune.window or (1, prune.scorer.epochs)  # epochs to look at, from 1
        self.test, self._normalization = train if test is None else test, normalization
        if on_step is not None:
            arguments.require_able("__call__", on_step, "on_step", "a function")
        self.on_step = on_step
        self.folder = arguments.folder_of(folder, "folder")
        self.accelerator = accelerator or Accelerator()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The rules asked for and those that they rank by, in the order of the list of rules."""
        wanted = self.prune.asked_rules
        return (*(name for name in RULES if name in wanted), *sorted(filter(is_own, wanted)))

    @cached_property
    def batch(self) -> int:
        """Images in one forward pass."""
        return forward_batch(self.train.images, self.scorer.batch, self.accelerator.device)

    @cached_property
    def normalization(self) -> Unwhitened:
        """What the scorer sees of the images."""
        return self._normalization or plain_preprocessing(Data(), self.train)

    @property
    def input_normalization(self) -> Unwhitened:
        """What the scorer expects of images."""
        own, scorer = self.normalization, self.scorer
        if not isinstance(own, Normalization):
            return own
        return Normalization(scorer.mean or own.mean, scorer.std or own.std)

    @cached_property
    def workspace(self) -> Workspace:
        """Folder for what has been done."""
        return Workspace(self.folder, self.facts, self.accelerator)

    @cached_property
    def facts(self) -> dict[str, object]:
        """What tells these scores from others, in JSON's types and without paths."""
        train, weights, features = self.train, self.scorer.weights, self.prune.features
        images = [train.hashes, train.labels, train.class_names]  # in order, as records are by row
        if weights is not None and Path(weights).is_file():
            weights = _identity(Path(weights))
        facts = {
            "columns": self.columns,
            "scorer": identity.facts_of(self.scorer) | {"weights": weights},
            "window": self.window,
            "settings": identity.facts_of(self.prune.rules),
            "normalization": self.normalization.facts(),
            "seed": self.seed,
            "precision": modes.precision_of(self.accelerator),
            "features": None if features is None else _identity(Path(features)),
            "resolution": train.resolution,
            "images": io.fingerprint(images),
            **scorer_facts(self.scorer, train, self.accelerator),
        }
        return dict(io.as_read_back(facts))


def _identity(path: Path) -> str:
    """Name and content of a file, wherever it lies."""
    return f"{path.name} {io.file_hash(path)[:16]}"


@in_plain_modes
def score_dataset(
    train: Dataset,
    prune: Prune,
    test: Dataset | None = None,
    *,
    normalization: Unwhitened | None = None,
    seed: int = 0,
    folder: Path | None = None,
    accelerator: Accelerator | None = None,
    on_step: training.OnStep | None = None,
) -> ScoreTable:
    """The scores of every image by `prune.score`, `prune.columns` and what costs nothing more.

    They come from the file `prune.scores`, are kept in the folder from before, or are made now:
    means over the epochs of `prune.window` and over independent trainings, because a network that
    was trained to the end knows its own training images by heart. Arguments as of `prune_dataset`;
    what `prune` keeps is of no account here.

    Raises:
        InputError: as `prune_dataset`.
        RunError: likewise.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=8))
        >>> scorer = latentdc.Scorer(network="convnet3@8", epochs=2, lr=0.1)
        >>> prune = latentdc.Prune(score="loss", columns=["el2n"], scorer=scorer)
        >>> table = latentdc.score_dataset(train, prune, test)
        >>> table.column("el2n").shape
        torch.Size([1437])
    """
    return scored(Scoring(train, prune, test, normalization, seed, folder, accelerator, on_step))


def check_arguments(train: object, prune: object, seed: object) -> int:
    """Refuse what every function of pruning takes, where it is of another kind; gives the seed."""
    arguments.require_a(Dataset, train, "train", "such as one of open_splits(Data())")
    arguments.require_a(Prune, prune, "prune", "such as Prune(score='loss', keep=0.2)")
    assert isinstance(prune, Prune) and isinstance(train, Dataset)
    if not len(train):
        raise InputError(f"{train.name} holds no samples to choose from.")
    advice = "leave empty classes out, and number the others from 0"
    require_members(train.labels, train.class_names, train.name, advice)
    if prune.times_ipc is not None:
        raise InputError(
            "prune.times_ipc is a multiple of a recipe's ipc, which is not known here; give "
            "prune.count, the number of images of each class."
        )
    return arguments.require_seed(seed)


def scored(scoring: Scoring) -> ScoreTable:
    """The scores of a data set in its order, see `score_dataset`."""
    train, prune, accelerator = scoring.train, scoring.prune, scoring.accelerator
    kept = None if scoring.folder is None else scoring.folder / SCORES
    saves = kept is not None and accelerator.is_main_process
    features = own_features(train)
    if prune.features is not None:
        features = read_features(Path(prune.features), len(train))
        ranks.say(
            "note",
            f"{Path(prune.features).name} does not say which image each row is of, so the order of "
            f"{train.name} is taken on trust.",
        )
    if prune.scores is not None:
        ranks_by = prune.base_of(prune.score) or prune.score
        table = read_scores(Path(prune.scores), train, ranks_by).with_features(features)
        lacking = [
            name
            for name in prune.columns
            if name not in table.columns and (is_own(name) or not RULES[name].chooses)
        ]
        if lacking:
            ranks.warn(
                f"prune.columns: {', '.join(lacking)} not in {prune.scores}, and nothing is scored "
                "beside scores that are there; leave prune.scores or prune.columns out."
            )
        if kept is not None and saves and not kept.exists():
            replace(table, features_hash=None).save(kept)  # by content, so that it fits every copy
        return table
    earlier = None if kept is None else _kept_scores(kept, scoring)
    if kept is not None and runtime.broadcast(earlier is not None):
        earlier = ScoreTable.load(kept) if earlier is None else earlier
        return earlier.fitted(train).with_features(features)
    if scoring.folder is not None:
        io.require_writable(scoring.folder, "folder")
    own = [name for name in scoring.columns if is_own(name)]
    if own:
        width = _width(scoring, own, features)
        try_own_rules(own, train.num_classes, width, accelerator.device)
    table = compute_scores(scoring, features)
    if kept is not None and saves:
        table.save(kept)
    return table


def _width(scoring: Scoring, rules: Sequence[str], features: Features | None) -> int | None:
    """Values of an image's features; None of a scorer that is not loaded yet."""
    if features is not None:
        return features.width
    scorer, train = scoring.scorer, scoring.train
    asked = any("features" in RULES[name].inputs for name in rules)
    if not asked or pretrained(scorer.weights) is not None:
        return None
    resolution = scorer.resolution or train.resolution
    sizes = {"num_classes": train.num_classes, "resolution": resolution}
    modules = outline(scorer.network, **sizes).modules()
    linear = [one for one in modules if isinstance(one, torch.nn.Linear)]
    return linear[-1].in_features if linear else None


def _kept_scores(path: Path, scoring: Scoring) -> ScoreTable | None:
    """The scores that lie there, where they are these, among others or alone."""
    if not path.is_file():
        return None
    kept = ScoreTable.load(path)
    columns = {*cast(list[str], kept.facts.get("columns", [])), *kept.columns}
    same = kept.facts | {"columns": None} == scoring.facts | {"columns": None}
    return kept if same and columns.issuperset(scoring.columns) else None


# ---- Scores that are made now ----


def compute_scores(scoring: Scoring, features: Features | None = None) -> ScoreTable:
    """The same scores for all processes; the main one has the features too.

    `features` of the images take the place of the scorer's.

    Raises:
        InputError: a scorer that cannot be had, does not fit, or is at chance on the test images.
        RunError: losses that are not finite.
    """
    train, rules, asked = scoring.train, scoring.prune.rules, scoring.columns
    settings, main = asdict(rules), scoring.accelerator.is_main_process
    common = settings | {
        "hashes": train.hashes,
        "labels": train.labels,
        "seed": scoring.seed,
        "clusters": rules.clusters or train.num_classes,
    }

    def by(stage: str, **seen: object) -> Columns:
        return {name: RULES[name](common | seen) for name in asked if RULES[name].stage == stage}

    stages = {RULES[name].stage for name in asked}
    wants_features = features is None and any(RULES[name].needs_features for name in asked)
    passes = wants_features or bool(stages & PASSES)
    if passes or "subsets" in stages:
        _require_kind(scoring)
    scores, trainings = by("contents"), _observed(scoring, wants_features) if passes else []
    if trainings and main:
        scores |= _means([one.columns(settings) for one in trainings])
        if features is None and trainings[0].features is not None:
            features = Features(trainings[0].features)
    if "subsets" in stages:
        losses, held_out = _of_subsets(scoring)
        scores |= by("subsets", loss=losses, held_out=held_out) if main else {}
    if features is not None:
        scores |= by("features", features=features)
    scores = runtime.broadcast(scores)
    # Not before the rest is there: a restart looks for the features.
    features_hash = trainings[0].keep_features(scoring.folder) if trainings else None
    scoring.workspace.clear()
    contents = (train.hashes, train.labels, train.class_names)
    return ScoreTable(*contents, scores, train.name, scoring.facts, features, features_hash)


def _observed(scoring: Scoring, features: bool) -> list[Dynamics]:
    """What all trainings say of the images, or the given weights; the first keeps features."""
    if scoring.scorer.weights is None:
        return [
            _trained(scoring, f"run-{run}", asked=scoring.columns, features=features and run == 0)
            for run in range(scoring.scorer.runs)
        ]
    classifier = given_scorer(scoring.scorer, scoring.train, scoring.input_normalization)
    _check_accuracy(scoring, classifier)
    found = _dynamics(scoring, GIVEN, scoring.columns, classifier, features)
    found.record_once(classifier)
    return [found]


def _of_subsets(scoring: Scoring) -> tuple[Tensor, Tensor]:
    """(K, N) losses of trainings, each without another part of the images, and which part."""
    train, subsets, last = scoring.train, scoring.prune.rules.subsets, scoring.window[1]
    held_out = held_out_parts(train.labels, train.hashes, subsets, scoring.seed)
    losses = []
    for k in range(subsets):
        rows, run = (~held_out[k]).nonzero().squeeze(1), f"subset-{k}-of-{subsets}"
        losses.append(_trained(scoring, run, rows=rows, window=(last, last)).column("loss"))
    return torch.stack(losses), held_out


def _means(parts: list[Columns]) -> Columns:
    """Over trainings; what the scorer says is the first one's."""
    zero = torch.zeros(())
    means = {name: sum((part[name] / len(parts) for part in parts), zero) for name in parts[0]}
    return means | {PREDICTED: parts[0][PREDICTED]}


def _trained(
    scoring: Scoring,
    run: str,
    *,
    asked: tuple[str, ...] = (),
    window: tuple[int, int] | None = None,
    rows: Tensor | None = None,
    features: bool = False,
) -> Dynamics:
    """A pass over all images at the end of every epoch of the window of one training.

    `run` keys its seed and names its folder; `rows` are the images to train on, None all.
    """
    train, (first, last) = scoring.train, window or scoring.window
    trainer = ScorerTraining(
        train,
        scoring.scorer,
        normalization=scoring.input_normalization,
        seed=scoring.seed if run == _WHOLE else draws.key_seed(scoring.seed, "scorer", run),
        accelerator=scoring.accelerator,
        rows=rows,
        on_step=scoring.on_step,
    )
    classifier = trainer.classifier
    found = _dynamics(scoring, run, asked, classifier, features)
    state = runtime.main_alone(scoring.accelerator, lambda: found.restore(first))
    if state is not None:
        trainer.restore(state)
    if first <= trainer.done < last:
        found.note(classifier)
    for epoch in trainer.run(last):
        ends = epoch + 1 == last
        if epoch + 1 >= first:
            found.record(epoch + 1, classifier, last=ends)
        if not (ends and features):  # which no restart finds: it takes the last epoch once more
            scoring.workspace.save(f"{run}/state", trainer.state())
    _check_accuracy(scoring, classifier)
    return found


def _dynamics(
    scoring: Scoring, run: str, asked: Sequence[str], classifier: Classifier, features: bool
) -> Dynamics:
    return Dynamics(
        run,
        scoring.workspace,
        scoring.train,
        asked,
        batch=scoring.batch,
        accelerator=scoring.accelerator,
        width=classifier.width if features else 0,
    )


def _require_kind(scoring: Scoring) -> None:
    """Refuse a scorer of images for vectors, the other way round, and classes it cannot know."""
    arguments.require_several(scoring.train.class_names, scoring.train.name)
    require_same_classes(scoring.train.class_names, scoring.test.class_names, "training")
    kind = scoring.train.kind
    if pretrained(scoring.scorer.weights) is None or kind == "vectors":
        check_network(scoring.scorer.network, kind=kind)


def _check_accuracy(scoring: Scoring, classifier: Classifier) -> None:
    """Print the scorer's accuracy, and refuse one that is at chance, with all that it left."""
    accelerator, test, scorer = scoring.accelerator, scoring.test, scoring.scorer
    right = scorer_accuracy(classifier, test, batch=scoring.batch, accelerator=accelerator)
    ranks.say("note", f"scorer {scorer.network}: {right:.2%} right on {test.name}")
    advice = (
        "train it for more prune.scorer.epochs or with another prune.scorer.lr"
        if scorer.weights is None
        else "its class order or its normalisation (prune.scorer.mean, .std) is not the data set's"
    )
    try:
        refuse_chance(right, test.counts, advice)
    except InputError:
        scoring.workspace.discard()
        raise
