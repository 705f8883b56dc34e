"""The stages of a whole recipe, in their order, and the text of a dry run."""

from collections.abc import Hashable, Mapping, Sequence

from latentdc.cost.evaluation import evaluating
from latentdc.cost.matching import matching_costs
from latentdc.cost.real import followed_experts, opening, real_classifier, scoring
from latentdc.cost.sampling import sampling_costs
from latentdc.cost.stages import SETS, Hardware, Sizes, Stage
from latentdc.data.open import class_count, kept_size
from latentdc.data.vectors import vector_width
from latentdc.estimates import UNKNOWN, aligned, in_bytes, in_work
from latentdc.images import unread_standardization
from latentdc.methods import takes_prior
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.files import WeightsMissing
from latentdc.priors.load import load_prior
from latentdc.recipe import Recipe
from latentdc.recipe.own import is_own


def stages(
    recipe: Recipe, hardware: Hardware | None = None, trained: set[Hashable] | None = None
) -> list[Stage]:
    """What each stage of a run takes, in their order.

    Args:
        recipe: of the run.
        hardware: that it is for.
        trained: of `evaluating`, for a run that shares trainings of real images with others.

    Raises:
        InputError: a prior that does not exist or cannot have the resolution.
    """
    return _counted(recipe, hardware or Hardware(), trained)[0]


def describe(recipe: Recipe, hardware: Hardware | None = None) -> str:
    """Lines of `quantity: value` for the whole recipe.

    Raises:
        InputError: as `stages`.
    """
    hardware = hardware or Hardware()
    found, lines = _counted(recipe, hardware)
    return summary(lines, found, hardware)


def summary(lines: Mapping[str, str], found: Sequence[Stage], hardware: Hardware) -> str:
    """Lines of `quantity: value`: some that are known, one of each stage, and those of all."""
    of_stages = {stage.name: stage.line() for stage in found}
    return aligned({**lines, **of_stages, **_totals(found, hardware)})


def _counted(
    recipe: Recipe, hardware: Hardware, trained: set[Hashable] | None = None
) -> tuple[list[Stage], dict[str, str]]:
    """The stages, and lines about the data, the method and the rows."""
    sizes, lines = sizes_of(recipe)
    prior, classes = _prior(recipe), class_count(recipe.data)
    found: list[Stage] = []
    if sizes is not None:
        asked = [f(recipe, sizes) for f in (opening, scoring, followed_experts, real_classifier)]
        found += [stage for stage in asked if stage is not None]
    known = prior is not None and classes is not None
    if isinstance(prior, DiffusionPrior) and recipe.samples and sizes is not None:
        stage, told = sampling_costs(recipe, prior, sizes, hardware)
        found.append(stage)
        lines |= told
    if prior is not None and classes is not None and recipe.matches:
        stage, told = matching_costs(recipe, prior, classes, hardware)
        found.append(stage)
        lines |= told
    elif not recipe.samples or not known:
        found.append(_other_method(recipe, sizes, known))
    if prior is None and takes_prior(recipe.method.kind):
        lines["prior"] = f"{recipe.prior.weights or recipe.prior.kind}: {UNKNOWN}"
    if sizes is not None:
        after, told = evaluating(recipe, sizes, trained)
        found += after
        lines |= told
    return found, lines


def _other_method(recipe: Recipe, sizes: Sizes | None, known: bool) -> Stage:
    """A method without networks of its own, or one of which nothing is known."""
    kind = recipe.method.kind
    if is_own(kind):
        return Stage("distilling", None, f"what {kind.partition('#')[0]} does is not known")
    if sizes is None or (takes_prior(kind) and not known):
        return Stage("distilling", None, UNKNOWN)
    images = 2 * sizes.classes * recipe.ipc * sizes.values
    return Stage("distilling", 0, f"{kind} has no further networks", {SETS: images})


def sizes_of(recipe: Recipe) -> tuple[Sizes | None, dict[str, str]]:
    """Of the real images, and lines about them; None before a download."""
    data, size = recipe.data, kept_size(recipe.data)
    images = data.kind == "images"
    side = data.resolution if images else vector_width(data)
    shown = f"{side} px" if images else f"vectors of {side:,} values"
    lines = {"data": f"{data.source}, {shown}"}
    if size is None:
        return None, {**lines, "training images": UNKNOWN}
    kept = recipe.prune.expected(size.train, size.classes)
    lines["training images"] = f"{size.train:,} of {size.classes:,} classes"
    lines["core set"] = f"about {kept:,} images"
    values = 3 * side**2 if images else side
    if images:
        lines["decoded images"] = in_bytes((size.train + size.test) * values)
    return Sizes(*size, kept, side, values), lines


def _prior(recipe: Recipe) -> Prior | None:
    """Without weights; None where the method takes none, or a download must show its networks."""
    if not takes_prior(recipe.method.kind):
        return None
    vectors = recipe.data.kind == "vectors"
    unread = unread_standardization(vector_width(recipe.data)) if vectors else None
    try:
        return load_prior(
            recipe.prior,
            resolution=recipe.data.resolution,
            normalization=unread,
            seed=recipe.seed,
            device="meta",
        )
    except WeightsMissing:
        return None


def _totals(found: Sequence[Stage], hardware: Hardware) -> dict[str, str]:
    """Work, disk and memory of all stages, and hours where a rate is given."""
    work = sum(stage.work or 0 for stage in found)
    least = "at least " * (not found or any(stage.work is None for stage in found))
    disk = {what: size for stage in found for what, size in stage.disk.items()}
    largest = max(found, key=lambda stage: stage.memory, default=None)
    processes = hardware.processes
    lines = {
        "total work": f"{least}{work / 1e18:.3g} EMAC"
        + f" ({in_work(work)})" * (work < 1e16)
        + ", a multiply-add being two operations",
        "disk": f"{least}{in_bytes(sum(disk.values()))}"
        + (": " + ", ".join(f"{in_bytes(size)} of {what}" for what, size in disk.items()))
        * bool(disk),
    }
    if largest is not None and largest.memory:
        lines["memory"] = f"{in_bytes(largest.memory)} of each process at most, in {largest.name}"
    if hardware.memory is not None and largest is not None and largest.memory > hardware.memory:
        lines["memory"] += f", more than the {in_bytes(hardware.memory)} of the device"
    if hardware.tflops is not None:
        hours = 2 * work / (hardware.tflops * 1e12 * processes) / 3600
        lines["hours"] = (
            f"{least}{hours:,.3g} at {hardware.tflops:g} TFLOP/s on "
            f"{processes} process{'es' if processes > 1 else ''}, if they never wait"
        )
    return lines
