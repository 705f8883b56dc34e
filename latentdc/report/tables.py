"""Tables of the page: text, what a column is sorted by, and error bars that share its scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentdc.plain_text import Number
from latentdc.report.charts import Scale
from latentdc.results.comparison import Table

_ROWS = 1000  # of a table
_BAR = (60, 12)  # pixels of the error bar in a cell


@dataclass(frozen=True)
class Cell:
    """A cell of a table: text, what it is sorted by, and the error bar as pixels from the left."""

    text: str
    key: str | float
    bar: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Shown:
    """What the template draws of a table."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    bar: tuple[int, int] = _BAR


def shown(table: Table) -> Shown:
    """A table without empty columns, whose error bars share a scale in each column."""
    header, *body = table.rows
    caption = f"{table.caption} (the first {_ROWS:,} of {len(body):,} rows)"
    caption, body = (caption, body[:_ROWS]) if len(body) > _ROWS else (table.caption, body)
    known = [
        (str(name), _cells(column))
        for name, column in zip(header, zip(*body, strict=True), strict=True)
        if any(not isinstance(each, Number) or each.value is not None for each in column)
    ]
    names, columns = zip(*known, strict=True)
    return Shown(caption, names, list(zip(*columns, strict=True)))


def _cells(column: Sequence[str | Number]) -> list[Cell]:
    means = [
        (each.value, each.error)
        for each in column
        if isinstance(each, Number) and each.value is not None and each.error is not None
    ]
    low = min((mean - error for mean, error in means), default=0.0)
    high = max((mean + error for mean, error in means), default=1.0)
    scale = Scale(low, max(high, low + 1e-9), 2, _BAR[0] - 2)
    found = []
    for each in column:
        if not isinstance(each, Number):
            number = each.replace(",", "")
            found.append(Cell(each, float(number) if number.isdecimal() else each))
            continue
        bar = None
        if each.value is not None and each.error is not None:
            ends = (each.value - each.error, each.value, each.value + each.error)
            bar = (scale(ends[0]), scale(ends[1]), scale(ends[2]))
        found.append(Cell(each.text, float("-inf") if each.value is None else each.value, bar))
    return found
