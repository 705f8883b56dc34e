"""Read a `Table` back from the results.json that it wrote."""

from pathlib import Path
from typing import Any

from latentdc.errors import InputError
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.score import TOP5, Score, accuracies_of
from latentdc.evaluate.table import VERSION, Table
from latentdc.io import read_json
from latentdc.runtime import Machine


def load_table(path: Path) -> Table:
    """The table that a run wrote.

    Raises:
        InputError: the file is none of this version's, or names a teacher that is not there.
    """
    try:
        content = read_json(path)
        if "cells" in content:
            raise InputError(
                "it is the table of a sweep; load one of its runs, or see latentdc compare "
                f"{path.parent}."
            )
        if content["version"] > VERSION:
            raise InputError(
                f"it has version {content['version']} and this latentdc reads {VERSION}; "
                "install a newer one."
            )
        if content["version"] < VERSION:
            raise InputError(
                f"it has version {content['version']} and this latentdc reads {VERSION}; "
                "remove it, and run its command again: finished trainings are kept beside it."
            )
        return _table(content)
    except InputError as error:  # says itself what to do: a newer file, a teacher that was moved
        raise InputError(f"{path}: {error}") from error
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError),
    ) as error:
        raise InputError(f"{path} is no file of results ({error}); remove it.") from error


def _table(content: dict[str, Any]) -> Table:
    protocol = EvalProtocol.from_json(content["protocol_settings"])
    by_set: dict[str, list[dict[str, Any]]] = {}
    for row in content["rows"]:
        by_set.setdefault(row["set"], []).append(row)
    scores = {
        name: Score(
            protocol,
            {row["student"]: accuracies_of(row) for row in rows},
            tuple(rows[0]["sets"]),
            rows[0].get("labels", {}),
            {row["student"]: accuracies_of(row, TOP5) for row in rows if TOP5 in row},
        )
        for name, rows in by_set.items()
    }
    return Table(
        scores=scores,
        ipc=content["ipc"],
        unseen=tuple(content["unseen"]),
        missing=content["missing"],
        machine=Machine(**content["machine"]),
        test=content["test"],
        classes=content["classes"],
        sizes={
            name: rows[0]["image_bytes"]
            for name, rows in by_set.items()
            if "image_bytes" in rows[0]
        },
        preprocessing=content.get("preprocessing"),
        counts=content.get("counts"),
    )
