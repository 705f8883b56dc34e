"""What opening takes, and the networks of experts, students and teachers."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from latentdc.cost.stages import (
    Counted,
    Hardware,
    Sizes,
    Stage,
    Student,
    classifier,
    shared_training,
    student,
)
from latentdc.errors import counted
from latentdc.estimates import in_work
from latentdc.evaluate import label_store, loading, soft_labels
from latentdc.experts.training import divides_experts, expert_bytes
from latentdc.prune.scorers import CHECKED
from latentdc.recipe import BASELINES, Experts, Recipe
from latentdc.recipe.protocol import EvalProtocol

_DRAWN = ("random", "coreset")  # rows with other images for each seed


def opening(recipe: Recipe, size: Sizes, hardware: Hardware) -> Stage:
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


def followed_experts(recipe: Recipe, size: Sizes, hardware: Hardware) -> Stage | None:
    """The experts that trajectory matching follows, on the core set; None without."""
    count = recipe.experts.count
    return experts(recipe, size, hardware, count) if recipe.follows_experts else None


def experts(recipe: Recipe, size: Sizes, hardware: Hardware, count: int) -> Stage:
    """The training of `count` experts."""
    network = recipe.objective.network
    stage = _experts("experts", recipe.experts, network, size, hardware, count)
    told = f"{count} of {stage.told}; by latentdc experts, unless they are there"
    return replace(stage, told=told)


def snapshots(recipe: Recipe, size: Sizes, hardware: Hardware) -> Stage | None:
    """The training on the core set whose snapshots the guide `influence` asks; None without."""
    if not recipe.samples or "influence" not in recipe.sampling.guides:
        return None
    spec = recipe.sampling.influence
    settings = replace(recipe.experts, count=1, epochs=max(1, *spec.epochs))
    return _experts("snapshots", settings, spec.network, size, hardware, 1)


def _experts(
    name: str, settings: Experts, network: str, size: Sizes, hardware: Hardware, count: int
) -> Stage:
    """The stage of trainings whose weights are kept after every epoch."""
    one = student(network, size.classes, size.side)
    each = expert_bytes(settings, network, size.classes, size.side)
    sizes = {"num_classes": size.classes, "resolution": size.side}
    work, processes = one.step * size.kept * settings.epochs, hardware.processes
    by_all = divides_experts(settings, network, images=size.kept, processes=processes, **sizes)
    batch = min(settings.batch, size.kept)
    told = f"; {processes} processes divide each batch of {batch}" * by_all
    return Stage(
        name,
        work * count,
        f"{network} in {counted(settings.epochs, 'epoch')} on {size.kept:,} images{told}",
        disk={name: count * each},
        memory=one.trained(batch, divided=processes if by_all else 1),
        busiest=None if by_all else work * math.ceil(count / processes),
    )


def evaluating(
    recipe: Recipe, size: Sizes, hardware: Hardware, trained: set[Hashable] | None = None
) -> Counted:
    """`evaluating_rows` of a recipe's own rows and protocol, less the trainings that are there.

    `trained` is what the trainings of real images depend on that other runs beside this one do, and
    to which those of this one are added: each is done once.
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
    return evaluating_rows(protocol, images, counts, size, hardware, seeds)


def _real_images(recipe: Recipe, row: str) -> tuple[Hashable, ...]:
    """What decides the images of a baseline beside the data."""
    everything = recipe.prune.keeps_all and recipe.prune.coreset is None
    if everything and not recipe.follows_experts:
        row = {"coreset": "random", "kept": "full"}.get(row, row)
    ipc = recipe.ipc if row in _DRAWN else None
    if row not in ("coreset", "kept"):
        return row, ipc
    experts = repr(recipe.experts) if recipe.follows_experts else None
    return row, ipc, repr(recipe.prune), recipe.seed, experts


