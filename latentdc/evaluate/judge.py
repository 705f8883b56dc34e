"""A network that knows the real images: one that is there, else a small one, trained and kept."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from latentdc import draws, estimates, io, ranks, runtime
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.setting import Setting
from latentdc.evaluate.teachers import known_accuracy, open_teacher
from latentdc.images import Normalization
from latentdc.networks import build_network
from latentdc.prune.scorer_training import ScorerTraining
from latentdc.prune.scorers import Classifier, given_scorer, preparation
from latentdc.recipe import Data, Scorer
from latentdc.recipe.networks import pretrained
from latentdc.recipe.protocol import EvalProtocol

NETWORK, LARGEST = "convnet3@32", 32  # px
BATCH, LR = 128, 0.02
ROWS, PER_CLASS = 10_000, 20  # real images, at least so many of each class on average
STEPS = 320  # at least, in two epochs or more


def open_judge(
    data: Data, scorer: Scorer, protocols: Sequence[EvalProtocol], train: Dataset, setting: Setting
) -> tuple[str, Classifier] | None:
    """Name and network that name real test images beyond chance; None if none does.

    A teacher of the protocols or the scorer of pruning, where their weights are given; else a
    small network from the cache; else one that is trained now and put there.
    """
    for name, network in _given(data, scorer, protocols, train, setting):
        if _knows(network, setting):
            return name, network
    network = _small(data, train, setting.accelerator)
    return (NETWORK, network) if _knows(network, setting) else None


def _knows(network: Classifier, setting: Setting) -> bool:
    try:
        known_accuracy(network.to(setting.accelerator.device).eval(), setting, "")
    except InputError:
        return False
    return True


def _given(
    data: Data, scorer: Scorer, protocols: Sequence[EvalProtocol], train: Dataset, setting: Setting
) -> list[tuple[str, Classifier]]:
    found = [
        (f"the teacher {teacher.network}", open_teacher(teacher, protocol, setting))
        for protocol in protocols
        for teacher in protocol.labels.teachers
        if teacher.weights is not None
    ]
    if scorer.weights is not None and pretrained(scorer.weights) is None:
        own = Normalization(scorer.mean or data.mean, scorer.std or data.std)
        with suppress(InputError):  # evaluation does not need it
            found.append((f"the scorer {scorer.network}", given_scorer(scorer, train, own)))
    return found


def _small(data: Data, train: Dataset, accelerator: Accelerator) -> Classifier:
    """Trained on a part of the real images at a low resolution, or found from before."""
    size, plain = min(train.resolution, LARGEST), Normalization()
    count = min(len(train), max(ROWS, PER_CLASS * train.num_classes))
    epochs = max(2, -(-STEPS // -(-count // BATCH)))
    content = train.hash
    key = io.fingerprint([content, NETWORK, size, plain.facts(), count, epochs, BATCH, LR])
    path = data.cache_folder / f"judge-{key}.safetensors"
    network = build_network(NETWORK, num_classes=train.num_classes, resolution=size)
    state = runtime.main_alone(accelerator, lambda: _kept(path, network))
    if state is None:
        work = (
            3
            * epochs
            * count
            * estimates.multiply_adds(lambda: network(torch.zeros(1, 3, size, size)))
        )
        ranks.say(
            "note",
            f"{NETWORK} is trained once on {count:,} real images, {epochs} epochs, to see whether "
            f"class numbers fit the images ({estimates.in_work(work)}); kept as {path}.",
        )
        training = ScorerTraining(
            train,
            Scorer(
                network=NETWORK,
                epochs=epochs,
                lr=LR,
                batch=BATCH,
                resolution=size if size < train.resolution else None,
            ),
            normalization=plain,
            seed=0,
            accelerator=accelerator,
            rows=draws.choose(len(train), count, draws.generator(0, "judge")),
        )
        for _ in training.run():
            pass
        trained = training.classifier.network.state_dict()
        state = {key: value.cpu().contiguous() for key, value in trained.items()}
        if accelerator.is_main_process:
            _keep(path, state)
    network.load_state_dict(state)
    return Classifier(network, preparation(size, plain))


def _kept(path: Path, network: nn.Module) -> dict[str, Tensor] | None:
    """Weights from before; None where there are none, or the file is damaged."""
    try:
        state = io.load_tensors(path)
        network.load_state_dict(state)
    except (OSError, ValueError, RuntimeError):
        return None
    return state if all(bool(value.isfinite().all()) for value in state.values()) else None


def _keep(path: Path, state: dict[str, Tensor]) -> None:
    """Whole or not at all; a cache that cannot be written costs the next evaluation a training."""
    try:
        io.save_tensors(path, state)
    except OSError as error:
        ranks.say(
            "warning",
            f"cannot keep {path}: {error.strerror or error}; pass another data.cache=FOLDER.",
        )
