"""What looking at the real images takes: opening, scoring, a classifier of them, experts."""

from latentdc.cost.stages import TRAINED, Sizes, Stage, Student, classifier, student
from latentdc.experts.training import expert_bytes
from latentdc.prune.score import PASSES, base_of
from latentdc.prune.scorers import CHECKED
from latentdc.recipe import Recipe, Scorer
from latentdc.recipe.own import is_own
from latentdc.recipe.rules import RULES


def opening(recipe: Recipe, size: Sizes) -> Stage:
    """Decoding the images of both splits, and whitening them."""
    images, values = size.train + size.test, size.values
    if recipe.data.kind == "vectors":
        return Stage("opening", 0, f"{images:,} vectors are read")
    work = size.train * values**2 + values**3 if recipe.data.zca else 0
    whitening = ", and whitened" if recipe.data.zca else ""
    return Stage(
        "opening",
        work,
        f"{images:,} images are decoded once, without a network{whitening}",
        disk={"decoded images": images * values},
    )


def scoring(recipe: Recipe, size: Sizes) -> Stage:
    """The scores that the core set is chosen by."""
    prune, scorer = recipe.prune, recipe.prune.scorer
    given = {"prune.coreset": prune.coreset, "prune.scores": prune.scores}
    for key, file in given.items():
        if file is not None:
            return Stage("scoring", 0, f"{key} is given")
    if prune.keeps_all and not prune.columns:
        return Stage("scoring", 0, "all images are kept")
    columns = _columns(recipe)
    stages = {RULES[name].stage for name in columns}
    features = prune.features is None and recipe.data.kind == "images"
    passes = bool(stages & PASSES) or (features and any(RULES[n].needs_features for n in columns))
    if not passes and "subsets" not in stages:
        return Stage("scoring", 0, "no network is asked")
    network = _scorer(recipe, scorer, size)
    kept = 4 * size.train * (4 + len(columns))  # hash, label and a float32 of each column
    if scorer.weights is not None:
        seen = size.train + size.test
        told = f"{seen:,} images through {scorer.network}"
        return Stage("scoring", seen * network.forward, told, {"scores": kept}, 4 * network.weights)
    first, last = prune.window or (1, scorer.epochs)
    runs = scorer.runs * passes
    trained = runs * last * size.train
    looked = runs * ((last - first + 1) * size.train + size.test)
    if "subsets" in stages:  # each without another part, looked at once
        count = prune.rules.subsets
        trained += (count - 1) * last * size.train
        looked += count * (size.train + size.test)
    return Stage(
        "scoring",
        (TRAINED * trained + looked) * network.forward,
        f"{scorer.network} is trained on {trained:,} images and looks at {looked:,}",
        {"scores": kept},
        network.trained(scorer.batch),
    )


def _columns(recipe: Recipe) -> set[str]:
    """Rules that are asked for, and those that they rank by."""
    named = {recipe.prune.score, *recipe.prune.columns}
    bases = {base_of(name, recipe.prune.rules) for name in named}
    return named | {name for name in bases if name is not None}


def _scorer(recipe: Recipe, scorer: Scorer, size: Sizes, *, whole: bool = False) -> Student:
    """The network of a scorer; `whole` shows it all of an image, not what its weights are for."""
    side = scorer.resolution
    if side is None and (whole or scorer.weights is None or not scorer.weights.startswith("torch")):
        side = size.side
    return classifier(scorer, size.classes, side)


def real_classifier(recipe: Recipe, size: Sizes) -> Stage | None:
    """The classifier of real images that a method asks, trained or given; None where none is.

    What it is asked by sampling counts there.
    """
    kind, scorer, asked = recipe.method.kind, recipe.prune.scorer, 0
    if is_own(kind) or not _asks_classifier(recipe):
        return None
    name = "classifying"
    if kind == "rded":
        pool = min(recipe.rded.pool, -(-size.train // size.classes))
        asked = size.classes * pool * recipe.rded.crops
    elif kind == "selection":
        asked = size.train
    network = _scorer(recipe, scorer, size, whole=True)
    tried = min(CHECKED, size.test)
    told = f"{asked + tried:,} images through {scorer.network}"
    if kind == "selection":
        told += ", those of a pool not counted"
    trained = 0
    if scorer.weights is None:
        learns = 2 if recipe.samples and "learnability" in recipe.sampling.guides else 1
        learns += kind == "selection" and recipe.selection.select.kind == "learnability"
        trained = learns * scorer.epochs * size.train
        told += f", which is trained on {trained:,}"
    return Stage(
        name,
        (TRAINED * trained + asked + tried) * network.forward,
        told,
        memory=network.trained(scorer.batch) if trained else 4 * network.weights,
    )


def _asks_classifier(recipe: Recipe) -> bool:
    if recipe.samples:
        guides = {"learnability", "entropy"} & {*recipe.sampling.guides}
        return bool(guides) or recipe.sampling.choice.needs_classifier
    if recipe.method.kind == "selection":
        return recipe.selection.select.kind not in (None, "random")
    return recipe.method.kind == "rded"


def followed_experts(recipe: Recipe, size: Sizes) -> Stage | None:
    """The experts that trajectory matching follows, on the core set; None without."""
    return experts(recipe, size, recipe.experts.count) if recipe.follows_experts else None


def experts(recipe: Recipe, size: Sizes, count: int) -> Stage:
    """So many experts."""
    settings, network = recipe.experts, recipe.objective.network
    one = student(network, size.classes, size.side)
    each = expert_bytes(settings, network, size.classes, size.side)
    return Stage(
        "experts",
        TRAINED * one.forward * size.kept * settings.epochs * count,
        f"{count} of {network} in {settings.epochs} epochs on {size.kept:,} images, by "
        "latentdc experts, unless they are there",
        disk={"experts": count * each},
        memory=one.trained(settings.batch),
    )
