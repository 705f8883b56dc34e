"""What the evaluation takes: every row, student and seed, and the teachers of soft labels."""

import math
from collections.abc import Hashable, Mapping

import torch

from latentdc.cost.stages import TRAINED, Sizes, Stage, classifier, student
from latentdc.estimates import in_work
from latentdc.evaluate import label_store, loading, soft_labels
from latentdc.prune.scorers import CHECKED
from latentdc.recipe import BASELINES, Recipe
from latentdc.recipe.labels import Labels
from latentdc.recipe.protocol import EvalProtocol

DRAWN = ("random", "coreset")  # rows with other images for each seed


def evaluating(
    recipe: Recipe, size: Sizes, trained: set[Hashable] | None = None
) -> tuple[list[Stage], dict[str, str]]:
    """`evaluating_rows` of a recipe's own rows and protocol, less the trainings that are there.

    Args:
        recipe: whose rows they are.
        size: of the real data.
        trained: what trainings of real images depend on that other runs beside this one do, and to
            which those of this one are added: each is done once. None knows of no others.
    """
    rows, images = recipe.evaluate.rows, size.classes * recipe.ipc
    if not rows:
        return [], {"rows": "none are evaluated"}
    of_row = {"kept": size.kept, "full": size.train}
    counts: dict[str, int] = {row: of_row.get(row, images) for row in rows}
    protocol = loading.recipe_protocol(recipe.evaluate)
    seeds: dict[tuple[str, str], int] = {
        (row, name): protocol.seeds for row in rows for name in protocol.students
    }
    trained = set() if trained is None else trained
    decided = protocol.resolve(images, size.classes).hash
    for row in (row for row in rows if row in BASELINES):
        facts = (*_real_images(recipe, row), repr(recipe.data), recipe.precision, decided)
        for name in protocol.students:
            wanted: set[Hashable] = {(*facts, name, seed) for seed in range(protocol.seeds)}
            seeds[row, name] = len(wanted - trained)
            trained |= wanted
    return evaluating_rows(protocol, images, counts, size, seeds)


def _real_images(recipe: Recipe, row: str) -> tuple[Hashable, ...]:
    """What decides the images of a baseline beside the data."""
    everything = recipe.prune.keeps_all and recipe.prune.coreset is None
    if everything and not recipe.follows_experts:
        row = {"coreset": "random", "kept": "full"}.get(row, row)
    ipc = recipe.ipc if row in DRAWN else None
    if row not in ("coreset", "kept"):
        return row, ipc
    experts = repr(recipe.experts) if recipe.follows_experts else None
    return row, ipc, repr(recipe.prune), recipe.seed, experts


def evaluating_rows(
    protocol: EvalProtocol,
    images: int,
    counts: dict[str, int],
    size: Sizes,
    seeds: Mapping[tuple[str, str], int] | None = None,
) -> tuple[list[Stage], dict[str, str]]:
    """A stage of each student over all rows, those of teachers before them, and a line of rows.

    Args:
        protocol: of the trainings.
        images: of the sets that it is scaled by.
        counts: images of each row.
        size: of the real data.
        seeds: trainings of each row and student; None takes all of the protocol's.
    """
    protocol = protocol.resolve(images, size.classes)
    every = {(row, name): protocol.seeds for row in counts for name in protocol.students}
    seeds = every if seeds is None else seeds
    trained = {row: n for row, n in counts.items() if any(seeds[row, s] for s in protocol.students)}
    stages, labelling = _labelling(protocol, trained, size) if trained else ([], 0.0)
    row_work = dict.fromkeys(counts, 0.0)
    for name in protocol.students:
        network, each = student(name, size.classes, size.side), []
        rows = {row: count for row, count in counts.items() if seeds[row, name]}
        if not rows:
            continue
        for row, count in rows.items():
            seen = seen_images(protocol, count)
            work = TRAINED * seen * network.forward + size.test * network.forward
            work += labelling * (seen if protocol.labels.source == "online" else count)
            row_work[row] += seeds[row, name] * work
            each.append(seeds[row, name] * work)
        least, most = (f(seen_images(protocol, n) for n in rows.values()) for f in (min, max))
        seen_by = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        batch = min(protocol.batch, max(rows.values()))
        stages.append(
            Stage(
                f"evaluating {name}",
                sum(each),
                f"{max(seeds[row, name] for row in rows)} seeds of {len(rows)} rows, each trained "
                f"on {seen_by} images and tested on {size.test:,}",
                memory=network.trained(batch, optimizer=protocol.optimizer),
            )
        )
    told = ", ".join(f"{row} {in_work(work)}" for row, work in row_work.items())
    return stages, {"rows": f"{told}, protocol {protocol.name}"}


def seen_images(protocol: EvalProtocol, count: int) -> int:
    """How many images a training on `count` of them sees, its budget in steps and last batches."""
    assert protocol.steps is not None, "resolve() turns epochs into steps"
    epoch = protocol.seen(count)
    batch = min(protocol.batch, epoch)
    epochs, steps = divmod(protocol.steps, math.ceil(epoch / batch))
    return epochs * epoch + steps * batch


def _labelling(
    protocol: EvalProtocol, counts: dict[str, int], size: Sizes
) -> tuple[list[Stage], float]:
    """Stages of the teachers, and what they take for one image that a training asks them."""
    labels = protocol.labels
    if labels.source == "hard":
        return [], 0
    work, forward, memory = 0.0, 0.0, 0.0
    for teacher in labels.teachers:
        network = classifier(teacher, size.classes, teacher.resolution or size.side)
        forward += network.forward
        if teacher.weights is None:
            work += TRAINED * teacher.epochs * size.train * network.forward
            memory = max(memory, network.trained(teacher.batch))
    work += min(CHECKED, size.test) * forward
    named = ", ".join(teacher.network for teacher in labels.teachers)
    stages = [Stage("teachers", work, f"{named}, trained where they have no weights", {}, memory)]
    if labels.source != "stored":
        asked = protocol.views.change or labels.source == "fixed"
        return stages, forward * asked
    views = sum(
        (protocol.seeds if row in DRAWN else 1) * soft_labels.stored_epochs(protocol, count) * count
        for row, count in counts.items()
    )
    disk = {"soft labels": views * _label_bytes(labels, size.classes)}
    return [*stages, Stage("labelling", views * forward, f"{views:,} views", disk)], 0


def _label_bytes(labels: Labels, classes: int) -> int:
    """Bytes of one stored label."""
    coded = label_store.encode(torch.zeros(1, classes), labels.precision, labels.top)
    return sum(tensor.nbytes for tensor in coded.values())
