"""The tables of docs/performance.md, made of what `gpu.py` measured and of nothing else.

python benchmarks/gpu_page.py runs/gpu/gpu.json   # keeps it as docs/records/gpu.json, too
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentdc.io import write_json, write_text

DOCS = Path(__file__).parents[1] / "docs"
KEPT, PAGE = DOCS / "records" / "gpu.json", DOCS / "performance.md"
BEGIN, END = "<!-- made by benchmarks/gpu_page.py -->", "<!-- end -->"
NOTHING = "Nothing was measured on a GPU yet."


def main() -> None:
    (path,) = sys.argv[1:] or sys.exit("name the gpu.json that benchmarks/gpu.py wrote.")
    found = json.loads(Path(path).read_text())
    page = published(PAGE.read_text(), found)
    write_json(KEPT, found)
    write_text(PAGE, page)


def published(page: str, found: Mapping[str, Any] | None) -> str:
    """The page with the tables of a measurement in their place; None is that there is none.

    Raises:
        SystemExit: it was measured in small, or on a CPU.
    """
    if found is not None and (found["tiny"] or not found["machine"]["device"].startswith("cuda")):
        sys.exit("this was measured in small or on a CPU, and says nothing of GPUs; not published.")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = NOTHING if found is None else markdown(found)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def markdown(found: Mapping[str, Any]) -> str:
    """The machine, and a table of each part."""
    machine = found["machine"]
    text = [f"Machine: {machine['device']}, torch {machine['torch']}, commit {machine['commit']}."]
    for part in found["parts"].values():
        whole = part["ended"] == "whole"
        end = "" if whole else f"\n\nNot measured whole: {part['ended']}."
        text.append(f"### {part['title']}\n\n{table(part['rows'])}{end}")
    return "\n\n".join(text)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under their names; what one of them lacks is left empty."""
    if not rows:
        return "No row."
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([cell(row.get(n)) for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
