"""`latentdc compare RUN RUN ...`: results side by side. Imports no torch."""

import argparse
from pathlib import Path

from latentdc import cli, io, plain_text
from latentdc.errors import InputError

_ENDINGS = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "html": "html"}
_FIGURES = ("png", "pdf", "svg")


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Accuracies of any number of runs by protocol, differences paired by seed, and accuracy "
        "against storage."
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run or sweep, or a file of results"
    )
    parser.add_argument(
        "--against",
        metavar="SET",
        help="subtract this set (default: the first, and on a page the random row)",
    )
    parser.add_argument(
        "--top5", action="store_true", help="of the right class among five, in place of the first"
    )
    parser.add_argument(
        "--format",
        choices=list(_ENDINGS),
        help="of the tables (default: markdown, or what the ending of --output says)",
    )
    parser.add_argument(
        "--figure",
        action="append",
        choices=_FIGURES,
        help="kind of picture; may be given several times (default: png)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/comparison"),
        help="folder of comparison.md and comparison.png (default: runs/comparison), or a file "
        f"that ends in one of {', '.join(f'.{ending}' for ending in _ENDINGS.values())}",
    )


def run(options: argparse.Namespace) -> None:
    """Print the tables, and write them and the picture."""
    cli.one_process("latentdc compare")
    kind, path = _place(options.output.expanduser(), options.format)
    io.require_writable(path.parent, "--output")
    from latentdc.results.compare import compare

    found = compare(*options.runs, against=options.against, top5=options.top5)
    if kind == "html":
        from latentdc.report.page import write

        write(path, options.runs, against=found.against, value=found.value)
        print(f"report: {path}")
        if not options.figure:
            return  # the page has its own
    else:
        text = found.to(kind)
        io.write_text(path, text + "\n")
        print(f"{plain_text.on_terminal(text)}\n\ntables: {path}")
    from latentdc.results.frontier import draw_frontier, save_figure

    try:
        figure = draw_frontier(found.frame, found.value)
    except InputError as error:
        print(f"no picture: {error}")
        return
    if figure is None:
        print("no picture: the bytes of no set are known.")
        return
    pictures = [path.with_suffix(f".{kind}") for kind in options.figure or ["png"]]
    save_figure(pictures, figure)
    print(f"picture: {', '.join(map(str, pictures))}")


def _place(output: Path, kind: str | None) -> tuple[str, Path]:
    """The format of the tables, and their file; an ending that says otherwise is refused."""
    if output.suffix[1:] in _FIGURES and not output.is_dir():
        tables = output.with_suffix(".md")
        raise InputError(
            f"--output {output} ends as a picture, which is drawn beside the tables: write "
            f"--output {tables} --figure {output.suffix[1:]}."
        )
    said = {f".{ending}": name for name, ending in _ENDINGS.items()}.get(output.suffix)
    if said is None or output.is_dir():
        kind = kind or "markdown"
        return kind, output / f"comparison.{_ENDINGS[kind]}"
    if kind not in (None, said):
        raise InputError(
            f"--output {output} ends as {said} does, and --format is {kind}; leave one of them out."
        )
    return said, output


main = cli.entry("compare")

if __name__ == "__main__":
    main()
