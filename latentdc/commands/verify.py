"""`latentdc verify SET`: whether the accuracies that a set was published with hold here.

The students are trained again on the set, under the protocol that its results record, on the real
data of its recipe. What others wrote is read, and never imported.
"""

import argparse
import math
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean, variance
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from latentdc import cli, ranks
from latentdc.errors import InputError, RunError, counted
from latentdc.locks import locked
from latentdc.recipe.fields import build
from latentdc.recipe.networks import parse_network
from latentdc.recipe.own import is_own, own_names
from latentdc.recipe.protocol import EvalProtocol
from latentdc.results.result import Result, load
from latentdc.synthetic import folder as layout

if TYPE_CHECKING:
    from accelerate import Accelerator

    from latentdc.cost.stages import Sizes
    from latentdc.preprocessing import Preprocessing
    from latentdc.recipe import Recipe
    from latentdc.synthetic.synthetic_set import SyntheticSet

_CHANGEABLE = ("data", "evaluate", "threads", "precision", "processes")
_STUDENTS = "evaluate.students"
_ELSEWHERE, _DAY = "pass another data.cache=FOLDER", 24 * 3600
_ASIDE = re.compile(r"\.latentdc-verify-[0-9a-f]{12}")  # no name that a user gives a folder
CRITERION = (
    "A number holds if the means differ by no more than the 95 % interval of a difference of two "
    "means over seeds (Student's t, the variances of both pooled)."
)


class Verdict(NamedTuple):
    """Whether the accuracies of one student hold.

    Attributes:
        difference: mean here minus the published mean, in [-1, 1].
        allowed: half the width of the interval around 0 that seeds alone explain.
    """

    difference: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether seeds alone explain the difference; rounding of sums is none."""
        return abs(self.difference) <= self.allowed + 1e-12


def judge(published: Sequence[float], here: Sequence[float]) -> Verdict:
    """Compare accuracies by seed, as `CRITERION` says.

    Both are in [0, 1]; together they are of three seeds or more.
    """
    from scipy.stats import t  # type: ignore[import-untyped]

    seeds = (len(published), len(here))
    freedom = sum(seeds) - 2
    assert freedom > 0, "one seed each has no spread"
    squares = sum((len(one) - 1) * variance(one) for one in (published, here) if len(one) > 1)
    error = math.sqrt(squares / freedom * sum(1 / count for count in seeds))
    allowed = float(t.ppf(0.975, freedom)) * error
    return Verdict(fmean(here) - fmean(published), allowed)


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    from latentdc.recipe import Recipe

    parser.schema = Recipe
    parser.description = (
        "Score a published set again under the protocol that its results record, and say whether "
        f"its accuracies hold. {CRITERION} Nothing is written. It ends with code 1 where one does "
        "not hold."
    )
    parser.add_argument("set", help="run folder, folder of a set, or Hub data set id")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help=f"such as data.source=FOLDER, or {_STUDENTS}=[...] of those that are trained",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a Hub id")
    parser.add_argument(
        "--recipe",
        help="recipe to use in place of the one that lies with the set; code that it names is run",
    )
    parser.add_argument("--seeds", type=int, help="trainings of each student (default: as many)")


def run(options: argparse.Namespace) -> None:
    """Tell the cost, train the students again, and compare."""
    from latentdc.commands.sets import read_sets
    from latentdc.evaluate.loading import recipe_protocol

    keys = [override.partition("=")[0] for override in options.overrides]
    for key in keys:
        if key.startswith("evaluate") and key != _STUDENTS:
            raise InputError(
                f"{key!r} is of the protocol, which the results of {options.set} record; "
                f"{_STUDENTS}=[...] says which students are trained again, --seeds how often."
            )
    if options.seeds is not None and options.seeds < 1:
        raise InputError(f"--seeds is at least 1, got {options.seeds}.")
    folder = layout.find(options.set, options.revision)
    sources, recipe = read_sets(
        [str(folder)],
        options.overrides,
        argparse.Namespace(recipe=options.recipe, ipc=None, numbers=None),
        _CHANGEABLE,
        used=["data"],
    )
    path = folder / layout.RESULTS
    if not path.is_file():
        raise InputError(
            f"{options.set} records no accuracies: it lacks {layout.RESULTS}; score it with "
            "`latentdc evaluate`."
        )
    ranks.say("verify", options.set)
    from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash

    synthetic = SyntheticSet.from_pretrained(sources[0].path)
    own = set_hash(synthetic)
    published = [one for one in load(path) if {*one.hashes} == {own}]
    if not published:
        raise InputError(f"no accuracy in {path} is of these images (hash {own}).")
    code: set[str] = set()  # that the user named, and that may be imported
    if options.recipe is not None:
        code = {name for _, name in own_names(recipe_protocol(recipe.evaluate))}
    if _STUDENTS in keys:
        students = recipe.evaluate.students or []
        published, code = _chosen(published, students), code | {*filter(is_own, students)}
    jobs = _jobs(published, path, options.seeds, code)
    for protocol, _ in jobs:
        cli.print_result(_cost(protocol, synthetic, recipe, options.tflops))
    cli.print_result(_opening(synthetic, recipe))
    if not options.dry_run:
        _compare(jobs, synthetic, recipe)


_Job = tuple[EvalProtocol, list[Result]]


def _chosen(published: Sequence[Result], students: Sequence[str]) -> list[Result]:
    """Published results of the named students; of one's own code too, if it is as it was."""
    known = {one.student for one in published}
    some = f"there are some of {', '.join(sorted(known))}."
    if not students:
        raise InputError(f"{_STUDENTS} names nobody whose accuracy is to be verified; {some}")
    wanted = {_network(name) for name in students}
    for name in students:
        if _network(name) not in map(_network, known):
            raise InputError(f"{_STUDENTS}: no accuracy of {name} is published; {some}")
    return [one for one in published if _network(one.student) in wanted]


