"""The classifier that judges realism: the one of `prune.scorer`, trained to the end or given.

Trained on the spot it is the network that scores: on the training images as they are, without
augmentation.
"""

from dataclasses import replace

from accelerate import Accelerator
from tqdm import tqdm

from latentdc.data.dataset import Dataset, class_counts
from latentdc.images import Normalization
from latentdc.prune.scorers import (
    Classifier,
    ScorerTraining,
    given_scorer,
    real_accuracy,
    refuse_chance,
)
from latentdc.recipe import Scorer


def trained_teacher(
    scorer: Scorer,
    train: Dataset,
    test: Dataset,
    normalization: Normalization,
    seed: int,
    accelerator: Accelerator,
) -> tuple[Classifier, float]:
    """The classifier in eval mode on the accelerator's device, and its accuracy on real images.

    Raises:
        InputError: weights that do not fit, or a classifier at chance.
    """
    if scorer.weights is not None:
        expected = Normalization(scorer.mean or normalization.mean, scorer.std or normalization.std)
        size = scorer.resolution or train.resolution  # torchvision's own preparation would crop
        teacher = given_scorer(replace(scorer, resolution=size), train, expected)
        teacher = teacher.to(accelerator.device)
    else:
        training = ScorerTraining(
            train,
            scorer,
            normalization=normalization,
            seed=seed,
            accelerator=accelerator,
        )
        quiet = not accelerator.is_main_process
        for _ in tqdm(training.run(), "teacher", scorer.epochs, unit=" epochs", disable=quiet):
            pass
        teacher = training.classifier
    teacher.eval().requires_grad_(False)
    accuracy = real_accuracy(teacher, test.images, test.labels, accelerator.device)
    advice = "train it for more prune.scorer.epochs, or check class order and normalisation"
    refuse_chance(accuracy, class_counts(test).tolist(), advice)
    return teacher, accuracy
