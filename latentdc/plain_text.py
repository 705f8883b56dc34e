"""Tables as text, and names that people chose where something would act on them.

What acts is Markdown, LaTeX, a spreadsheet, matplotlib or a terminal. HTML is escaped by jinja2.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$"},
}


_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")  # of Unicode: what follows runs the other way


@dataclass(frozen=True)
class Number:
    """A number of a table as it is written, and as it is sorted and drawn by.

    Attributes:
        text: such as `56.5 ± 1.2`.
        value: in the unit of the text; None where there is none.
        error: what stands after ±.
    """

    text: str
    value: float | None = None
    error: float | None = None

    def __str__(self) -> str:
        return self.text


Rows = Sequence[Sequence[str | Number]]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def markdown_table(rows: Rows, *, left: int = 1, cell: Callable[[str], str] = _cell) -> str:
    """A Markdown table, whose first row is the header.

    Args:
        rows: cells, as many in each.
        left: columns of names, which stand to the left; numbers stand to the right.
        cell: of a text; `in_markdown` where others' names are published.
    """
    header, *body = rows
    align = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [[cell(str(text)) for text in row] for row in (header, *body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], align, *lines[1:]))


def aligned_table(rows: Rows) -> str:
    """Aligned columns, whose first row is the header; names to the left, numbers to the right.

    Each row is a line: what would end it, or act on a terminal, is escaped.
    """
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*texts, strict=True)]
    header, *body = texts
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    spaces = [" " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
    numbers = [space + text for space, text in zip(spaces[1:], line[1:], strict=True)]
    return [line[0] + spaces[0], *numbers]


def _width(text: str) -> int:
    """Columns of a terminal that text takes: two for a wide character, none for a mark on one."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.category(character) in ("Mn", "Me") for character in text)
    return len(text) + wide - marks


def latex_table(rows: Rows, caption: str) -> str:
    """A `table` of LaTeX with the rules of booktabs, whose first row is the header."""
    columns = "l" + "r" * (len(rows[0]) - 1)
    header, *body = (f"{' & '.join(_in_latex(str(cell)) for cell in row)} \\\\" for row in rows)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_in_latex(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", header, r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def csv_table(rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values, whose first row is the header; None is an empty cell.

    Text that a spreadsheet would take for a formula has a quote before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_in_csv(c) if isinstance(c, str) else c for c in row] for row in rows)
    return text.getvalue().rstrip("\n")


def _in_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula; an ordinary one stays as it is."""
    return f"'{text}" if re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]", text) else text


def _in_latex(text: str) -> str:
    """Text in which LaTeX finds nothing to act on, in one line; minus signs of numbers are ones."""
    escaped = "".join(_LATEX.get(character, character) for character in in_one_line(text))
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)


def in_markdown(value: object) -> str:
    """Text in which Markdown and HTML find nothing to act on, in one line."""
    return re.sub(r"[\\`*\[\]<>|~$&#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", in_one_line(value))


def in_one_line(value: object) -> str:
    """Text without line breaks and what no printer prints."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def in_page(value: object) -> object:
    """What jinja2 writes: text without its own marks turns nothing that stands after it."""
    return _TURNS.sub(lambda mark: ascii(mark[0])[1:-1], value) if type(value) is str else value


def in_picture(name: str) -> str:
    """Text that matplotlib draws as it is: no mathematics, and in the legend whatever it is."""
    hidden = " " if name.startswith("_") else ""
    return hidden + on_terminal(name).replace("$", r"\$")


def on_terminal(text: str) -> str:
    """Text of any lines in which what a terminal would act on is written as its code."""
    return "\n".join(map(printable, text.split("\n")))


def printable(text: object) -> str:
    """Text that any terminal and file can hold: line breaks and odd characters are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
