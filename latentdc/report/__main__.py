"""`latentdc report RUN ...`: one HTML page of any runs. No torch before arguments are read."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import cli, config, io
from latentdc.errors import InputError
from latentdc.recipe import Recipe

if TYPE_CHECKING:
    from latentdc.data.dataset import Dataset


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "One HTML page, which needs no network: images, accuracies, curves, costs, scores and how "
        "to repeat it."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a run, sweep or pruning, or a file of results",
    )
    parser.add_argument(
        "--real",
        action="store_true",
        help="show real images too: the nearest of each synthetic one, the easiest and hardest; "
        "their licence is theirs",
    )
    parser.add_argument(
        "--against", metavar="SET", help="subtract this set (default: the random row)"
    )
    parser.add_argument(
        "--top5", action="store_true", help="of the right class among five, in place of the first"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html in the folder of the run, or here if there are several",
    )


def run(options: argparse.Namespace) -> None:
    """Write the page."""
    cli.one_process("latentdc report")
    first = Path(options.runs[0]).expanduser()
    folder = first.parent if first.is_file() else first
    output = options.output or (folder if len(options.runs) == 1 else Path()) / "report.html"
    output = output.expanduser()
    io.require_writable(output.parent, "--output")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name a file, such as report.html.")
    if output.suffix.lower() not in (".html", ".htm"):  # a recipe, or results
        raise InputError(
            f"--output {output} would be a page, which ends in .html; name such a file."
        )
    recipe = _recipe(folder) if options.real else None
    from latentdc.report.page import write

    value = "top5" if options.top5 else "accuracy"
    real = None if recipe is None else partial(_real_images, recipe)
    print(f"report: {write(output, options.runs, real=real, against=options.against, value=value)}")


def _recipe(folder: Path) -> Recipe:
    """The first recipe at or below a folder."""
    found = sorted(folder.rglob(config.RECIPE), key=lambda path: (len(path.parts), str(path)))
    if not found:
        raise InputError(
            f"--real opens the data of the run's {config.RECIPE}, and {folder} has none; leave "
            "--real out, or give a run folder first."
        )
    return config.load(Recipe, found[0])


def _real_images(recipe: Recipe) -> "Dataset":
    """The training images of a recipe."""
    from latentdc.data.open import open_dataset

    return open_dataset(recipe.data, "train")


main = cli.entry("report")

if __name__ == "__main__":
    main()
