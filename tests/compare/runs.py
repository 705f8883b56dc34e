"""Files of results as a run leaves them, with accuracies of the test's choice."""

from latentdc.evaluate.results import merge
from latentdc.evaluate.score import Score
from latentdc.evaluate.table import Table
from latentdc.runtime import Machine
from tests.evaluate.toys import protocol

MACHINE = Machine("0", "2", "cpu", 1, 1, "no", "Linux x86_64")
STUDENTS = ("convnet3@4", "alexnet@2", "vit")


def table(ipc=1, test="t1", settings=None, **rows):
    """A table of rows, each with a tuple of accuracies per student of `STUDENTS`."""
    scores = {}
    for name, values in rows.items():
        students = list(STUDENTS[: len(values)])
        seeds = len(values[0])
        some = protocol(students=students, seeds=seeds, **(settings or {}))
        digest = name if name in ("random", "full") else f"{name} {values}"
        scores[name] = Score(some, dict(zip(students, values, strict=True)), (digest,) * seeds)
    return Table(scores, ipc, ("alexnet@2", "vit")[: len(students) - 1], {}, MACHINE, test)


def run(folder, made):
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder / "results.json")
    return str(folder)


def evaluation(folder, *tables):
    merge(folder / "evaluation.json", tables)
    return str(folder)
