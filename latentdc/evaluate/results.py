"""evaluation.json: every score of `latentdc evaluate` in one folder, one row each.

A row belongs to a set's name, its images per class, a protocol's hash, a student, a test set and a
preprocessing; rows that stand beside sets also to how many images each class of these has. A later
call replaces the rows that it scores again, and leaves the others.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from latentdc.errors import InputError
from latentdc.evaluate.score import TOP1, TOP5, accuracies_of
from latentdc.evaluate.table import Table
from latentdc.io import read_json
from latentdc.recipe import BASELINES

NAME = "evaluation.json"
VERSION = 4  # 3 had no preprocessing and no counts, 2 no top-5 and classes; 1 was of a single call
OLDEST = 2  # that a later call adds to
_KEY = ("set", "ipc", "protocol_hash", "student")


def merge(path: Path, tables: Sequence[Table]) -> None:
    """Write the rows of tables into a file, beside those that it has; whole or not at all.

    Raises:
        InputError: the file is none of ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        known = _read(path)
        rows = known["rows"]
        for table in tables:
            for row in json.loads(json.dumps(_rows(table))):  # lists, as in the file
                rows = _with(rows, row)
            known["protocols"][table.protocol.hash] = asdict(table.protocol)
        content = {"version": VERSION, **known, "rows": rows}
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(part, path)


def _rows(table: Table) -> list[dict[str, Any]]:
    """The rows of one table, each with all that it needs to stand alone."""
    protocol = table.protocol
    shared = {
        "ipc": table.ipc,
        "classes": table.classes,
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "steps": protocol.steps,
        "machine": asdict(table.machine),
        "test": table.test,
        "preprocessing": table.preprocessing,
        "counts": table.counts,
    }
    return [
        {**row, **shared, "unseen": row["student"] in table.unseen_by(row["set"])}
        for row in table.to_json()["rows"]
    ]


def _read(path: Path) -> dict[str, Any]:
    """Rows and protocols of the file; none where it is absent or the table of a single call."""
    if not path.is_file():
        return {"protocols": {}, "rows": []}
    try:
        content = read_json(path)
        if content["version"] < OLDEST:
            return {"protocols": {}, "rows": []}
        if content["version"] > VERSION:
            raise InputError(
                f"{path} has version {content['version']} and this latentdc writes {VERSION}; "
                "install a newer one, or name another folder: --output FOLDER."
            )
        rows = content["rows"]
        for row in rows:
            _key(row)
            for values in (TOP1, TOP5) if TOP5 in row else (TOP1,):
                accuracies_of(row, values)
        return {"protocols": dict(content["protocols"]), "rows": rows}
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no file of scores ({error}); mend or remove it.") from error


def _with(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with this one in the place of the first that it replaces, or at the end."""
    replaced = [_replaces(row, old) for old in rows]
    at = replaced.index(True) if True in replaced else len(rows)
    kept = [old for old, gone in zip(rows, replaced, strict=True) if not gone]
    return [*kept[:at], row, *kept[at:]]


def _replaces(row: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether both are the same row, as far as an older file tells what its own is of."""
    known = [name for name in ("test", "preprocessing") if old.get(name) is not None]
    known += ["counts"] if row["set"] in BASELINES and "counts" in old else []
    return _key(row) == _key(old) and all(row[name] == old[name] for name in known)


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row[name] for name in _KEY)
