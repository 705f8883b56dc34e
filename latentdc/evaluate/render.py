"""A `Table` as aligned text for the terminal, and as Markdown."""

from latentdc.evaluate.score import Score, spread
from latentdc.evaluate.table import Table


def to_text(table: Table) -> str:
    """Aligned columns under a line that names the protocol."""
    cells = _cells(table)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(_fit(row, widths)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([_caption(table), "", *lines, *_notes(table)])


def to_markdown(table: Table) -> str:
    """A Markdown table over a line that names the protocol."""
    header, *rows = _cells(table)
    align = ["---", *["---:"] * (len(header) - 1)]
    lines = [f"| {' | '.join(row)} |" for row in [header, align, *rows]]
    notes = [f"\n{note}" for note in [_caption(table), *_notes(table)]]
    return "\n".join([*lines, *notes])


def _cells(table: Table) -> list[list[str]]:
    """Header and rows; with several students, a last column for the mean of the unseen ones."""
    students = table.protocol.students
    unseen = list(table.unseen) if len(students) > 1 and len(table.unseen) > 1 else []
    header = ["set", *students, *(["unseen"] if unseen else [])]
    return [header, *(_row(name, score, unseen) for name, score in table.scores.items())]


def _row(name: str, score: Score, unseen: list[str]) -> list[str]:
    values = [score.accuracies[student] for student in score.protocol.students]
    if unseen:
        values.append(score.over(unseen))
    return [name, *map(_percent, values)]


def _percent(accuracies: tuple[float, ...]) -> str:
    mean, std = sum(accuracies) / len(accuracies), spread(accuracies)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _caption(table: Table) -> str:
    protocol = table.protocol
    seeds = "1 seed" if protocol.seeds == 1 else f"mean ± sample std over {protocol.seeds} seeds"
    return (
        f"Test accuracy in %, {seeds}, ipc {table.ipc}, protocol {protocol.name} "
        f"({protocol.hash}): {protocol.steps} steps for every row."
    )


def _notes(table: Table) -> list[str]:
    return [f"{name}: missing, {why}." for name, why in table.missing.items()]


def _fit(row: list[str], widths: list[int]) -> list[str]:
    """The first cell to the left, numbers to the right."""
    first, *rest = row
    return [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]
