"""Scores of every image, from a scorer's training or under given weights."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdc import runtime
from latentdc.data.dataset import class_counts
from latentdc.draws import key_seed
from latentdc.errors import InputError, RunError
from latentdc.io import file_hash
from latentdc.prune.features import FEATURES, Features
from latentdc.prune.measures import Batch, History, Measures, accuracy, measure
from latentdc.prune.rules.dynamics import held_out_parts
from latentdc.prune.score_table import PREDICTED, ScoreTable
from latentdc.prune.scorers import Classifier, ScorerTraining, given_scorer, refuse_chance
from latentdc.prune.scoring import Scoring
from latentdc.recipe.networks import check_network, pretrained
from latentdc.recipe.rules import RULES
from latentdc.runtime import with_gradients

Columns = dict[str, Tensor]
PASSES = {"predictions", "last", "records"}  # stages that need a pass over the images
WHOLE = "run-0"  # the first training on all images, which has the recipe's own seed
GIVEN = "given"  # the one pass under given weights
_HALF = 65504.0  # the largest number of half precision
_CHUNK = 2**18  # images whose scores are made together of all epochs


@with_gradients
def compute_scores(scoring: Scoring, features: Features | None = None) -> ScoreTable:
    """The same scores for all processes; the main one has the features too.

    Args:
        scoring: what to score, and how.
        features: of the images, in place of the scorer's.

    Raises:
        InputError: a scorer that cannot be had, does not fit, or is at chance on the test images.
        RunError: losses that are not finite.
    """
    train, asked, workspace = scoring.train, scoring.columns, scoring.workspace
    settings = asdict(scoring.prune.rules)
    contents = {"hashes": train.hashes, "labels": train.labels, "seed": scoring.seed}
    scores = _of_stage("contents", asked, settings | contents)
    trainings: list[Dynamics] = []
    wants_features = features is None and any(RULES[name].needs_features for name in asked)
    if wants_features or {RULES[name].stage for name in asked} & PASSES:
        trainings = _observed(scoring, wants_features)
        if scoring.accelerator.is_main_process:
            scores |= _means([one.columns(asked, settings) for one in trainings])
            if features is None and trainings[0].features is not None:
                features = Features(trainings[0].features)
    if any(RULES[name].stage == "subsets" for name in asked):
        scores |= _of_subsets(scoring)
    if features is not None:
        scores |= _of_features(features, scoring)
    scores = cast(Columns, runtime.broadcast(scoring.accelerator, scores))
    # Not before the rest is there: a restart looks for the features.
    features_hash = trainings[0].keep_features() if trainings else None
    workspace.clear()
    return ScoreTable(
        train.hashes,
        train.labels,
        train.class_names,
        scores,
        train.name,
        scoring.facts,
        features,
        features_hash,
    )


def _of_stage(stage: str, asked: Sequence[str], available: Mapping[str, Any]) -> Columns:
    return {name: RULES[name](available) for name in asked if RULES[name].stage == stage}


def _of_features(features: Features, scoring: Scoring) -> Columns:
    """By the rules that look at all features at once."""
    rules, train = scoring.prune.rules, scoring.train
    available = {"features": features, "labels": train.labels, "seed": scoring.seed}
    available |= {"clusters": rules.clusters or train.num_classes}
    return _of_stage("features", scoring.columns, asdict(rules) | available)


def _of_subsets(scoring: Scoring) -> Columns:
    """By the rules that compare trainings, each without another part of the images."""
    train, subsets, last = scoring.train, scoring.prune.rules.subsets, scoring.window[1]
    held_out = held_out_parts(train.labels, train.hashes, subsets, scoring.seed)
    trainings = [
        _trained(
            scoring,
            f"subset-{k}-of-{subsets}",
            rows=(~held_out[k]).nonzero().squeeze(1),
            window=(last, last),
        )
        for k in range(subsets)
    ]
    if not scoring.accelerator.is_main_process:
        return {}
    losses = torch.stack([one.column("loss") for one in trainings])
    return _of_stage("subsets", scoring.columns, {"loss": losses, "held_out": held_out})


def _means(parts: list[Columns]) -> Columns:
    """Over trainings; what the scorer says is the first one's."""
    means = {name: torch.zeros_like(column) for name, column in parts[0].items()}
    for name, mean in means.items():
        for part in parts:
            mean += part[name] / len(parts)
    return means | {PREDICTED: parts[0][PREDICTED]}