def _network(name: str) -> tuple[str, int]:
    """A network and its width, so that `convnet3` is `convnet3@128`; own code as it is named."""
    return (name, 1) if is_own(name) else parse_network(name)


def _jobs(
    published: Sequence[Result], path: Path, seeds: int | None, code: Collection[str]
) -> list[_Job]:
    """The recorded protocols, each with its results.

    `seeds` are the trainings of each student, None as many as were published; `code` is the user's
    own, which may be imported. Protocols that this version does not read the same, code of others,
    and seeds that have no spread are refused.
    """
    jobs: dict[tuple[str, ...], _Job] = {}
    for one in published:
        again = seeds or len(one.accuracies)
        if again + len(one.accuracies) < 3:
            raise InputError(
                f"{one.student} was published with {len(one.accuracies)} seed, which has no "
                "spread; train several: --seeds 3."
            )
        protocol = build(EvalProtocol, {**one.settings, "together": 1})
        for key, name in own_names(replace(protocol, students=[one.student])):
            if name not in code:
                raise InputError(_foreign(key, name, path))
        if protocol.hash != one.protocol_hash:
            raise InputError(
                f"{path}: the settings of protocol {one.protocol} have the hash {protocol.hash} "
                f"here and {one.protocol_hash} there: it was scored by another version "
                f"({one.machine.get('latentdc')}); install that one."
            )
        job = jobs.setdefault(one.conditions, (replace(protocol, seeds=again), []))
        job[1].append(one)
    return [
        (replace(protocol, students=list(dict.fromkeys(r.student for r in rows))), rows)
        for protocol, rows in jobs.values()
    ]


def _foreign(key: str, name: str, path: Path) -> str:
    """Why code is refused, and how its owner names it."""
    plain = name.partition("#")[0]
    way = f"{_STUDENTS}=[{plain}] or " if key == "students" else ""
    return (
        f"{key}={name} in the protocol in {path} names code, which is not imported from what "
        f"others share; if {plain} is yours and as it was, write {way}--recipe FILE, of a recipe "
        f"whose evaluation names it."
    )