def evaluating_rows(
    protocol: EvalProtocol,
    images: int,
    counts: dict[str, int],
    size: Sizes,
    hardware: Hardware,
    seeds: Mapping[tuple[str, str], int] | None = None,
) -> Counted:
    """A stage of each student over all rows, those of teachers before them, and a line of rows.

    Args:
        protocol: of the trainings.
        images: of the sets that it is scaled by.
        counts: images of each row.
        size: of the real data.
        hardware: whose processes share the trainings.
        seeds: trainings of each row and student; None takes all of the protocol's.
    """
    protocol, processes = protocol.resolve(images, size.classes), hardware.processes
    if seeds is None:
        seeds = {(row, name): protocol.seeds for row in counts for name in protocol.students}
    trained = {row: n for row, n in counts.items() if any(seeds[row, s] for s in protocol.students)}
    before, labelling = _labelling(protocol, trained, size, hardware) if trained else ([], 0.0)
    trainings = _Trainings(protocol, counts, seeds, labelling, size, hardware)
    queue = trainings.queue()
    # Of the trainings in the queue a stage has its part, by their work.
    share = _longest(queue, processes) / (sum(work for _, work in queue) or 1)
    stages = [trainings.stage(name, share) for name in protocol.students if trainings.rows(name)]
    of_row = dict.fromkeys(counts, 0.0)
    for (row, name), count in seeds.items():
        of_row[row] += count * trainings.work(row, name)
    told = ", ".join(f"{row} {in_work(work)}" for row, work in of_row.items())
    return [*before, *stages], {"rows": f"{told}, protocol {protocol.name}"}


@dataclass(frozen=True)
class _Trainings:
    """Trainings of students on rows of images, each followed by a test.

    Attributes as the arguments of `evaluating_rows`, the protocol's budget in steps; `labelling`
    are multiply-adds of teachers for each image that they are asked.
    """

    protocol: EvalProtocol
    counts: Mapping[str, int]
    seeds: Mapping[tuple[str, str], int]
    labelling: float
    size: Sizes
    hardware: Hardware

    def rows(self, name: str) -> list[str]:
        """Those that a student is trained on."""
        return [row for row in self.counts if self.seeds[row, name]]

    def network(self, name: str) -> Student:
        """What a student takes."""
        return student(name, self.size.classes, self.size.side)

    def work(self, row: str, name: str) -> float:
        """Multiply-adds of one training and its test."""
        protocol, network, count = self.protocol, self.network(name), self.counts[row]
        seen = seen_images(protocol, count)
        online = protocol.labels.source == "online" and protocol.views.change
        work = seen * network.step + self.size.test * network.forward
        return work + self.labelling * (seen if online else count)

    def batch(self, row: str) -> int:
        """Images of a step."""
        return min(self.protocol.batch, self.protocol.seen(self.counts[row]))

    def is_divided(self, row: str, name: str) -> bool:
        """Whether all processes divide the batches, where trainings are long and too few."""
        protocol, size = self.protocol, self.size
        several = protocol.infobatch is not None or protocol.together > 1
        count = len(self.counts) * len(protocol.students) * protocol.seeds
        if several or count >= self.hardware.processes:
            return False
        return shared_training(name, size.side, self.batch(row), size, self.hardware).divided > 1

    def queue(self) -> list[tuple[float, float]]:
        """Work of a step, by which they queue, and of all, of what one process trains at a time."""
        together, found = self.protocol.together, []
        for name in self.protocol.students:
            for row in self.rows(name):
                if not self.is_divided(row, name):
                    count = self.seeds[row, name]
                    step = self.batch(row) * self.network(name).forward
                    sizes = [min(together, count - first) for first in range(0, count, together)]
                    found += [(step, side_by_side * self.work(row, name)) for side_by_side in sizes]
        return found

    def stage(self, name: str, share: float) -> Stage:
        """All trainings of a student; the busiest process has a `share` of those in the queue."""
        protocol, network, rows = self.protocol, self.network(name), self.rows(name)
        processes = self.hardware.processes
        works = {row: self.seeds[row, name] * self.work(row, name) for row in rows}
        divided = [row for row in rows if self.is_divided(row, name)]
        by_all, work = sum(works[row] for row in divided), sum(works.values())
        seeds = max(self.seeds[row, name] for row in rows)
        at_once = min(protocol.together, seeds)
        least, most = (f(seen_images(protocol, self.counts[n]) for n in rows) for f in (min, max))
        told = f"{counted(seeds, 'seed')} of {counted(len(rows), 'row')}, each trained on {least:,}"
        told += f" to {most:,}" * (least < most)
        told += f" images and tested on {self.size.test:,}"
        told += f", {at_once} seeds side by side" * (at_once > 1)
        told += f"; {processes} processes divide the batches of long ones" * bool(divided)
        memory = network.trained(
            min(protocol.batch, max(self.counts[row] for row in rows)),
            optimizer=protocol.optimizer,
            divided=processes if divided == rows else 1,
        )
        return Stage(
            f"evaluating {name}",
            work,
            told,
            memory=at_once * memory,
            busiest=by_all / processes + (work - by_all) * share,
        )


