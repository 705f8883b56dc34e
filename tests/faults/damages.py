"""Damaged files: the command that reads them ends with the usual result, or with one line.

Never with a traceback, never with another result. What was said is not believed for being there.
"""

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

from tests.faults import desk
from tests.faults.calls import call
from tests.faults.desk import SET, Lab, Trial, Work, contents, difference, files, under

HALF = ("step-00000012", 1)  # killed before it, a run has its checkpoints of 4 and 8 steps
LEAVES = [-5, 10**30, 250, 0.5, True, None, "x", "", [], {}, float("nan"), float("inf")]


@dataclass(frozen=True)
class Target:
    """Files that are damaged, and the command that meets them.

    Attributes:
        files: their patterns.
        work: the command, what came before it, and its results.
        honest: kinds of damage after which no reader could know that another value was meant.
    """

    files: list[str]
    work: Work
    honest: tuple[str, ...] = ()


def _run(recipe: desk.Words, name: str, former: desk.Former) -> Work:
    return Work(recipe, under(f"runs/{name}", SET), former)


HERDING = ("prune", "run.yaml", "prune.score=herding")
GIVEN = ("prune", "run.yaml", "output=given")
TARGETS = {
    "checkpoint": Target(
        ["runs/plain/checkpoints/step-*/*"], _run(desk.PLAIN, "plain", ((desk.PLAIN, HALF),))
    ),
    "trainings": Target(
        ["runs/plain/trainings/*.json"], _run(desk.PLAIN, "plain", ((desk.PLAIN, None),))
    ),
    "core set": Target(["runs/run/coreset.parquet"], _run(desk.RUN, "run", ((desk.RUN, HALF),))),
    "ended run": Target(
        ["runs/plain/*.*", "runs/plain/synthetic/**/*"],
        _run(desk.PLAIN, "plain", ((desk.PLAIN, None),)),
    ),
    "scores": Target(
        ["given/scores.parquet"],
        Work(
            ("prune", "run.yaml", "prune.scores=given/scores.parquet", "prune.keep=0.3"),
            ["runs/run/coreset.parquet"],
            ((GIVEN, None),),
        ),
    ),
    "begun scoring": Target(
        ["runs/run/scoring/**/*"],
        Work(
            HERDING,
            ["runs/run/coreset.parquet", "runs/run/scores.parquet", "runs/run/features.npy"],
            ((HERDING, ("state.safetensors", 2)),),
        ),
    ),
    "set": Target(
        ["runs/plain/synthetic/**/*"],
        Work(("evaluate", "runs/plain"), ["runs/plain/evaluation.json"], ((desk.PLAIN, None),)),
    ),
    "labels": Target(
        ["runs/plain/labels/**/*", "runs/plain/trainings/*"],
        Work(
            (*desk.SOFT, "evaluate.seeds=2"),
            ["runs/plain/evaluation.json"],
            ((desk.PLAIN, None), (desk.SOFT, None)),
        ),
    ),
    "prior": Target(
        ["prior/**/*"],
        Work(desk.DIFFUSION, under("runs/prior", SET), ((desk.DIFFUSION, HALF),)),
    ),
    "experts": Target(
        ["runs/experts/**/*"],
        Work(desk.FOLLOW, under("runs/mtt", SET), ((desk.EXPERTS, None),)),
    ),
    "cache": Target(
        ["cache/**/*"],
        Work((*desk.FOLDER, "output=again"), under("again", SET), ((desk.FOLDER, None),)),
    ),
    "sweep": Target(
        ["runs/sweep/**/*"],
        Work(desk.SWEEP, ["runs/sweep/results.json"], ((desk.SWEEP, None),)),
    ),
    "results": Target(
        ["runs/plain/results.json"],
        Work(
            ("compare", "runs/plain", "--output", "compared"),
            ["compared/*.json", "compared/*.md"],
            ((desk.PLAIN, None),),
        ),
        honest=("flip", "json leaf"),
    ),
}
GROUPS = list(TARGETS)
BINARY = ["flip", "zeros", "truncate", "empty", "missing", "garbage", "swap", "append"]
PLACES = ["folder", "fifo", "loop"]
JSON = ["json leaf", "json key", "json whole", "json deep", "json bytes"]


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Damage one file in one way and run the command."""
    target = TARGETS[group]
    usual = lab.undisturbed(target.work)
    folder = lab.copy(target.work.former)
    found = files(folder, target.files)
    if not found:
        raise SystemExit(f"no files {target.files} to damage")
    kinds = sorted({path.suffix for path in found})
    suffix = draw.choice(kinds)  # of many files of one kind, no more than of one
    path = draw.choice([path for path in found if path.suffix == suffix])
    kinds = [*BINARY, *PLACES, *(JSON * 2 if path.suffix == ".json" else [])]
    kind = draw.choice([kind for kind in kinds if kind not in target.honest])
    what = f"{kind} of {path.relative_to(folder)}{damage(path, kind, found, draw)}"
    end = call(target.work.command, folder)
    again = None
    if end.code == 0:
        again = difference(contents(folder, target.work.results), usual.results)
    return Trial(what, end.complaint() or again)


def damage(path: Path, kind: str, others: list[Path], draw: random.Random) -> str:
    """Do one kind of damage to a file.

    Returns:
        Where in it, in words, where the kind does not say all.
    """
    content = path.read_bytes()
    place = draw.randrange(max(1, len(content)))
    if kind in PLACES or kind == "missing":
        path.unlink()
        if kind == "folder":
            path.mkdir()
        if kind == "fifo":
            os.mkfifo(path)
        if kind == "loop":
            path.symlink_to(path.name)
        return ""
    if kind.startswith("json"):
        changed, where = _json(kind, content, draw)
        path.write_bytes(changed)
        return where
    if kind == "swap":
        other = draw.choice([one for one in others if one != path] or [path])
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return f" with {other.name}"
    block = content[place : place + 64]
    path.write_bytes(
        {
            "flip": content[:place]
            + bytes(byte ^ (1 << draw.randrange(8)) for byte in content[place : place + 1])
            + content[place + 1 :],
            "zeros": content[:place] + bytes(len(block)) + content[place + len(block) :],
            "truncate": content[:place],
            "empty": b"",
            "garbage": draw.randbytes(len(content)),
            "append": content + draw.randbytes(64),
        }[kind]
    )
    return f" at {place} of {len(content)}" if kind in ("flip", "zeros", "truncate") else ""


def _json(kind: str, content: bytes, draw: random.Random) -> tuple[bytes, str]:
    if kind == "json deep":
        depth = draw.choice([2_000, 200_000])
        return b"[" * depth + b"]" * depth, f" to depth {depth}"
    if kind == "json bytes":
        some = draw.choice([b"\xff\xfe" + content, b"\xef\xbb\xbf" + content, b"\0" + content])
        return some, f" {some[:3]!r}"
    if kind == "json whole":
        whole = draw.choice(LEAVES)
        return json.dumps(whole).encode(), f" {whole!r}"
    value = json.loads(content)
    places = list(_places(value))
    if not places:
        return b"null", " null"
    box, key, names = draw.choice(places)
    if kind == "json key" and isinstance(box, dict):
        del box[key]
        return json.dumps(value).encode(), f" {names} removed"
    box[key] = draw.choice(LEAVES)
    return json.dumps(value).encode(), f" {names} = {box[key]!r}"


def _places(value: object, names: str = "") -> list[tuple]:
    """Every place in a value that another value can be put in: its holder, key and name."""
    keys = value if isinstance(value, dict) else range(len(value)) if _list(value) else ()
    found = []
    for key in list(keys):
        name = f"{names}.{key}".lstrip(".")
        found += [(value, key, name), *_places(value[key], name)]
    return found


def _list(value: object) -> bool:
    return isinstance(value, list)
