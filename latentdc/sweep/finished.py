"""What a finished cell leaves in its run folder: a mark that names its recipe, and its results."""

import json
import os
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from latentdc.errors import InputError
from latentdc.evaluate import load_protocol
from latentdc.evaluate.saved_table import load_table
from latentdc.evaluate.table import Table
from latentdc.recipe import Recipe

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
        marked = json.loads((folder / MARK).read_text())["recipe"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / MARK} is damaged ({error}); remove it.") from error
    return bool(marked == identity(recipe))


def mark(recipe: Recipe, folder: Path) -> None:
    """Say that the folder's results are this recipe's."""
    part = folder / f"{MARK}.part"
    part.write_text(json.dumps({"recipe": identity(recipe)}) + "\n")
    os.replace(part, folder / MARK)


def table(folder: Path) -> Table | None:
    """The results of a finished cell; None where it evaluates nothing."""
    path = folder / "results.json"
    return load_table(path) if path.is_file() else None


def seconds(folder: Path) -> float | None:
    """Of all distillation steps, over every start of the run; None where there were none."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    steps = [json.loads(line)["seconds"] for line in path.read_text().splitlines()]
    return sum(steps) if steps else None
