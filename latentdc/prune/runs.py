"""The scorers of one scoring, given or trained on the spot, and what each makes of every image."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc.data.dataset import Dataset, class_counts
from latentdc.draws import key_seed
from latentdc.images import Plain, forward_batch
from latentdc.networks.names import check_network
from latentdc.networks.torchvision_names import pretrained
from latentdc.prune.check import refuse_chance
from latentdc.prune.classifier import Classifier
from latentdc.prune.foreign import FEATURES
from latentdc.prune.history import History
from latentdc.prune.look import Look, new_look
from latentdc.prune.predictions import accuracy
from latentdc.prune.quantities import Quantities
from latentdc.prune.rules.names import RULES
from latentdc.prune.scorer import given_scorer
from latentdc.prune.training import ScorerTraining
from latentdc.prune.workspace import Workspace
from latentdc.recipe import Scorer


@dataclass(frozen=True)
class Runs:
    """How to make and to look through scorers.

    Attributes:
        train: images to score.
        test: shows whether a scorer is any good; chooses nothing.
        scorer: network, weights and training.
        normalization: that the scorer expects.
        seed: of the first training; the others' follow from it.
        window: first and last epoch to record, counted from 1.
        asked: rules wanted beside the free ones.
        workspace: for what has been done.
        accelerator: device, precision and processes.
    """

    train: Dataset
    test: Dataset
    scorer: Scorer
    normalization: Plain
    seed: int
    window: tuple[int, int]
    asked: tuple[str, ...]
    workspace: Workspace
    accelerator: Accelerator

    def given(self, *, features: bool) -> Look:
        """A look through given weights.

        Raises:
            InputError: weights that cannot be had, do not fit, or are at chance.
            RunError: values that are not finite.
        """
        self._require_kind()
        classifier = given_scorer(self.scorer, self.train, self.normalization)
        self._check(classifier)
        saved = self._saved("given", features)
        look = self._look("given", classifier, 1, features, keep=saved is not None)

        def save(rows: int) -> None:
            self.workspace.save("given", {"rows": torch.tensor(rows)})

        start = 0 if saved is None else int(saved["rows"])
        if start < len(self.train):
            look.take(classifier, start=start, after_block=save)
        return look

    def trained(self, run: str, *, rows: Tensor | None = None, features: bool = False) -> Look:
        """A look at the end of every epoch of the window of one training.

        Args:
            run: key of its seed and name of its folder; `run-0` has the recipe's own seed.
            rows: images to train on; None takes all. All are looked at.
            features: whether to keep those of the last epoch.

        Raises:
            InputError: a scorer of other samples, or one that ends at chance.
            RunError: values that are not finite.
        """
        self._require_kind()
        training, (first, last) = self._training(run, rows), self.window
        saved = self._saved(run, features)
        if saved is not None:
            training.restore(saved)
        classifier, keep = training.classifier, saved is not None
        history = self._history(classifier, begun=first <= training.done < last)
        look = self._look(run, classifier, last - first + 1, features, keep, history)
        for epoch in training.run(last):
            if epoch + 1 >= first:
                look.take(classifier, epoch=epoch + 1 - first, last=epoch + 1 == last)
            self.workspace.save(run, training.state())
        self._check(classifier)
        return look

    def _saved(self, run: str, features: bool) -> dict[str, Tensor] | None:
        """What a killed scoring left of a run, unless wanted features are gone from beside it."""
        return self.workspace.load(run, beside=FEATURES if features else None)

    def _require_kind(self) -> None:
        """Refuse a scorer of images for vectors, and the other way round."""
        if pretrained(self.scorer.weights) is None or self.train.kind == "vectors":
            check_network(self.scorer.network, kind=self.train.kind)

    def _training(self, run: str, rows: Tensor | None) -> ScorerTraining:
        scorer = self.scorer
        return ScorerTraining(
            self.train,
            network=scorer.network,
            epochs=scorer.epochs,
            lr=scorer.lr,
            batch=scorer.batch,
            resolution=scorer.resolution or self.train.resolution,
            normalization=self.normalization,
            seed=self.seed if run == "run-0" else key_seed(self.seed, "scorer", run),
            accelerator=self.accelerator,
            rows=rows,
            infobatch=scorer.infobatch,
        )

    def _history(self, classifier: Classifier, *, begun: bool) -> History | None:
        """For rules of change; of a training that goes on, with what it saw last."""
        if not any("change" in RULES[name].inputs for name in self.asked):
            return None
        history = History(len(self.train), self.train.num_classes)
        if begun:
            history.look(classifier, self.train, batch=self._batch, accelerator=self.accelerator)
        return history

    def _look(
        self,
        run: str,
        classifier: Classifier,
        epochs: int,
        features: bool,
        keep: bool,
        history: History | None = None,
    ) -> Look:
        return new_look(
            self.train,
            Quantities(self.asked, history),
            epochs=epochs,
            width=classifier.width if features else 0,
            folder=self.workspace.folder(run),
            keep=keep,
            batch=self._batch,
            accelerator=self.accelerator,
            trained=run != "given",
        )

    @property
    def _batch(self) -> int:
        """Images looked at together."""
        return forward_batch(self.train.images, self.scorer.batch, self.accelerator.device)

    def _check(self, classifier: Classifier) -> None:
        """Print the scorer's accuracy, and refuse one that is at chance."""
        right = accuracy(classifier, self.test, batch=self._batch, accelerator=self.accelerator)
        name = self.scorer.network
        self.accelerator.print(f"scorer {name}: {right:.2%} right on {self.test.name}")
        advice = (
            "train it for more prune.scorer.epochs or with another prune.scorer.lr"
            if self.scorer.weights is None
            else "its class order or its normalisation (prune.scorer.mean, .std) is not the data "
            "set's"
        )
        refuse_chance(right, class_counts(self.test).tolist(), advice)
