"""Results with accuracies of the test's choice, and files of them as runs leave them."""

import json
from dataclasses import asdict

from latentdc.results.result import Result, merge, save
from tests.evaluate.toys import protocol

MACHINE = {"latentdc": "0", "device": "cpu", "threads": 1}
STUDENTS = ("convnet3@4", "alexnet@2", "vit")


def result(set="distilled", accuracies=(0.5, 0.7), student="convnet3@4", settings=None, **changes):
    seeds = len(accuracies)
    some = protocol(students=list(STUDENTS), seeds=seeds, **(settings or {}))
    given = {
        "hashes": (set if set in ("random", "full") else f"{set} {accuracies}",) * seeds,
        "ipc": 1,
        "classes": 10,
        "protocol": some.name,
        "protocol_hash": some.hash,
        "settings": json.loads(json.dumps(asdict(some))),
        "test": "t1",
        "preprocessing": {"mean": [0.5]},
        "machine": MACHINE,
    }
    return Result(set=set, accuracies=accuracies, student=student, **{**given, **changes})


def table(settings=None, changes=None, **rows):
    """Results of rows, each with a tuple of accuracies per student of `STUDENTS`.

    `changes` are of the results of each row, by name, or under `all` of every row.
    """
    changes = changes or {}
    return [
        result(
            name,
            accuracies,
            student,
            settings,
            **{
                "hashes": (name if name in ("random", "full") else f"{name} {values}",)
                * len(accuracies),
                "unseen": student != STUDENTS[0],
                **changes.get("all", {}),
                **changes.get(name, {}),
            },
        )
        for name, values in rows.items()
        for student, accuracies in zip(STUDENTS, values, strict=False)
    ]


def run(folder, results):
    save(folder / "results.json", results)
    return str(folder)


def evaluation(folder, *tables):
    merge(folder / "evaluation.json", [result for table in tables for result in table])
    return str(folder)
