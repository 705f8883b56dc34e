"""`latentdc compare RUN RUN ...`: results side by side. Imports no torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from latentdc import cli
from latentdc.errors import InputError
from latentdc.io import write_text
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
    from latentdc.results.comparison import to_markdown
    from latentdc.results.runs import read_runs

    frame, value = read_runs(options.runs), "top5" if options.top5 else "accuracy"
    if frame[value].isna().all():
        raise InputError(
            "no result of these files holds top-5 accuracies: they are of five classes or fewer; "
            "leave --top5 out."
        )
    names = list(dict.fromkeys(frame["name"]))
    if options.against not in (None, *names):
        raise InputError(
            f"--against {options.against}: there is no such set{nearest(options.against, names)}; "
            f"there are {', '.join(names)}."
        )
    text = on_terminal(to_markdown(frame, options.against, value))
    write_text(options.output / TABLE, text + "\n")
    print(f"{text}\n\ntables: {options.output / TABLE}")
    try:
        from latentdc.results.frontier import save_frontier

        panels = save_frontier(options.output / PICTURE, frame, value)
    except ImportError:
        print('no picture: it needs matplotlib (pip install ".[plots]").')
        return
    print(
        f"picture: {options.output / PICTURE}"
        if panels
        else "no picture: the bytes of no set are known."
    )


if __name__ == "__main__":
    main()
