"""What a finished cell leaves in its run folder: a mark that names its recipe, and its results."""

import json
import math
import os
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from latentdc.errors import InputError
from latentdc.evaluate import load_protocol
from latentdc.io import read_json
from latentdc.ranks import warn
from latentdc.recipe import Recipe
from latentdc.results.result import RESULTS, Result, load

MARK = "cell.json"
_ELSEWHERE = ("output", "push", "threads", "processes", "trackers")  # say nothing about the result


def identity(recipe: Recipe) -> str:
    """16 hex digits of all that decides a cell's numbers."""
    content = {key: value for key, value in asdict(recipe).items() if key not in _ELSEWHERE}
    content["protocol"] = load_protocol(recipe.evaluate.protocol).hash  # of a file, its contents
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def is_finished(recipe: Recipe, folder: Path) -> bool:
    """Whether the folder holds the results of this very recipe."""
    try:
        marked = read_json(folder / MARK)["recipe"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / MARK} is damaged ({error}); remove it.") from error
    complete = not recipe.evaluate.rows or (folder / RESULTS).is_file()
    return bool(marked == identity(recipe)) and complete


def mark(recipe: Recipe, folder: Path) -> None:
    """Say that the folder's results are this recipe's."""
    part = folder / f"{MARK}.part"
    part.write_text(json.dumps({"recipe": identity(recipe)}) + "\n")
    os.replace(part, folder / MARK)


def results(folder: Path) -> list[Result]:
    """Of a finished cell; empty where it evaluates nothing."""
    path = folder / RESULTS
    return load(path) if path.is_file() else []


def seconds(folder: Path) -> float | None:
    """Of all distillation steps, over every start of the run; None where there were none.

    Nor are they known from a damaged file, which is said.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    try:
        steps = [json.loads(line)["seconds"] for line in path.read_text().splitlines()]
        if not all(type(step) in (int, float) and 0 <= step < math.inf for step in steps):
            raise ValueError("a step took what is no number of seconds")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        warn(f"{path} is damaged ({error}); the table leaves out the time of this run.")
        return None
    return sum(steps) if steps else None
