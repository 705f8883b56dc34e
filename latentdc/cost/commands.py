"""The stages of a whole recipe, in their order, and the text of every command's dry run.

Each `describe` says it in lines of `quantity: value`. Trainings that an earlier run finished, and
that would be reused, are counted, but for a sweep's finished cells and experts that are there.
"""

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, replace

from latentdc import io
from latentdc.cost import networks, scorers
from latentdc.cost.stages import SETS, Counted, Hardware, Sizes, Stage, classifier, student
from latentdc.data.open import class_count, kept_size
from latentdc.data.vectors import vector_width
from latentdc.errors import InputError, counted
from latentdc.estimates import UNKNOWN, aligned, in_bytes, in_work
from latentdc.evaluate.loading import recipe_protocol
from latentdc.experts.files import experts_folder
from latentdc.methods import find_method
from latentdc.preprocessing import unread_standardization
from latentdc.priors.base import Prior
from latentdc.priors.files import WeightsMissing
from latentdc.priors.load import load_prior
from latentdc.prune.scorers import CHECKED
from latentdc.prune.select import class_budgets
from latentdc.recipe import Recipe
from latentdc.recipe.labels import Teacher
from latentdc.recipe.own import is_own
from latentdc.recipe.protocol import EvalProtocol

# What the cells of a sweep do once for all, where it is the same.
_SHARED = ("opening", "scoring", "experts", "snapshots", "classifier", "teachers")
_MORE = ", or keep more (prune.keep)"


def stages(
    recipe: Recipe,
    hardware: Hardware | None = None,
    trained: set[Hashable] | None = None,
    methods: dict[str, Counted] | None = None,
) -> list[Stage]:
    """What each stage of a run takes, in their order.

    `trained` as of `evaluating`, for a run that shares trainings of real images with others;
    `methods` is what was counted of making sets, which runs of other seeds take as well.
    """
    return _counted(recipe, hardware or Hardware(), trained, methods)[0]


def describe(recipe: Recipe, hardware: Hardware | None = None) -> str:
    """Lines of `quantity: value` for the whole recipe."""
    hardware = hardware or Hardware()
    found, lines = _counted(recipe, hardware)
    return summary(lines, found, hardware)


def summary(lines: Mapping[str, str], found: Sequence[Stage], hardware: Hardware) -> str:
    """Lines of `quantity: value`: some that are known, one of each stage, and those of all."""
    of_stages = {stage.name: stage.line() for stage in found}
    return aligned({**lines, **of_stages, **_totals(found, hardware)})


def _counted(
    recipe: Recipe,
    hardware: Hardware,
    trained: set[Hashable] | None = None,
    methods: dict[str, Counted] | None = None,
) -> Counted:
    """The stages, and lines about the data, the method and the rows."""
    sizes, lines = _sizes_of(recipe)
    found: list[Stage] = []
    if sizes is not None:
        before = (networks.opening, scorers.scoring, networks.followed_experts, networks.snapshots)
        asked = (*before, scorers.real_classifier, scorers.classifying)
        found = [one for f in asked if (one := f(recipe, sizes, hardware)) is not None]
    methods = {} if methods is None else methods
    key = io.fingerprint({**asdict(recipe), "seed": None, "output": None})
    if key not in methods:
        methods[key] = _method(recipe, sizes, hardware)
    made, told = methods[key]
    found, lines = [*found, *made], lines | told
    if sizes is not None:
        after, told = networks.evaluating(recipe, sizes, hardware, trained)
        found += after
        lines |= told
    return found, lines


