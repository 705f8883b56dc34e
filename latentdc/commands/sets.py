"""What the commands over saved sets, evaluate and measure, share. Imports no torch."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from latentdc import config
from latentdc.cli import Parser
from latentdc.errors import InputError
from latentdc.io import require_writable
from latentdc.recipe import Data, Recipe
from latentdc.recipe.own import is_own, refuse_names
from latentdc.run_folder import require_apart
from latentdc.synthetic import folder as layout
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.open import SetSource, find_set


def set_arguments(parser: Parser) -> None:
    """Add what every command over saved sets takes."""
    parser.schema = Recipe
    parser.add_argument(
        "words",
        nargs="+",
        metavar="SET",
        help="run folder, folder of a set, coreset.parquet, Hub data set id, or a set of others "
        "(folder of image folders or parquet files, .pt or .npz tensors); then key=value, such as "
        "data.source=FOLDER",
    )
    parser.add_argument("--recipe", help="recipe to use in place of the one that lies with the set")
    parser.add_argument("--ipc", type=int, help="read the first so many images of each class")
    parser.add_argument(
        "--numbers",
        choices=get_args(Numbers),
        help="what class numbers in sets of others are: names of classes, or positions among them",
    )
    parser.add_argument("--output", help="folder of what is written (default: the run's)")


def read_sets(
    sets: Sequence[str],
    overrides: Sequence[str],
    options: argparse.Namespace,
    changeable: Sequence[str],
    used: Sequence[str] = ("data", "prune", "prior", "evaluate"),
) -> tuple[list[SetSource], Recipe]:
    """Where the sets lie, and the recipe that is named or lies with the first.

    `changeable` are the sections of the recipe that do not describe the making of a set, `used`
    those that the command looks at; in the recipe of a set these name no code.
    """
    for key in (override.partition("=")[0] for override in overrides):
        if key.partition(".")[0] not in changeable:
            raise InputError(
                f"{key!r} changes nothing about a saved set; here {', '.join(changeable)} can be "
                "set, such as data.source=FOLDER."
            )
    if options.ipc is not None and options.ipc < 1:
        raise InputError(f"--ipc is at least 1, got {options.ipc}.")
    sources = [find_set(given, options.ipc, options.numbers) for given in sets]
    if options.numbers is not None and all(source.kind is None for source in sources):
        raise InputError(f"--numbers is about sets of others, and {sets[0]} is latentdc's own.")
    named = options.recipe
    path = sources[0].recipe if named is None else config.find(named, "recipes")
    recipe = config.load(Recipe, path, overrides)
    if named is None:
        given = [override.partition("=")[0] for override in overrides]
        _refuse_code(recipe, sets[0], given, used)
    return sources, recipe


def _refuse_code(recipe: Recipe, name: str, given: Sequence[str], used: Sequence[str]) -> None:
    """Refuse code that the recipe of a set names where saved sets are looked at."""
    where = f"the recipe of {name}"
    for section in used:
        refuse_names(getattr(recipe, section), where, given=given, prefix=f"{section}.")
    if "evaluate" in used and "evaluate.changes" not in given:
        words = re.split(r"[^\w.:#]+", " ".join(recipe.evaluate.changes))
        if code := [word for word in words if is_own(word)]:
            raise InputError(
                f"evaluate.changes in {where} names code, {code[0]}, which is not imported from "
                "what others share; if it is yours, write evaluate.changes=... yourself."
            )


def image_count(source: SetSource, recipe: Recipe) -> int | None:
    """How many images a set has; None of one made elsewhere, unless `--ipc` says it."""
    if source.kind is not None:
        from latentdc.data.open import class_count

        classes = class_count(recipe.data)
        return None if source.ipc is None or classes is None else source.ipc * classes
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    path = source.path if source.is_core else source.path / layout.ROWS
    try:
        return int(read_metadata(path).num_rows)
    except ArrowException as error:
        raise InputError(f"cannot read {path}: {error}.") from error


def output_folder(sources: Sequence[SetSource], given: str | None, data: Data) -> Path:
    """The run folder of a set that lies in one, else one named after the set or the evaluation.

    A given one that cannot be written, or lies among the images of `data`, is refused.
    """
    first = sources[0]
    if given is not None:
        folder = Path(given).expanduser()
        require_writable(folder, "--output")
    elif len(sources) > 1:
        folder = Path("runs") / "evaluation"
    else:
        folder = first.run if first.run != first.path else Path("runs") / Path(first.given).name
    require_apart(data, folder, "--output FOLDER", tables=False)
    return folder
