"""What the other commands than `distill` would take, in the same lines.

Each function says it in lines of `quantity: value`. Trainings that an earlier run finished, and
that would be reused, are counted, but for a sweep's finished cells and experts that are there.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from latentdc.cost.evaluation import evaluating, evaluating_rows, seen_images
from latentdc.cost.real import experts, opening, scoring
from latentdc.cost.recipe import sizes_of, stages, summary
from latentdc.cost.stages import TRAINED, Hardware, Sizes, Stage, classifier, student
from latentdc.estimates import UNKNOWN
from latentdc.prune.scorers import CHECKED
from latentdc.recipe import Recipe
from latentdc.recipe.labels import Teacher
from latentdc.recipe.protocol import EvalProtocol

# What the cells of a sweep do once for all, where it is the same.
SHARED = ("opening", "scoring", "experts", "teachers")


def describe_pruning(recipe: Recipe, hardware: Hardware) -> str:
    """Opening the images and scoring them."""
    sizes, lines = sizes_of(recipe)
    found = [] if sizes is None else [opening(recipe, sizes), scoring(recipe, sizes)]
    return summary(lines, found, hardware)


def describe_experts(recipe: Recipe, folder: str, lacking: int, hardware: Hardware) -> str:
    """Training the experts that `folder` lacks, on a core set that is chosen first."""
    sizes, lines = sizes_of(recipe)
    told = {"folder": folder, "to train": f"{lacking} of {recipe.experts.count} experts"}
    found = []
    if sizes is not None and lacking:
        training = experts(recipe, sizes, count=lacking)
        found = [opening(recipe, sizes), scoring(recipe, sizes), training]
    return summary(told | lines, found, hardware)


def describe_evaluation(
    recipe: Recipe,
    protocols: Sequence[EvalProtocol],
    counts: Mapping[str, int | None],
    rows: Sequence[str],
    hardware: Hardware,
) -> str:
    """Training and testing the students of saved sets and of the rows beside them.

    Args:
        recipe: whose data they are tested on.
        protocols: each scores every set.
        counts: images of each set; None where they are not known before the set is read.
        rows: beside the sets.
        hardware: of the run.
    """
    sizes, lines = sizes_of(recipe)
    unread = [name for name, count in counts.items() if count is None]
    found = [] if sizes is None else [opening(recipe, sizes)]
    for protocol in protocols if sizes is not None else ():
        assert sizes is not None
        once = {row for row in rows if row in ("kept", "full")}  # the same beside every set
        for size in sorted({count for count in counts.values() if count}):
            of = {name: size for name, count in counts.items() if count == size}
            beside = [row for row in rows if row not in ("kept", "full") or row in once]
            of |= {row: {"kept": sizes.kept, "full": sizes.train}.get(row, size) for row in beside}
            once = set()
            after, told = evaluating_rows(protocol, size, of, sizes)
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
    protocol: EvalProtocol,
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
        protocol: of the students of increments.
        count: images of the set; None where they are not known before it is read.
        network: for entropy and diversity.
        hardware: of the run.
        redundancy: images of each class in an increment.
        others: networks of other packages, which are not counted.
    """
    sizes, lines = sizes_of(recipe)
    found = [Stage(name, None, "the network of another package, not counted") for name in others]
    if sizes is None:
        return summary(lines, found, hardware)
    found.insert(0, opening(recipe, sizes))
    if network is not None:
        one = classifier(network, sizes.classes, network.resolution or sizes.side)
        trained = 0 if network.weights is not None else network.epochs * sizes.train
        looked = min(CHECKED, sizes.test) + 2 * (count or 0)
        told = f"{network.network} is trained on {trained:,} images and looks at {looked:,}"
        work = (TRAINED * trained + looked) * one.forward
        found.append(Stage("network", work, told, {}, one.trained(network.batch)))
    if redundancy is not None and count is None:
        found.append(Stage("redundancy", None, "the images of the set are counted as it is read"))
    elif redundancy is not None:
        assert count is not None
        found.append(_redundancy(protocol, count, redundancy, sizes))
    return summary(lines, found, hardware)


def _redundancy(protocol: EvalProtocol, count: int, each: int, size: Sizes) -> Stage:
    parts, images = count // size.classes // each, each * size.classes
    resolved = protocol.resolve(images, size.classes)
    one = student(protocol.students[0], size.classes, size.side)
    seen = seen_images(resolved, images)
    work = 2 * parts * (TRAINED * seen + parts * images) * one.forward
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

    Args:
        missing: recipe of each run.
        finished: runs that are there.
        wanted: cells, of which several may share a run.
        hardware: of the runs.
        there: recipes of all finished cells, whose trainings of real images are not repeated.
    """
    lines = {
        "cells": f"{wanted}, which are {len(missing) + finished} runs; "
        f"{finished} of them are finished"
    }
    if not missing:
        return summary(lines, [Stage("runs", 0, "none is missing")], hardware)
    trained: set[Hashable] = set()
    for recipe in there:
        sizes, _ = sizes_of(recipe)
        if sizes is not None:
            evaluating(recipe, sizes, trained)
    by_name: dict[str, list[Stage]] = {}
    for recipe in missing:
        for stage in stages(recipe, hardware, trained):
            of = by_name.setdefault(stage.name, [])
            if stage.name not in SHARED or stage not in of:
                of.append(stage)
    return summary(lines, [_together(name, of) for name, of in by_name.items()], hardware)


def _together(name: str, of: Sequence[Stage]) -> Stage:
    """Stages of several runs as one, which says how many they are."""
    if len(of) == 1:
        return of[0]
    works = [stage.work for stage in of]
    known = [work for work in works if work is not None]
    disk: dict[str, float] = {}
    for stage in of:
        for what, size in stage.disk.items():
            disk[what] = disk.get(what, 0) + size
    told = f"{len(of)} times" if len(known) == len(of) else f"{len(of)} times, {UNKNOWN} of some"
    work = sum(known) if len(known) == len(of) else None
    return Stage(name, work, told, disk, max(stage.memory for stage in of))