def _method(recipe: Recipe, sizes: Sizes | None, hardware: Hardware) -> Counted:
    """The stages of making a set, and lines about them."""
    prior, classes = _prior(recipe), sizes.classes if sizes else class_count(recipe.data)
    found: list[Stage] = []
    lines = {
        key: f"{name}: not here, and taken for an id on the Hub"
        for key, name in recipe.opened_sets.items()
        if not os.path.exists(name)
    }
    if sizes is not None:
        _require_enough(recipe, sizes)
    known = prior is not None and classes is not None
    if prior is not None and recipe.samples:
        from latentdc.cost.methods import sampling_costs  # importing diffusers takes seconds
        from latentdc.methods.sampled import check_guides
        from latentdc.priors.diffusion import DiffusionPrior

        if isinstance(prior, DiffusionPrior):
            check_guides(prior, recipe.sampling)
            if sizes is not None:
                sampling, told = sampling_costs(recipe, prior, sizes, hardware)
                found += sampling
                lines |= told
    if prior is not None and classes is not None and recipe.matches:
        from latentdc.cost.methods import matching_costs

        matching, told = matching_costs(recipe, prior, classes, hardware)
        found += matching
        lines |= told
    elif not recipe.samples or not known:
        found.append(_other_method(recipe, sizes, known))
    if prior is None and find_method(recipe.method.kind).takes_prior:
        lines["prior"] = f"{recipe.prior.weights or recipe.prior.kind}: {UNKNOWN}"
    return found, lines


def _require_enough(recipe: Recipe, sizes: Sizes) -> None:
    """Refuse what takes more images of each class than there are; runs count them exactly.

    Where only sizes of whole data sets are known, what takes far more.
    """
    if sizes.smallest is not None:
        _require_smallest(recipe, sizes.smallest)
    each, left = recipe.real_images_each, math.ceil(sizes.kept / sizes.classes)
    more = sizes.kept < sizes.train and recipe.prune.coreset is None
    if each > 1.1 * left:  # sizes are known about
        raise InputError(
            f"ipc={recipe.ipc} takes {each} different images of each class, and the core set has "
            f"about {left}; lower ipc{_MORE * more}."
        )


def _require_smallest(recipe: Recipe, there: int) -> None:
    """Refuse what takes more images of a class than the smallest of a folder has."""
    prune, rows = recipe.prune, recipe.evaluate.rows
    budgeted = prune.scope == "class" and prune.coreset is None
    kept = class_budgets([there], prune)[0] if budgeted else there
    from_kept = max(recipe.real_images_each, recipe.ipc if "coreset" in rows else 0)
    for each, most, what in (
        (from_kept, kept, "the smallest class of the core set"),
        (recipe.ipc if "random" in rows else 0, there, "the smallest class"),
    ):
        if each > most:
            raise InputError(
                f"ipc={recipe.ipc} takes {each} different images of each class, and {what} has at "
                f"most {most}; choose a smaller ipc{_MORE * (most < there)}."
            )


def _other_method(recipe: Recipe, sizes: Sizes | None, known: bool) -> Stage:
    """A method without networks of its own, or one of which nothing is known."""
    kind = recipe.method.kind
    if is_own(kind):
        return Stage("distilling", None, f"what {kind.partition('#')[0]} does is not known")
    if sizes is None or (find_method(kind).takes_prior and not known):
        return Stage("distilling", None, UNKNOWN)
    images = 2 * sizes.classes * recipe.ipc * sizes.values
    return Stage("distilling", 0, f"{kind} has no further networks", {SETS: images})


def _sizes_of(recipe: Recipe) -> tuple[Sizes | None, dict[str, str]]:
    """Sizes of the real images, and lines about them; None before a download."""
    data, size = recipe.data, kept_size(recipe.data)
    images = data.kind == "images"
    side = data.resolution if images else vector_width(data)
    shown = f"{side} px" if images else f"vectors of {side:,} values"
    lines = {"data": f"{data.source}, {shown}"}
    if size is None:
        return None, {**lines, "training images": UNKNOWN}
    kept, about = scorers.core_set(recipe.prune, size.train, size.classes)
    lines["training images"] = f"{size.train:,} of {size.classes:,} classes"
    lines["core set"] = about
    values = 3 * side**2 if images else side
    if images:
        lines["decoded images"] = in_bytes((size.train + size.test) * values)
    return Sizes(*size[:3], kept, side, values, size.smallest), lines


def _prior(recipe: Recipe) -> Prior | None:
    """The prior without weights; None where none is used, or a download must show its networks."""
    if not find_method(recipe.method.kind).takes_prior:
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
        busiest = sum(stage.of_one(processes) for stage in found)
        hours = 2 * busiest / (hardware.tflops * 1e12) / 3600
        lines["hours"] = (
            f"{least}{hours:,.3g} at {hardware.tflops:g} TFLOP/s on "
            f"{processes} process{'es' if processes > 1 else ''}, "
            + ("if it never waits" if processes == 1 else "the busiest of which never waits")
        )
    return lines


