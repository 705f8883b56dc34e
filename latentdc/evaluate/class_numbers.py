"""Whether the class numbers of foreign sets fit their images, before students are trained on them.

A classifier of the real images (see `open_classifier`) names some images of each set. Under the
right reading of the numbers it names more of them as they are labelled than under a wrong one, as
far as the images look real. Soft labels are left alone: they say more than a class.

Two readings are compared by sign tests, as paired data are: what both name rightly or wrongly says
nothing, and of the rest half would speak for each, were they equally good. Images of one class are
alike, so the classes are counted first, each for the reading under which more of its images are
named rightly. The other reading is *clearly better* if that many votes for it have a probability
below `_SURE`; or, for readings that differ in a few classes, if more than half of these vote for it
and as many single images have such a probability.

A reading is *beyond chance* if, with a probability below `_SURE`, a network that always says the
largest class, or one that says any class of each class, would do as well: by images, and by
classes for which the right name is the commonest, unless these are more than half.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from latentdc import draws, estimates, io, ranks, runtime
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate.setting import Setting, require_comparable
from latentdc.evaluate.teachers import known_accuracy, open_teacher
from latentdc.images import fetch
from latentdc.networks import build_network
from latentdc.preprocessing import Normalization
from latentdc.prune.scorer_training import ScorerTraining
from latentdc.prune.scorers import AT_ONCE, Classifier, given_scorer, preparation
from latentdc.recipe import Data, Scorer
from latentdc.recipe.networks import pretrained
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.foreign.naming import Read
from latentdc.synthetic.foreign.numbers import Numbering, classes_advice
from latentdc.synthetic.synthetic_set import SyntheticSet

_LOOKED_AT = 2000  # images of a set, drawn by key
_SURE = 0.01

# The small network that is trained where no other is there.
_NETWORK, _LARGEST = "convnet3@32", 32  # px
_TRAIN_BATCH, _LR = 128, 0.02
_ROWS, _PER_CLASS = 10_000, 20  # real images, at least so many of each class on average
STEPS = 320  # at least, in two epochs or more

NamedClassifier = tuple[str, Classifier]  # what messages call it, and the network


def check_numbers(
    sets: Mapping[str, Read], setting: Setting, classifier: Callable[[], NamedClassifier | None]
) -> None:
    """Refuse sets whose images fit another reading of their class numbers clearly better.

    Sets without numbers are passed over. The classifier is called where it is needed, and gives
    None where there is no good one. Where the user has said what the numbers are, another reading
    is a warning.
    """
    numbered = {
        name: (one, numbering)
        for name, (one, numbering) in sets.items()
        if numbering is not None and one.soft_labels is None
    }
    for name, (one, _) in numbered.items():
        require_comparable(one, setting.test, name)
    if not numbered:
        return
    known = classifier()
    if known is None:
        ranks.say(
            "warning",
            f"whether the class numbers of {', '.join(numbered)} fit the images cannot be told: no "
            "network that is here names the real test images beyond chance.",
        )
        return
    for name, (one, numbering) in numbered.items():
        _check(name, one, numbering, known, setting.accelerator.device)


def _check(
    name: str, one: SyntheticSet, numbering: Numbering, known: NamedClassifier, device: torch.device
) -> None:
    called, network = known
    rows = draws.choose(len(one.labels), _LOOKED_AT, draws.generator(0, "numbers"))
    labels, named = one.labels[rows], _named(one, rows, network, device)
    classes, hits = len(one.class_names), right(named, labels)
    tables = {what: torch.tensor(other) for what, other in numbering.others.items()}
    better = {what: t for what, t in tables.items() if clearly_better(named, labels, t)}
    found = f"{called} names {hits:,} of {len(rows):,} images of {name} as their class numbers do"
    if better:
        what = max(better, key=lambda w: right(named, better[w][labels]))
        text = (
            f"{found}, read as {numbering.what}, and {right(named, better[what][labels]):,} if the "
            f"numbers are {what}"
        )
        if not numbering.given:
            raise InputError(
                f"{text}. For that say {numbering.advice[what]}; to keep the reading, "
                f"--numbers {_plain(numbering.what)}."
            )
        ranks.say("warning", f"{text}; they are read as was said.")
        return
    if (order := exchanged(named, labels, classes)) is not None:
        moved = (order != torch.arange(classes)).nonzero().flatten().tolist()
        pairs = ", ".join(f"{one.class_names[k]} as {one.class_names[order[k]]}" for k in moved[:3])
        text = (
            f"{found}; it mostly names {pairs}{', ...' if len(moved) > 3 else ''}, as if the "
            "numbers counted the classes in another order: compare with the set's class list "
            f"({classes_advice([one.class_names[k] for k in order])})"
        )
        if not numbering.given and mostly_exchanged(order, labels):
            raise InputError(f"{text}; to keep the reading, --numbers {_plain(numbering.what)}.")
        ranks.say("warning", f"{text}.")
    elif not beyond_chance(named, labels, classes):
        best = max(tables, key=lambda w: right(named, tables[w][labels]), default="")
        most = right(named, tables[best][labels]) if best else 0
        others = f" (the best, {best}: {most:,})" if most > hits else ""
        ranks.say(
            "warning",
            f"{found}, which is not beyond chance ({1 / classes:.1%}), and no other reading that "
            f"is known fits clearly better{others}: the classes may stand in another order "
            "(data.classes), or the images do not look real.",
        )


def _plain(what: str) -> str:
    return what if what == "names" else "positions"


@torch.no_grad()
def _named(one: SyntheticSet, rows: Tensor, network: Classifier, device: torch.device) -> Tensor:
    """(n,) classes that the network names."""
    network.to(device).eval()
    parts = [network(fetch(one.images, some, device)).argmax(dim=1) for some in rows.split(AT_ONCE)]
    return torch.cat(parts).cpu()


def right(named: Tensor, labels: Tensor) -> int:
    """Images that are named as they are labelled."""
    return int((named == labels).sum())


def clearly_better(named: Tensor, labels: Tensor, other: Tensor) -> bool:
    """Whether `other` fits the classes `named` (N,) clearly better than the labels (N,) do.

    `other` (C,) is the class that another reading gives to each class.
    """
    for_other = (named == other[labels]).long()
    against = (named == labels).long()
    balance = for_other - against  # of each image
    by_class = torch.zeros(len(other), dtype=torch.long).index_add(0, labels, balance).sign()
    votes, disputed = int((by_class > 0).sum()), int((other != torch.arange(len(other))).sum())
    if _tail(votes, int(by_class.abs().sum()), 0.5) < _SURE:
        return True
    images = _tail(int((balance > 0).sum()), int(balance.abs().sum()), 0.5)
    return 2 * votes > disputed and images < _SURE


def beyond_chance(named: Tensor, labels: Tensor, classes: int) -> bool:
    """Whether more images and classes are named as they are labelled than chance would have it."""
    hits, counts = right(named, labels), labels.bincount(minlength=classes)
    if hits == len(labels):
        return True
    most = int(counts.max()) / len(labels)
    found = int((_commonest(named, labels, classes) == torch.arange(classes)).sum())
    seen = int((counts > 0).sum())
    by_class = 2 * found > seen or _tail(found, seen, 1 / classes) < _SURE
    return by_class and _tail(hits, len(labels), most) < _SURE


def exchanged(named: Tensor, labels: Tensor, classes: int) -> Tensor | None:
    """(C,) the commonest name of each class, if these are the classes in another order.

    None where they are not, or where that order is not clearly better.
    """
    commonest, order = _commonest(named, labels, classes), torch.arange(classes)
    if not torch.equal(commonest.sort().values, order) or torch.equal(commonest, order):
        return None
    return commonest if clearly_better(named, labels, commonest) else None


def mostly_exchanged(order: Tensor, labels: Tensor) -> bool:
    """Whether an order moves more than half of the classes, seen in two images of each or more."""
    classes = len(order)
    return 2 * int((order != torch.arange(classes)).sum()) > classes <= len(labels) / 2


def _commonest(named: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C,) the name that most images of each class have, the lower of equals; -1 without any."""
    found = torch.full((classes,), -1)
    pairs = Counter(zip(labels.tolist(), named.tolist(), strict=True))
    for (label, name), _ in sorted(pairs.items(), key=lambda pair: (pair[1], -pair[0][1])):
        found[label] = name  # the last one stays
    return found


