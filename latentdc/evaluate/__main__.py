"""`python -m latentdc.evaluate SET [key=value ...]`: score a saved synthetic set.

SET is a run folder, the folder of a set, or a data set id of the Hub. The recipe that lies with the
set says which data, protocol and rows; `--recipe` names another one. Imports no torch until the
recipe is checked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from latentdc import config
from latentdc.cli import exits
from latentdc.errors import InputError
from latentdc.evaluate.protocol import load_protocol
from latentdc.recipe import Recipe
from latentdc.synthetic import folder as layout

CHANGEABLE = ("evaluate", "data", "threads", "precision", "processes")


def main(argv: Sequence[str] | None = None) -> None:
    """Check the recipe, score the set and its baselines, print the table."""
    options = _parser().parse_intermixed_args(argv)
    exits(lambda: _evaluate(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latentdc evaluate",
        description="Train students on a saved synthetic set, and on random images beside it, and "
        "test them on the real test set.",
    )
    parser.add_argument("set", help="run folder, folder of a synthetic set, or Hub data set id")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as evaluate.students=[alexnet@32]"
    )
    parser.add_argument("--recipe", help="recipe to use in place of the one that lies with the set")
    parser.add_argument("--output", help="folder of evaluation.json and rows/ (default: the run's)")
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe")
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    folder = layout.find(options.set)
    recipe = config.load(Recipe, _recipe(folder, options.recipe), _allowed(options.overrides))
    wanted = recipe.evaluate
    protocol = load_protocol(
        wanted.protocol, students=wanted.students, seeds=wanted.seeds, steps=wanted.steps
    )
    protocol.check_students(recipe.data.resolution)
    if options.print_config:
        print(config.to_yaml(recipe), end="")
        return
    from latentdc.evaluate.saved import score_saved

    score_saved(folder, recipe, protocol, _output(folder, options))


def _recipe(folder: Path, named: str | None) -> Path:
    """The recipe named, that of the set's run, or the one that the set carries, without paths."""
    if named is not None:
        return config.find(named, "recipes")
    run = folder.parent if folder.name == "synthetic" else folder
    for candidate in (run / layout.RECIPE, folder / layout.RECIPE):
        if candidate.is_file():
            return candidate
    raise InputError(
        f"no {layout.RECIPE} lies with the set {folder}; name the recipe whose data and evaluation "
        "apply: --recipe RECIPE."
    )


def _allowed(overrides: Sequence[str]) -> Sequence[str]:
    """Refuse overrides that would describe another set than the saved one."""
    for override in overrides:
        key = override.partition("=")[0]
        if "=" in override and key.partition(".")[0] not in CHANGEABLE:
            raise InputError(
                f"{key!r} changes nothing about a saved set; here {', '.join(CHANGEABLE)} can be "
                "set, such as evaluate.seeds=5."
            )
    return overrides


def _output(folder: Path, options: argparse.Namespace) -> Path:
    """The run folder of a set that lies in one, else one named after the set."""
    if options.output is not None:
        return Path(options.output)
    return folder.parent if folder.name == "synthetic" else Path("runs") / Path(options.set).name


if __name__ == "__main__":
    main()