def _core_set(recipe: Recipe, sizes: Sizes, hardware: Hardware) -> list[Stage]:
    """Opening the images and scoring them."""
    return [f(recipe, sizes, hardware) for f in (networks.opening, scorers.scoring)]


def describe_pruning(recipe: Recipe, hardware: Hardware) -> str:
    """Choosing a core set."""
    sizes, lines = _sizes_of(recipe)
    found = [] if sizes is None else _core_set(recipe, sizes, hardware)
    return summary(lines, found, hardware)


def describe_experts(recipe: Recipe, folder: str, lacking: int, hardware: Hardware) -> str:
    """Training the experts that `folder` lacks, on a core set that is chosen first."""
    sizes, lines = _sizes_of(recipe)
    told = {"folder": folder, "to train": f"{lacking} of {recipe.experts.count} experts"}
    found = []
    if sizes is not None and lacking:
        found = _core_set(recipe, sizes, hardware)
        found.append(networks.experts(recipe, sizes, hardware, count=lacking))
    return summary(told | lines, found, hardware)


def describe_evaluation(
    recipe: Recipe,
    protocols: Sequence[EvalProtocol],
    counts: Mapping[str, int | None],
    rows: Sequence[str],
    hardware: Hardware,
) -> str:
    """Training and testing the students of saved sets and of the rows beside them.

    Each of the `protocols` scores every set; `counts` are the images of each set, None where they
    are not known before it is read.
    """
    sizes, lines = _sizes_of(recipe)
    unread = [name for name, count in counts.items() if count is None]
    found = [] if sizes is None else [networks.opening(recipe, sizes, hardware)]
    for protocol in protocols if sizes is not None else ():
        assert sizes is not None
        once = {row for row in rows if row in ("kept", "full")}  # the same beside every set
        for size in sorted({count for count in counts.values() if count}):
            of = {name: size for name, count in counts.items() if count == size}
            beside = [row for row in rows if row not in ("kept", "full") or row in once]
            of |= {row: {"kept": sizes.kept, "full": sizes.train}.get(row, size) for row in beside}
            once = set()
            after, told = networks.evaluating_rows(protocol, size, of, sizes, hardware)
            suffix = f" {protocol.name}" * (len(protocols) > 1) + f", {size:,} images"
            found += [replace(stage, name=stage.name + suffix) for stage in after]
            lines |= {f"{name}{suffix}": text for name, text in told.items()}
    if unread:
        found.append(
            Stage("evaluating", None, f"images of {', '.join(unread)} are counted as it is read")
        )
    return summary(lines, found, hardware)


def describe_measuring(
    recipe: Recipe,
    protocol: EvalProtocol | None,
    count: int | None,
    network: Teacher | None,
    hardware: Hardware,
    *,
    redundancy: int | None = None,
    others: Sequence[str] = (),
) -> str:
    """Measuring a set and as many random images.

    Args:
        recipe: of the data.
        protocol: of the students of increments; None without `redundancy`.
        count: images of the set; None where they are not known before it is read.
        network: for entropy and diversity.
        hardware: of the run.
        redundancy: images of each class in an increment.
        others: networks of other packages, which are not counted.
    """
    sizes, lines = _sizes_of(recipe)
    found = [Stage(name, None, "the network of another package, not counted") for name in others]
    if sizes is None:
        return summary(lines, found, hardware)
    found.insert(0, networks.opening(recipe, sizes, hardware))
    if network is not None:
        one = classifier(network, sizes.classes, network.resolution or sizes.side)
        trained = 0 if network.weights is not None else network.epochs * sizes.train
        looked = min(CHECKED, sizes.test) + 2 * (count or 0)
        told = f"{network.network} is trained on {trained:,} images and looks at {looked:,}"
        work = trained * one.step + looked * one.forward
        given = network.weights is not None
        memory = 4 * one.weights if given else one.trained(network.batch)
        found.append(Stage("network", work, told, {}, memory))
    if redundancy is not None and count is None:
        found.append(Stage("redundancy", None, "the images of the set are counted as it is read"))
    elif redundancy is not None:
        assert count is not None and protocol is not None
        found.append(_redundancy(protocol, count, redundancy, sizes))
    return summary(lines, found, hardware)