class Dynamics:
    """What one training, or one pass under given weights, says of every image.

    Losses take 4 bytes, because easy images differ below half precision; other values that are
    averaged over epochs take 2. Of what is not averaged, the last epoch alone is kept.

    Args:
        scoring: images, device and folder.
        run: name of its folder.
        measures: what to measure.
        width: of features to keep from the last pass; 0 keeps none.

    Attributes:
        passes: (N,) values by name, of every recorded epoch; of the main process.
        features: (N, width) float16; likewise.
    """

    def __init__(self, scoring: Scoring, run: str, measures: Measures, width: int) -> None:
        self._scoring, self._run, self._measures, self._width = scoring, run, measures, width
        self._main, self._shape = scoring.accelerator.is_main_process, (len(scoring.train), width)
        self.passes: list[Mapping[str, Tensor]] = []
        self.features: NDArray[np.float16] | None = None

    def restore(self, first: int, last: int) -> dict[str, Tensor] | None:
        """The state of a killed training, whose epochs from `first` on are taken up; None without.

        Raises:
            InputError: a file is damaged or gone.
        """
        workspace, run = self._scoring.workspace, self._run
        state, features = workspace.load(f"{run}/state"), self._has_features()
        if state is not None and int(state["done"]) == last and not features:
            state = None  # they were moved to the run folder, but no scores saved
        self._open_features(keep=state is not None and features)
        for epoch in range(first, 0 if state is None else int(state["done"]) + 1):
            found = workspace.load(f"{run}/epoch-{epoch}")
            if found is None:
                path = workspace.path(f"{run}/epoch-{epoch}.safetensors")
                raise workspace.damaged(path, "it is gone")
            self.passes.append(found)
            if epoch == last:
                self._check_features(slice(None), found)
        return state

    def record(self, epoch: int, classifier: Classifier, *, last: bool) -> None:
        """Measure every image at the end of an epoch of a training."""
        values = torch.cat([block for _, block in self._blocks(classifier, features=last)])
        if self._main:
            sums = self._features_sum(slice(None)) if last else {}
            found = self._pass(values, last=last) | sums
            name, workspace = f"{self._run}/epoch-{epoch}", self._scoring.workspace
            workspace.save(name, found)
            self.passes.append(workspace.load(name) or found)  # mapped from its file

    def record_once(self, classifier: Classifier) -> None:
        """Measure every image under given weights, from where a killed pass ended."""
        workspace, blocks = self._scoring.workspace, list[Tensor]()

        def restore() -> int:
            found = workspace.load(f"{self._run}/rows-0") if self._has_features() else None
            self._open_features(keep=found is not None)
            rows = 0
            while found is not None:
                blocks.append(found["values"])
                self._check_features(slice(rows, rows + len(found["values"])), found)
                rows += len(found["values"])
                found = workspace.load(f"{self._run}/rows-{rows}")
            return rows

        start = runtime.main_alone(self._scoring.accelerator, restore)
        if start < self._shape[0]:
            for first, block in self._blocks(classifier, features=True, start=start):
                blocks.append(block)
                sums = self._features_sum(slice(first, first + len(block)))
                workspace.save(f"{self._run}/rows-{first}", {"values": block, **sums})
        if self._main:
            self.passes = [self._pass(torch.cat(blocks), last=True)]

    def _blocks(
        self, classifier: Classifier, *, features: bool, start: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """First row and (n, Q) values of consecutive blocks; features are noted in passing.

        Raises:
            RunError: values that are not finite.
        """
        width, own = self._width if features else 0, len(self._measures.names)

        def values(batch: Batch) -> Tensor:
            measured = self._measures(batch)
            return torch.cat([measured, batch.features], dim=1) if width else measured

        for first, block in measure(
            classifier,
            self._scoring.train,
            values,
            width=own + width,
            batch=self._scoring.batch,
            accelerator=self._scoring.accelerator,
            start=start,
            embed=self._measures.embed or width > 0,
        ):
            if not bool(block.isfinite().all()):
                raise RunError(
                    "the scorer gives losses that are not finite; lower prune.scorer.lr, or take "
                    "other weights."
                )
            if self.features is not None and width:
                rows = slice(first, first + len(block))
                self.features[rows] = block[:, own:].numpy().clip(-_HALF, _HALF)
            yield first, block[:, :own].contiguous()

    def _pass(self, values: Tensor, *, last: bool) -> dict[str, Tensor]:
        """(N, Q) values by name, as they are kept."""
        found = dict(zip(self._measures.names, values.T, strict=True))
        for name in self._measures.averaged:
            if name != "loss":
                found[name] = found[name].clamp(-_HALF, _HALF).half()
        names = self._measures.names if last else self._measures.averaged
        return {name: found[name].contiguous() for name in names}

    def _has_features(self) -> bool:
        """Whether none are wanted, or a killed scoring left them where they are written."""
        path = self._scoring.workspace.path(f"{self._run}/{FEATURES}")
        return not self._width or path is None or path.is_file()

    def _open_features(self, *, keep: bool) -> None:
        if self._main and self._width:
            name, workspace = f"{self._run}/{FEATURES}", self._scoring.workspace
            self.features = workspace.array(name, self._shape, keep=keep)

    def _features_sum(self, rows: slice) -> dict[str, Tensor]:
        """A checksum of features, after they are on the disk."""
        if self.features is None:
            return {}
        if isinstance(self.features, np.memmap):
            self.features.flush()
        return {"features": torch.tensor(zlib.crc32(self.features[rows].data))}

    def _check_features(self, rows: slice, kept: Mapping[str, Tensor]) -> None:
        for name, wanted in self._features_sum(rows).items():
            if not torch.equal(wanted, kept[name]):
                workspace = self._scoring.workspace
                path = workspace.path(f"{self._run}/{FEATURES}")
                raise workspace.damaged(path, "it is not as it was written")

    def column(self, name: str) -> Tensor:
        """(N,) float32: the mean over epochs, or the last one's value."""
        found = [one[name].float() for one in self.passes if name in one]
        total = torch.zeros(self._shape[0])
        for values in found:
            total += values / len(found)
        return total

    def columns(self, asked: Sequence[str], settings: Mapping[str, object]) -> Columns:
        """Scores by the rules that look at this alone."""
        names = self._measures.names
        scores = {name: self.column(name) for name in names if name in RULES or name == PREDICTED}
        if self._run == GIVEN:
            return scores
        derived = [name for name, rule in RULES.items() if rule.stage == "records"]
        derived = [name for name in derived if RULES[name].free or name in asked]
        scores |= {name: torch.zeros(self._shape[0]) for name in derived}
        for start in range(0, self._shape[0], _CHUNK):
            some = slice(start, start + _CHUNK)
            values: dict[str, object] = {
                name: torch.stack([one[name][some] for one in self.passes]).float()
                for name in self._measures.averaged
            }
            for name in derived:
                scores[name][some] = RULES[name]({**values, **settings})
        return scores

    def keep_features(self) -> str | None:
        """Move those in a file to the run folder, and say the file's hash; they stay open there."""
        folder = self._scoring.folder
        if folder is None or not isinstance(self.features, np.memmap):
            return None
        Path(str(self.features.filename)).replace(folder / FEATURES)
        return file_hash(folder / FEATURES)


def _observed(scoring: Scoring, features: bool) -> list[Dynamics]:
    if scoring.scorer.weights is not None:
        return [_given(scoring, features)]
    return [
        _trained(scoring, f"run-{run}", asked=scoring.columns, features=features and run == 0)
        for run in range(scoring.scorer.runs)
    ]


def _given(scoring: Scoring, features: bool) -> Dynamics:
    """A pass over the images under given weights.

    Raises:
        InputError: weights that cannot be had, do not fit, or are at chance.
        RunError: values that are not finite.
    """
    _require_kind(scoring)
    classifier = given_scorer(scoring.scorer, scoring.train, scoring.input_normalization)
    _check_accuracy(scoring, classifier)
    found = Dynamics(scoring, GIVEN, Measures(scoring.columns), classifier.width if features else 0)
    found.record_once(classifier)
    return found


def _trained(
    scoring: Scoring,
    run: str,
    *,
    asked: tuple[str, ...] = (),
    window: tuple[int, int] | None = None,
    rows: Tensor | None = None,
    features: bool = False,
) -> Dynamics:
    """A pass at the end of every epoch of the window of one training.

    Args:
        scoring: images, network and training.
        run: key of its seed and name of its folder.
        asked: rules wanted beside the free ones.
        window: first and last epoch to record; None takes the scoring's.
        rows: images to train on; None takes all. All are recorded.
        features: whether to keep those of the last epoch.

    Raises:
        InputError: a scorer of other samples, or one that ends at chance.
        RunError: values that are not finite.
    """
    _require_kind(scoring)
    train, (first, last) = scoring.train, window or scoring.window
    training = ScorerTraining(
        train,
        scoring.scorer,
        normalization=scoring.input_normalization,
        seed=scoring.seed if run == WHOLE else key_seed(scoring.seed, "scorer", run),
        accelerator=scoring.accelerator,
        rows=rows,
    )
    classifier = training.classifier
    history = None
    if any("change" in RULES[name].inputs for name in asked):
        history = History(len(train), train.num_classes)
    found = Dynamics(scoring, run, Measures(asked, history), classifier.width if features else 0)
    state = runtime.main_alone(scoring.accelerator, lambda: found.restore(first, last))
    if state is not None:
        training.restore(state)
    if history is not None and first <= training.done < last:  # begun: note what it said last
        _remember(history, classifier, scoring)
    for epoch in training.run(last):
        if epoch + 1 >= first:
            found.record(epoch + 1, classifier, last=epoch + 1 == last)
        scoring.workspace.save(f"{run}/state", training.state())
    _check_accuracy(scoring, classifier)
    return found


def _remember(history: History, classifier: Classifier, scoring: Scoring) -> None:
    """Note what a classifier says of all images now."""

    def note(seen: Batch) -> Tensor:
        return history.change(seen).unsqueeze(1)

    images, batch = scoring.train, scoring.batch
    for _ in measure(
        classifier, images, note, width=1, batch=batch, accelerator=scoring.accelerator
    ):
        pass


def _require_kind(scoring: Scoring) -> None:
    """Refuse a scorer of images for vectors, and the other way round."""
    kind = scoring.train.kind
    if pretrained(scoring.scorer.weights) is None or kind == "vectors":
        check_network(scoring.scorer.network, kind=kind)


def _check_accuracy(scoring: Scoring, classifier: Classifier) -> None:
    """Print the scorer's accuracy, and refuse one that is at chance, with all that it left."""
    accelerator, test, scorer = scoring.accelerator, scoring.test, scoring.scorer
    right = accuracy(classifier, test, batch=scoring.batch, accelerator=accelerator)
    accelerator.print(f"scorer {scorer.network}: {right:.2%} right on {test.name}")
    advice = (
        "train it for more prune.scorer.epochs or with another prune.scorer.lr"
        if scorer.weights is None
        else "its class order or its normalisation (prune.scorer.mean, .std) is not the data set's"
    )
    try:
        refuse_chance(right, class_counts(test).tolist(), advice)
    except InputError:
        scoring.workspace.discard()
        raise