def _tail(hits: int, trials: int, share: float) -> float:
    """Probability of at least so many hits, by chance."""
    from scipy.stats import binom  # type: ignore[import-untyped]  # comes with scikit-learn

    return float(binom.sf(hits - 1, trials, share)) if trials else 1.0


# ---- The classifier that tells: one that is there, else a small one, trained and kept ----


def open_classifier(
    data: Data, scorer: Scorer, protocols: Sequence[EvalProtocol], train: Dataset, setting: Setting
) -> NamedClassifier | None:
    """Name and network that name real test images beyond chance; None if none does.

    A teacher of the protocols or the scorer of pruning, where their weights are given; else a
    small network from the cache; else one that is trained now and put there.
    """
    for name, network in _given(data, scorer, protocols, train, setting):
        if _knows(network, setting):
            return name, network
    network = _small(data, train, setting.accelerator)
    return (_NETWORK, network) if _knows(network, setting) else None


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
    size, plain = min(train.resolution, _LARGEST), Normalization()
    count = min(len(train), max(_ROWS, _PER_CLASS * train.num_classes))
    epochs = max(2, -(-STEPS // -(-count // _TRAIN_BATCH)))
    content = train.hash
    key = io.fingerprint([content, _NETWORK, size, plain.facts(), count, epochs, _TRAIN_BATCH, _LR])
    path = data.cache_folder / f"judge-{key}.safetensors"
    network = build_network(_NETWORK, num_classes=train.num_classes, resolution=size)
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
            f"{_NETWORK} is trained once on {count:,} real images, {epochs} epochs, to see whether "
            f"class numbers fit the images ({estimates.in_work(work)}); kept as {path}.",
        )
        training = ScorerTraining(
            train,
            Scorer(
                network=_NETWORK,
                epochs=epochs,
                lr=_LR,
                batch=_TRAIN_BATCH,
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
    """Write weights, whole or not at all; without them the next evaluation trains again."""
    try:
        io.save_tensors(path, state)
    except OSError as error:
        ranks.say(
            "warning",
            f"cannot keep {path}: {error.strerror or error}; pass another data.cache=FOLDER.",
        )
