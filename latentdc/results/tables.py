"""Tables of results as aligned text for the terminal, and as Markdown."""

from collections.abc import Sequence

import pandas as pd

from latentdc.errors import counted
from latentdc.plain_text import aligned_table, in_markdown, markdown_table
from latentdc.recipe.labels import OWN
from latentdc.results import means, result

_MANY = 100  # classes from which publications report top-5 beside top-1


def to_text(results: Sequence[result.Result]) -> str:
    """Aligned columns under lines that say what the numbers are."""
    return "\n".join([*_captions(results), "", aligned_table(_cells(results))])


def to_markdown(results: Sequence[result.Result]) -> str:
    """A Markdown table over lines that say what the numbers are."""
    return "\n\n".join(
        [markdown_table(_cells(results), cell=in_markdown), *map(in_markdown, _captions(results))]
    )


def _cells(results: Sequence[result.Result]) -> list[list[str]]:
    """Header and a row for each set.

    Columns for ipc and protocol stand where these differ. Bytes are those of images and soft
    labels, seconds those of the distillation, as far as they are known. With several students, a
    last column holds the mean of the unseen ones; a data set of many classes has a column of top-5
    beside each student's.
    """
    frame = result.Results(results).to_frame()
    table = ["ipc", "protocol", "protocol_hash", "test", "preprocessing", "counts"]
    tables = frame.groupby(table, sort=False, dropna=False)
    frame["table"] = tables.ngroup()
    students = list(dict.fromkeys(frame["student"]))
    unseen = {number: means.unseen_students(one) for number, one in frame.groupby("table")}
    five = bool((frame["classes"] >= _MANY).any() and frame["top5"].notna().any())
    shown = {"bytes": frame["bytes"], "seconds": frame["seconds"]}
    facts = [name for name, values in shown.items() if values.notna().any()]
    key = ["ipc", "protocol"] if tables.ngroups > 1 else []
    named = [name for s in students for name in ([s, f"{s} top-5"] if five else [s])]
    extra = [result.UNSEEN] if any(unseen.values()) else []
    cells = [["set", *key, *facts, *named, *extra]]
    sets = frame.assign(first=frame.groupby("result")["hash"].transform("first"))
    for (number, name, _), one in sets.groupby(["table", "set", "first"], sort=False):
        about = [str(one[column].iloc[0]) for column in key]
        numbers = [_number(one[fact].iloc[0]) for fact in facts]
        kinds = ("accuracy", "top5") if five else ("accuracy",)
        values = [
            means.percent(means.by_seed(one, [student], kind))
            for student in students
            for kind in kinds
        ]
        values += [means.percent(means.by_seed(one, unseen[number]))] if extra else []
        cells.append([name, *about, *numbers, *values])
    return cells


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:,.0f}"


def _captions(results: Sequence[result.Result]) -> list[str]:
    """What the numbers are: one line for each protocol and ipc, and what its labels are."""
    lines = []
    tables = {(r.ipc, r.protocol, *r.conditions, len(r.accuracies)): r for r in reversed(results)}
    for one in reversed(tables.values()):
        settings, seeds = one.settings, len(one.accuracies)
        fewer = " at most, less what InfoBatch leaves out" if settings.get("infobatch") else ""
        lines.append(
            f"Test accuracy in %, {means.over_seeds(seeds)}, ipc {one.ipc}, protocol "
            f"{one.protocol} ({one.protocol_hash}): {counted(one.steps, 'step')} for every row"
            f"{fewer}."
        )
        if one.ipc * one.classes < settings["batch"]:
            lines.append(
                f"At ipc {one.ipc} a set is smaller than the batch of {settings['batch']}: its "
                "epochs are one full batch each."
            )
        if settings.get("unsettled"):
            lines.append(f"The sources do not settle its {', '.join(settings['unsettled'])}.")
        alike = [r for r in results if (r.ipc, r.conditions) == (one.ipc, one.conditions)]
        if apart := means.computed([r.machine for r in alike]):
            lines.append(f"Computed with {apart}.")
        lines += _labels(alike)
    return list(dict.fromkeys(lines))


def _labels(results: Sequence[result.Result]) -> list[str]:
    """What soft labels are made of, what they cost, and how far they agree with the sets'."""
    own = {
        one.set: f"{one.labels['label_bytes']:,} bytes ({one.set})"
        for one in results
        if one.labels.get("source") == OWN
    }
    if own:
        return [f"Sets with soft labels of their own: {', '.join(own.values())}."]
    facts = results[0].labels
    if not facts:
        return []
    cost = f", {facts['label_bytes']:,} bytes" if "label_bytes" in facts else ""
    shares = {one.set: one.labels.get("teacher_accuracy_on_views") for one in results}
    told = [f"{100 * share:.1f} % ({name})" for name, share in shares.items() if share is not None]
    views = f" and on what students see of the sets: {', '.join(told)}" if told else ""
    return [
        f"Soft labels ({facts['source']}{cost}) of {' and '.join(facts['teachers'])}, right on "
        f"{100 * facts['teacher_accuracy']:.1f} % of real test images{views}; "
        f"{facts['teacher_bytes']:,} bytes."
    ]
