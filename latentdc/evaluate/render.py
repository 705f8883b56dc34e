"""`Table`s as aligned text for the terminal, and as Markdown."""

from collections.abc import Mapping

from latentdc.evaluate.score import Score, spread
from latentdc.evaluate.table import Table
from latentdc.plain_text import markdown_table

MANY = 100  # classes from which publications report top-5 beside top-1


def to_text(*tables: Table) -> str:
    """Aligned columns under a line that names the protocol; several tables become one."""
    cells = _cells(tables)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(_fit(row, widths)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*_captions(tables), "", *lines, *_notes(tables)])


def to_markdown(*tables: Table) -> str:
    """A Markdown table over a line that names the protocol; several tables become one."""
    notes = [f"\n{note}" for note in [*_captions(tables), *_notes(tables)]]
    return "\n".join([markdown_table(_cells(tables)), *notes])


def _cells(tables: tuple[Table, ...]) -> list[list[str]]:
    """Header and rows; several tables have columns for ipc and protocol and all of their students.

    Bytes are those of images and soft labels, as far as they were counted. With several students,
    a last column holds the mean of the unseen ones; a data set of many classes has a column of
    top-5 beside each student's.
    """
    students = list(dict.fromkeys(s for table in tables for s in table.protocol.students))
    unseen = any(map(_shows_unseen, tables))
    five = any(map(_shows_top5, tables))
    sized = any(table.sizes for table in tables)
    key = ["ipc", "protocol"] if len(tables) > 1 else []
    named = [name for s in students for name in ([s, f"{s} top-5"] if five else [s])]
    cells = [["set", *key, *(["bytes"] if sized else []), *named, *(["unseen"] if unseen else [])]]
    for table in tables:
        about = [str(table.ipc), table.protocol.name] if key else []
        for name, score in table.scores.items():
            kinds = (score.accuracies, score.top5) if five else (score.accuracies,)
            values = [_percent(kind.get(student)) for student in students for kind in kinds]
            if unseen:
                mean = score.over(list(table.unseen)) if _shows_unseen(table) else None
                values.append(_percent(mean))
            size = [_bytes(table.sizes.get(name), score)] if sized else []
            cells.append([name, *about, *size, *values])
    return cells


def _bytes(images: int | None, score: Score) -> str:
    """Of images and of the soft labels that a set brings or that are stored."""
    return "-" if images is None else f"{images + score.label_bytes:,}"


def _shows_top5(table: Table) -> bool:
    return (table.classes or 0) >= MANY and any(score.top5 for score in table.scores.values())


def _shows_unseen(table: Table) -> bool:
    return len(table.protocol.students) > 1 and len(table.unseen) > 1


def _percent(accuracies: tuple[float, ...] | None) -> str:
    if accuracies is None:
        return "-"
    mean, std = sum(accuracies) / len(accuracies), spread(accuracies)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _captions(tables: tuple[Table, ...]) -> list[str]:
    """What the numbers are: one line for each table, and what its labels are."""
    lines = []
    for table in tables:
        protocol = table.protocol
        seeds = (
            "1 seed" if protocol.seeds == 1 else f"mean ± sample std over {protocol.seeds} seeds"
        )
        lines.append(
            f"Test accuracy in %, {seeds}, ipc {table.ipc}, protocol {protocol.name} "
            f"({protocol.hash}): {protocol.steps} steps for every row"
            f"{' at most, less what InfoBatch leaves out' if protocol.infobatch else ''}."
        )
        images = table.ipc * (table.classes or 0)
        if 0 < images < protocol.batch:
            lines.append(
                f"At ipc {table.ipc} a set is smaller than the batch of {protocol.batch}: its "
                "epochs are one full batch each."
            )
        if protocol.unsettled:
            lines.append(f"The sources do not settle its {', '.join(protocol.unsettled)}.")
        lines += _labels(table.scores)
    return list(dict.fromkeys(lines))


def _labels(scores: Mapping[str, Score]) -> list[str]:
    """Of what soft labels are made, what they cost, and how far they agree with the sets'."""
    facts = next(iter(scores.values())).labels
    if not facts:
        return []
    if facts["source"] == "brought":
        return [f"Sets with soft labels of their own: {facts['label_bytes']:,} bytes."]
    cost = f", {facts['label_bytes']:,} bytes" if "label_bytes" in facts else ""
    teachers = facts["teachers"]
    assert isinstance(teachers, list | tuple) and isinstance(facts["teacher_accuracy"], float)
    return [
        f"Soft labels ({facts['source']}{cost}) of {' and '.join(teachers)}, right on "
        f"{100 * facts['teacher_accuracy']:.1f} % of real test images{_on_views(scores)}; "
        f"{facts['teacher_bytes']:,} bytes."
    ]


def _on_views(scores: Mapping[str, Score]) -> str:
    """Of each set's views, the share that teachers name as the set does; old tables lack it."""
    shares = {name: score.labels.get("teacher_accuracy_on_views") for name, score in scores.items()}
    told = [
        f"{100 * share:.1f} % ({name})"
        for name, share in shares.items()
        if isinstance(share, float)
    ]
    return f" and on what students see of the sets: {', '.join(told)}" if told else ""


def _notes(tables: tuple[Table, ...]) -> list[str]:
    lines = [f"{name}: missing, {why}." for table in tables for name, why in table.missing.items()]
    return list(dict.fromkeys(lines))


def _fit(row: list[str], widths: list[int]) -> list[str]:
    """The first cell to the left, numbers to the right."""
    first, *rest = row
    return [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
