"""What scores and classifiers of real images take, and what is kept of them on the disk."""

from dataclasses import replace

from latentdc.cost.stages import (
    Hardware,
    Shared,
    Sizes,
    Stage,
    Student,
    classifier,
    shared_training,
)
from latentdc.errors import counted
from latentdc.prune.coreset import Coreset
from latentdc.prune.measures import Measures
from latentdc.prune.score import PASSES
from latentdc.prune.scorers import CHECKED
from latentdc.recipe import Prune, Recipe, Scorer
from latentdc.recipe.networks import pretrained
from latentdc.recipe.own import is_own
from latentdc.recipe.rules import RULES


def core_set(prune: Prune, images: int, classes: int) -> tuple[int, str]:
    """How many of so many images are kept, and words for it."""
    if prune.coreset is not None:
        kept = len(Coreset.load(prune.coreset))
        return kept, counted(kept, "image")
    kept = prune.expected(images, classes)
    return kept, f"about {kept:,} images"


def scoring(recipe: Recipe, size: Sizes, hardware: Hardware) -> Stage:
    """The scores that the core set is chosen by."""
    prune, scorer = recipe.prune, recipe.prune.scorer
    given = {"prune.coreset": prune.coreset, "prune.scores": prune.scores}
    for key, file in given.items():
        if file is not None:
            return Stage("scoring", 0, f"{key} is given")
    if prune.keeps_all and not prune.columns:
        return Stage("scoring", 0, "all images are kept")
    columns = prune.asked_rules
    stages = {RULES[name].stage for name in columns}
    features = prune.features is None and recipe.data.kind == "images"
    passes = bool(stages & PASSES) or (features and any(RULES[n].needs_features for n in columns))
    if not passes and "subsets" not in stages:
        return Stage("scoring", 0, "no network is asked")
    network, kept = _scorer(scorer, size), _kept(recipe, columns, size, passes=passes)
    if scorer.weights is not None:
        seen = size.train + size.test
        told = f"{seen:,} images through {scorer.network}"
        return Stage("scoring", seen * network.forward, told, kept, 4 * network.weights)
    first, last = prune.window or (1, scorer.epochs)
    runs = scorer.runs * passes
    trained = runs * last * size.train
    looked = runs * ((last - first + 1) * size.train + size.test)
    if "subsets" in stages:  # each without another part, looked at once
        count = prune.rules.subsets
        trained += (count - 1) * last * size.train
        looked += count * (size.train + size.test)
    training, shared, memory = _training(scorer, size, hardware, trained)
    looking = looked * network.forward
    return Stage(
        "scoring",
        training + looking,
        f"{scorer.network} is trained on {trained:,} images and looks at {looked:,}{shared.told}",
        kept,
        memory,
        busiest=shared.busiest(training, looking, hardware.processes),
    )


def _kept(recipe: Recipe, columns: set[str], size: Sizes, *, passes: bool) -> dict[str, float]:
    """Bytes by what they hold: scores, features, and the records of a scoring until it ends."""
    prune, scorer = recipe.prune, recipe.prune.scorer
    measures = Measures(sorted(columns), 0, size.classes)
    trained = scorer.weights is None
    records = {name for name, rule in RULES.items() if rule.stage == "records" and rule.free}
    every = columns | ({*measures.names} - {"logit_margin", "change"} if passes else set())
    every |= records if passes and trained else set()
    each = 3 * 8 + 4 * len(every)  # index, hash and label
    found: dict[str, float] = {"scores": size.train * each}
    kind = recipe.data.kind == "images"
    if kind and prune.features is None and any(RULES[name].needs_features for name in columns):
        found["features"] = 2 * size.train * _scorer(scorer, size).features
    first, last = prune.window or (1, scorer.epochs)
    runs, subsets = passes * (scorer.runs if trained else 1), prune.rules.subsets
    subsets *= any(RULES[name].stage == "subsets" for name in columns)
    epochs = runs * (last - first + 1 if trained else 1) + subsets
    each = 4 + 2 * (len(measures.averaged) - 1)  # losses in float32, other averages in half of it
    ends = 4 * len(measures.last) * (runs + subsets)
    if epochs:
        found["records until all is scored"] = size.train * (epochs * each + ends)
    return found


def _scorer(scorer: Scorer, size: Sizes, *, whole: bool = False) -> Student:
    """The network of a scorer; `whole` shows it all of an image, not what its weights are for."""
    side = scorer.resolution
    if side is None and (whole or pretrained(scorer.weights) is None):
        side = size.side
    return classifier(scorer, size.classes, side)


def real_classifier(recipe: Recipe, size: Sizes, hardware: Hardware) -> Stage | None:
    """The classifier of real images that a method asks, trained or given; None where none is."""
    scorer = recipe.prune.scorer
    if is_own(recipe.method.kind) or not recipe.asks_classifier:
        return None
    network = _scorer(scorer, size, whole=True)
    tried = min(CHECKED, size.test)
    told, checking = f"{tried:,} images through {scorer.network}", tried * network.forward
    if scorer.weights is not None:
        return Stage("classifier", checking, told, memory=4 * network.weights, busiest=checking)
    seen = scorer.epochs * size.train
    training, shared, memory = _training(scorer, size, hardware, seen)
    return Stage(
        "classifier",
        training + checking,
        f"{told}, which is trained on {seen:,}{shared.told}",
        disk={"classifiers": 4 * network.weights},
        memory=memory,
        busiest=shared.busiest(training, checking, 1),  # all processes try it on all
    )


def classifying(recipe: Recipe, size: Sizes, hardware: Hardware) -> Stage | None:
    """What a method asks that classifier and a student of an earlier set; None where nothing.

    What they are asked by sampling counts there.
    """
    kind, scorer, choice = recipe.method.kind, recipe.prune.scorer, recipe.selection.select
    asked, pooled = 0, ""
    learns = recipe.samples and recipe.sampling.learns
    if kind == "rded":
        pool = min(recipe.rded.pool, -(-size.train // size.classes))
        asked = size.classes * pool * recipe.rded.crops
    elif kind == "selection" and recipe.asks_classifier:
        learns = choice.kind == "learnability"
        asked = size.kept * (1 + (recipe.selection.pool is None) * (1 + learns))
        pooled = ", those of a pool not counted" * (recipe.selection.pool is not None)
    if not (asked or learns):
        return None
    training, shared, memory, asking = 0.0, Shared("", 1), 0.0, 0.0
    if asked:
        network = _scorer(scorer, size, whole=True)
        memory, asking = 4.0 * network.weights, asked * network.forward
    told = f"{asked:,} images through {scorer.network}{pooled}"
    if learns:
        training, shared, trained = _training(scorer, size, hardware, scorer.epochs * size.train)
        memory = max(memory, trained)
        told += f", a student of which is trained as long as on all images{shared.told}"
    return Stage(
        "classifying",
        training + asking,
        told,
        memory=memory,
        busiest=shared.busiest(training, asking, 1),  # all processes ask for all
    )


def _training(
    scorer: Scorer, size: Sizes, hardware: Hardware, images: int
) -> tuple[float, Shared, float]:
    """Multiply-adds of training a scorer anew on so many images, how it is shared, its memory."""
    network = _scorer(replace(scorer, weights=None), size)
    side, infobatch = scorer.resolution or size.side, scorer.infobatch is not None
    shared = shared_training(
        scorer.network, side, scorer.batch, size, hardware, undivided=infobatch
    )
    memory = network.trained(scorer.batch, divided=shared.divided)
    return images * network.step, shared, memory