def _redundancy(protocol: EvalProtocol, count: int, each: int, size: Sizes) -> Stage:
    parts, images = count // size.classes // each, each * size.classes
    resolved = protocol.resolve(images, size.classes)
    one = student(protocol.students[0], size.classes, size.side)
    seen = networks.seen_images(resolved, images)
    work = 2 * parts * (seen * one.step + parts * images * one.forward)
    told = f"{2 * parts} students of {images:,} images, of the set and of random ones"
    return Stage("redundancy", work, told, {}, one.trained(min(protocol.batch, images)))


def describe_sweep(
    missing: Sequence[Recipe],
    finished: int,
    wanted: int,
    hardware: Hardware,
    *,
    there: Sequence[Recipe] = (),
) -> str:
    """All runs of a sweep that are missing; students of the same real images are trained once.

    `wanted` are cells, of which several may share a run; `there` are recipes of all finished cells,
    whose trainings of real images are not repeated.
    """
    runs = len(missing) + finished
    each = "each a run of its own" if runs == wanted else f"which share {counted(runs, 'run')}"
    lines = {"cells": f"{wanted}, {each}; {finished} of the runs are finished"}
    if not missing:
        return summary(lines, [Stage("runs", 0, "none is missing")], hardware)
    trained: set[Hashable] = set()
    for recipe in there:
        sizes, _ = _sizes_of(recipe)
        if sizes is not None:
            networks.evaluating(recipe, sizes, hardware, trained)
    by_name: dict[str, list[Stage]] = {}
    methods: dict[str, Counted] = {}
    shared: dict[tuple[str, Hashable], Stage] = {}
    for number, recipe in enumerate(missing):
        for stage in stages(recipe, hardware, trained, methods):
            once = stage.name in _SHARED
            key = stage.name, _decides(recipe, stage) if once else number
            # Of a folder of experts the largest number has the others.
            shared[key] = max(stage, shared.get(key, stage), key=lambda one: one.work or 0)
    for (name, _), stage in shared.items():
        by_name.setdefault(name, []).append(stage)
    found = [_together(name, of, hardware.processes) for name, of in by_name.items()]
    return summary(lines, found, hardware)


def _decides(recipe: Recipe, stage: Stage) -> Hashable:
    """What decides a stage that cells share: they do it once."""
    if stage.name == "experts":
        return experts_folder(recipe.asked_experts)
    data = replace(recipe.data, cache=None)
    if stage.name == "opening":  # which does not normalise
        data = replace(recipe.data, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    facts: tuple[Hashable, ...] = repr(stage), repr(data)
    if stage.name in ("scoring", "classifier"):
        facts = *facts, repr(recipe.prune.scorer)
    if stage.name == "snapshots":  # whose own settings give the numbers of their trainings
        facts = *facts, repr(recipe.prune), repr(replace(recipe.experts, count=1, epochs=1))
    if stage.name == "teachers":
        facts = *facts, repr(recipe_protocol(recipe.evaluate).labels.teachers)
    seeded = recipe.seed if stage.name not in ("opening", "teachers") else None
    return *facts, recipe.precision, seeded


def _together(name: str, of: Sequence[Stage], processes: int) -> Stage:
    """Stages of several runs as one: work and disk are sums, memory is the largest."""
    if len(of) == 1:
        return of[0]
    works = [stage.work for stage in of]
    known = [work for work in works if work is not None]
    disk: dict[str, float] = {}
    for stage in of:
        for what, size in stage.disk.items():
            disk[what] = disk.get(what, 0) + size
    told = f"all {len(of)} of them together"
    if largest := max(stage.memory for stage in of):
        told += ", memory of one"
    if len(known) < len(of):
        told += f", {UNKNOWN} of some"
    work = sum(known) if len(known) == len(of) else None
    busiest = sum(stage.of_one(processes) for stage in of)
    return Stage(name, work, told, disk, largest, busiest=busiest)
