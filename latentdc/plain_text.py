"""Names that people chose, where something would act on them: Markdown, matplotlib, terminals."""

import re
from collections.abc import Callable, Sequence


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def markdown_table(
    rows: Sequence[Sequence[str]], *, left: int = 1, cell: Callable[[str], str] = _cell
) -> str:
    """A Markdown table, whose first row is the header.

    Args:
        rows: cells, as many in each.
        left: columns of names, which stand to the left; numbers stand to the right.
        cell: of a text; `in_markdown` where others' names are published.
    """
    header, *body = rows
    align = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [[cell(text) for text in row] for row in (header, *body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], align, *lines[1:]))


def aligned_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, whose first row is the header; names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *body = rows
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def in_markdown(value: object) -> str:
    """Text in which Markdown and HTML find nothing to act on, in one line."""
    return re.sub(r"[\\`*\[\]<>|~$&#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", in_one_line(value))


def in_one_line(value: object) -> str:
    """Text without line breaks and what no printer prints."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


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