def _cost(
    protocol: EvalProtocol, synthetic: "SyntheticSet", recipe: "Recipe", tflops: float | None
) -> str:
    """What the trainings take, in one line; hours where a rate is given."""
    from latentdc.cost.networks import evaluating_rows, seen_images
    from latentdc.cost.stages import Hardware
    from latentdc.estimates import in_bytes, in_work

    sizes, count = _sizes(synthetic, recipe), len(synthetic)
    stages, _ = evaluating_rows(protocol, count, {"set": count}, sizes, Hardware())
    work, memory = sum(one.work or 0 for one in stages), max(one.memory for one in stages)
    of_labels = [one for one in stages if not one.name.startswith("evaluating")]
    disk = sum(size for one in stages for size in one.disk.values())
    return (
        f"cost: {counted(protocol.seeds, 'training')} of {', '.join(protocol.students)} "
        f"under protocol {protocol.name}, each {counted(protocol.budget, 'step')} that see "
        f"{counted(seen_images(protocol, count), 'image')}, "
        f"{'about' if sizes.test else 'at least'} {in_work(work)} and {in_bytes(memory)} "
        "of memory"
        + (f", {in_bytes(disk)} of disk until it ends" if disk else "")
        + (f", {2 * work / tflops / 3.6e15:.3g} hours at {tflops:g} TFLOP/s" if tflops else "")
        + "".join(f"; of it {one.name} {one.line()}" for one in of_labels)
    )


def _sizes(synthetic: "SyntheticSet", recipe: "Recipe") -> "Sizes":
    """Sizes of the real data and the set; zeros for data that is not on this machine."""
    from latentdc.cost.stages import Sizes
    from latentdc.data.open import kept_size

    known = kept_size(recipe.data)
    train, test = (0, 0) if known is None else known[:2]
    side, values = synthetic.images.shape[-1], math.prod(synthetic.images.shape[1:])
    return Sizes(train, test, len(synthetic.class_names), kept=train, side=side, values=values)


def _opening(synthetic: "SyntheticSet", recipe: "Recipe") -> str:
    """What the real data take, in one line."""
    from latentdc.cost.networks import opening
    from latentdc.cost.stages import Hardware
    from latentdc.estimates import in_bytes

    sizes, source = _sizes(synthetic, recipe), recipe.data.source
    if not sizes.test:
        return (
            f"data: {source} is not on this machine, so that opening it, and testing on it, come "
            "on top; a folder is named by data.source=FOLDER"
        )
    stage = opening(recipe, sizes, Hardware())
    disk = sum(stage.disk.values())
    room = f"; {in_bytes(disk)} in the cache" if disk else ""
    return f"data: {source}, {stage.line()}{room}"


@contextmanager
def _aside(
    jobs: Sequence[_Job], recipe: "Recipe", accelerator: "Accelerator"
) -> Iterator[Path | None]:
    """A folder of trainings beside which labels are stored, removed at the end; None without."""
    from latentdc import runtime

    if all(protocol.labels.source != "stored" for protocol, _ in jobs):
        yield None
        return
    path, cache = "", recipe.data.cache_folder
    if accelerator.is_main_process:
        _remove_left(cache)
        path = str(cache / f".latentdc-verify-{uuid4().hex[:12]}")
    folder = Path(runtime.broadcast(path))
    with locked(folder, advice=_ELSEWHERE):
        runtime.require_shared(folder, accelerator, "data.cache=...")
        try:
            yield folder / "trainings"
        finally:
            if accelerator.is_main_process:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_left(cache: Path) -> None:
    """Remove what commands that were killed, a day ago or earlier, have left in the cache."""
    for folder in cache.glob(".latentdc-verify-*"):
        if not _ASIDE.fullmatch(folder.name):
            continue
        with suppress(InputError, OSError):  # in use, however long, or another user's
            if time.time() - folder.stat().st_mtime > _DAY:
                with locked(folder, advice=_ELSEWHERE):
                    shutil.rmtree(folder, ignore_errors=True)


