"""`python -m latentdc.compare RUN RUN ...`: results side by side. Imports no torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from latentdc import cli
from latentdc.compare.entries import Entry, read_all
from latentdc.compare.groups import grouped
from latentdc.compare.render import to_markdown
from latentdc.compare.robustness import robustness
from latentdc.errors import InputError
from latentdc.evaluate.score import TOP1, TOP5
from latentdc.plain_text import on_terminal
from latentdc.recipe.fields import nearest

TABLE, PICTURE = "comparison.md", "comparison.png"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, and write them and the picture."""
    options = _parser().parse_args(argv)
    cli.exits(lambda: _compare(options))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog="latentdc compare",
        description="Accuracies of any number of runs by protocol, differences paired by seed, "
        "and accuracy against storage.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run or sweep, or a file of results"
    )
    parser.add_argument("--against", metavar="SET", help="subtract this set (default: the first)")
    parser.add_argument(
        "--top5", action="store_true", help="of the right class among five, in place of the first"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/comparison"),
        help=f"folder of {TABLE} and {PICTURE} (default: runs/comparison)",
    )
    return parser


def _compare(options: argparse.Namespace) -> None:
    cli.one_process("latentdc compare")
    entries = read_all(options.runs, TOP5 if options.top5 else TOP1)
    _check_against(options.against, entries)
    groups = grouped(entries)
    what = "top-5 test accuracy" if options.top5 else "test accuracy"
    scores = [] if options.top5 else robustness(entries)  # DD-Ranking's are of the first guess
    text = on_terminal(to_markdown(groups, scores, options.against, what))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / TABLE).write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n\ntables: {options.output / TABLE}")
    try:
        from latentdc.compare.frontier import save_frontier

        panels = save_frontier(options.output / PICTURE, groups, what)
    except ImportError:
        print('no picture: it needs matplotlib (pip install ".[plots]").')
        return
    print(
        f"picture: {options.output / PICTURE}"
        if panels
        else "no picture: the bytes of no set are known; run latentdc measure on them first."
    )


def _check_against(name: str | None, entries: Sequence[Entry]) -> None:
    names = list(dict.fromkeys(entry.name for entry in entries))
    if name is not None and name not in names:
        raise InputError(
            f"--against {name}: there is no such set{nearest(name, names)}; there are "
            f"{', '.join(names)}."
        )


if __name__ == "__main__":
    main()