def _longest(jobs: Sequence[tuple[float, float]], processes: int) -> float:
    """Work of the busiest process, where the one that is free takes the next job of a queue.

    Jobs have what they are ordered by, the largest first, and their work.
    """
    ends = [0.0] * processes
    for _, work in sorted(jobs, key=lambda job: -job[0]):
        ends[ends.index(min(ends))] += work
    return max(ends)


def seen_images(protocol: EvalProtocol, count: int) -> int:
    """How many images a training on `count` of them sees, its budget in steps and last batches."""
    epoch = protocol.seen(count)
    epochs, steps = divmod(protocol.budget, protocol.epoch_steps(count))
    return epochs * epoch + steps * min(protocol.batch, epoch)


def _labelling(
    protocol: EvalProtocol, counts: dict[str, int], size: Sizes, hardware: Hardware
) -> tuple[list[Stage], float]:
    """Stages of the teachers, and what they take for one image that a training asks them."""
    labels = protocol.labels
    if labels.source == "hard":
        return [], 0
    work, forward, memory, busiest, weights, ways = 0.0, 0.0, 0.0, 0.0, 0, set()
    for teacher in labels.teachers:
        network = classifier(teacher, size.classes, teacher.resolution or size.side)
        forward += network.forward
        if teacher.weights is None:
            training = teacher.epochs * size.train * network.step
            batch = min(teacher.batch, size.train)
            shared = shared_training(teacher.network, size.side, batch, size, hardware)
            work, busiest = work + training, busiest + training / shared.divided
            memory = max(memory, network.trained(batch, divided=shared.divided))
            weights += 4 * network.weights
            ways.add(shared.told)
    checked = min(CHECKED, size.test) * forward
    named = ", ".join(teacher.network for teacher in labels.teachers)
    told = f"{named}, trained where they have no weights{''.join(sorted(ways))}"
    kept = {"teachers": weights} if weights else {}
    stages = [Stage("teachers", work + checked, told, kept, memory, busiest=busiest + checked)]
    compared = sum(soft_labels.compared_views(protocol, count) for count in counts.values())
    views, disk = 0, dict[str, float]()
    if labels.source == "stored":
        views = sum(
            (protocol.seeds if row in _DRAWN else 1)
            * soft_labels.stored_epochs(protocol, count)
            * count
            for row, count in counts.items()
        )
        coded = label_store.encode(torch.zeros(1, size.classes), labels.precision, labels.top)
        disk = {"soft labels": views * sum(tensor.nbytes for tensor in coded.values())}
    told = f"{views:,} views, and " * (views > 0) + f"{compared:,} views that are compared"
    busiest = (views / hardware.processes + compared) * forward  # all processes compare all
    stages.append(Stage("labelling", (views + compared) * forward, told, disk, busiest=busiest))
    return stages, 0 if labels.source == "stored" else forward