def _compare(jobs: Sequence[_Job], synthetic: "SyntheticSet", recipe: "Recipe") -> None:
    """Train and test, and tell of each student whether its accuracy holds."""
    from latentdc import runtime
    from latentdc.data.open import open_splits, preprocessing
    from latentdc.evaluate.evaluate import check_sets, score_sets
    from latentdc.evaluate.setting import Setting
    from latentdc.evaluate.teachers import require_given_teachers
    from latentdc.modes import precision_put_back
    from latentdc.synthetic.synthetic_set import set_hash

    with precision_put_back():
        accelerator = runtime.start(**recipe.launch)
        train, test = runtime.main_first(accelerator, lambda: open_splits(recipe.data))
        seen: Preprocessing = synthetic.whitening or runtime.main_first(
            accelerator, lambda: preprocessing(recipe.data, train)
        )
        _require_same(jobs, set_hash(test), seen.facts(), recipe.data.source)
        lines, broken = [], []
        with _aside(jobs, recipe, accelerator) as folder:
            setting = Setting(
                test=test, normalization=seen, accelerator=accelerator, train=train, folder=folder
            )
            for protocol, rows in jobs[1:]:  # the first is checked as it begins
                require_given_teachers(protocol, setting)
                check_sets({"verified": synthetic}, protocol, setting, ipc=rows[0].ipc)
            for protocol, rows in jobs:
                found = score_sets({"verified": synthetic}, protocol, setting, ipc=rows[0].ipc)
                here = {one.student: one for one in found}
                for row in rows:
                    verdict = judge(row.accuracies, here[row.student].accuracies)
                    lines.append(_told(row, here[row.student], verdict))
                    broken += [] if verdict.holds else [row.student]
    if not accelerator.is_main_process:
        return
    print("\n".join([*lines, CRITERION, *_machines(rows[0], found[0])]))
    if broken:
        raise RunError(f"the accuracy of {', '.join(broken)} does not hold here.")


def _told(there: Result, here: Result, verdict: Verdict) -> str:
    """The line of one student."""
    from latentdc.results.means import percent

    return (
        f"{there.student}: {percent(there.accuracies)} published, {percent(here.accuracies)} here, "
        f"difference {100 * verdict.difference:+.1f}, at most {100 * verdict.allowed:.1f} by "
        f"chance: {'holds' if verdict.holds else 'does not hold'}"
    )


def _require_same(
    jobs: Sequence[_Job], test: str, preprocessing: Mapping[str, object], source: str
) -> None:
    """Refuse other test images, or images that students would see otherwise."""
    from latentdc.io import as_read_back

    for row in (row for _, rows in jobs for row in rows):
        if row.test != test:
            raise InputError(
                f"the test split of {source} is not the one that {row.student} was scored on "
                f"(hash {test} here, {row.test} there); name the same data: data.source=..."
            )
        if dict(row.preprocessing) != as_read_back(dict(preprocessing)):
            raise InputError(
                f"students of {source} would see images otherwise than {row.student} did "
                f"({as_read_back(dict(preprocessing))} here, {dict(row.preprocessing)} there); set "
                "data.mean, data.std and data.zca so."
            )


def _machines(there: Result, here: Result) -> list[str]:
    """A line of what differs between the machines; no line where nothing does."""
    names = ("latentdc", "commit", "torch", "device", "precision")
    pairs = {name: (there.machine.get(name), here.machine.get(name)) for name in names}
    told = [f"{name} {a} there, {b} here" for name, (a, b) in pairs.items() if a != b]
    return [f"Other than where it was published: {'; '.join(told)}."] if told else []
