"""`python -m latentdc.evaluate SET ... [key=value ...]`: score saved sets under protocols.

A SET is a run folder, the folder of a set, the file of a core set, a data set id of the Hub, or a
set of others: image folders, parquet files, .pt or .npz tensors. The recipe that lies with the
first says which data, protocol and rows; `--recipe` names another one.
Imports no torch until the recipe is checked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from latentdc import config
from latentdc.cli import Parser, exits, split_words
from latentdc.errors import InputError
from latentdc.evaluate.loading import changes_for, check_names, load_protocol, protocol_words
from latentdc.io import locked
from latentdc.ranks import say
from latentdc.recipe import Recipe
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.open import Place, find

CHANGEABLE = ("evaluate", "data", "threads", "precision", "processes")


def main(argv: Sequence[str] | None = None) -> None:
    """Check the recipe, score the sets and their baselines, print the table."""
    options = _parser().parse_intermixed_args(argv)
    exits(lambda: _evaluate(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="latentdc evaluate",
        description="Train students on saved sets, and on random images beside them, and test them "
        "on the real test set.",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="SET",
        help="run folder, folder of a set, coreset.parquet, Hub data set id, or a set of others "
        "(folder of image folders or parquet files, .pt or .npz tensors); then key=value, "
        "such as protocol=rdc-hard, protocol.epochs=30 or evaluate.students=[alexnet@32]",
    )
    parser.add_argument("--recipe", help="recipe to use in place of the one that lies with the set")
    parser.add_argument("--ipc", type=int, help="read the first so many images of each class")
    parser.add_argument(
        "--numbers",
        choices=get_args(Numbers),
        help="what class numbers in sets of others are: names of classes, or positions among them",
    )
    parser.add_argument(
        "--output", help="folder of evaluation.json and trainings/ (default: the run's)"
    )
    parser.add_argument("--labels", help="folder of stored soft labels of a set (default: made)")
    parser.add_argument("--print-config", action="store_true", help="print recipe and protocols")
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    sets, written = split_words(options.words)
    names, changes, overrides = protocol_words(written)
    if not sets:
        raise InputError(f"name a set to score, got only {' '.join(options.words)}; see --help.")
    if len(set(sets)) < len(sets):
        raise InputError(f"a set is named twice: {' '.join(sets)}.")
    check_names(names)
    if options.ipc is not None and options.ipc < 1:
        raise InputError(f"--ipc is at least 1, got {options.ipc}.")
    places = [find(given, options.ipc, options.numbers) for given in sets]
    if len({place.path.resolve() for place in places}) < len(places):
        raise InputError(f"two of these are the same set: {' '.join(sets)}; name it once.")
    if options.numbers is not None and all(place.kind is None for place in places):
        raise InputError(f"--numbers is about sets of others, and {sets[0]} is latentdc's own.")
    named = options.recipe
    path = places[0].recipe if named is None else config.find(named, "recipes")
    recipe = config.load(Recipe, path, _allowed(overrides))
    recipes = _recipes(places, recipe, named)
    names = names or [recipe.evaluate.protocol]
    changed = any(override.startswith("evaluate.changes=") for override in overrides)
    if changed and recipe.evaluate.protocol not in names:
        raise InputError(
            f"evaluate.changes is of the recipe's protocol, {recipe.evaluate.protocol}, and not of "
            f"{', '.join(names)}; write protocol.KEY=VALUE."
        )
    protocols = _protocols(names, changes, recipe)
    if options.labels is not None and all(p.labels.source != "stored" for p in protocols):
        raise InputError(
            "--labels names stored soft labels, and the protocol stores none; add "
            "protocol.labels.source=stored to one with soft labels."
        )
    if options.print_config:
        print("---\n".join(map(config.to_yaml, [recipe, *protocols])), end="")
        return
    if named is None and not any(override.startswith("data.source=") for override in overrides):
        say("note", f"test data: {recipe.data.source}, by the set's own recipe")
    labels = None if options.labels is None else Path(options.labels)
    output = _output(places, options.output)
    with locked(output):
        from latentdc.evaluate.saved import score_saved

        score_saved(places, recipes, protocols, output, labels)


def _protocols(names: Sequence[str], changes: Sequence[str], recipe: Recipe) -> list[EvalProtocol]:
    """Checked against the images' size; the recipe's own protocol with its `evaluate.changes`."""
    wanted = recipe.evaluate
    protocols = []
    for name in names:
        own = wanted.changes if name == wanted.protocol else []
        protocol = load_protocol(
            name,
            students=wanted.students,
            seeds=wanted.seeds,
            steps=wanted.steps,
            changes=[*own, *changes_for(name, names, changes)],
        )
        protocol.check_students(recipe.data.size, recipe.data.kind)
        protocols.append(protocol)
    return protocols


def _recipes(places: Sequence[Place], recipe: Recipe, named: str | None) -> list[Recipe]:
    """Of each set: the named one, else the one that lies with it, else the first set's."""
    others = [None if named is not None else place.own_recipe for place in places[1:]]
    return [recipe, *(recipe if own is None else config.load(Recipe, own) for own in others)]


def _allowed(overrides: Sequence[str]) -> Sequence[str]:
    """Refuse overrides that would describe another set than the saved one."""
    for override in overrides:
        key = override.partition("=")[0]
        if key.partition(".")[0] not in CHANGEABLE:
            raise InputError(
                f"{key!r} changes nothing about a saved set; here protocol and "
                f"{', '.join(CHANGEABLE)} can be set, such as evaluate.seeds=5."
            )
    return overrides


def _output(places: Sequence[Place], given: str | None) -> Path:
    """The run folder of a set that lies in one, else one named after the set or the evaluation."""
    if given is not None:
        return Path(given)
    if len(places) > 1:
        return Path("runs") / "evaluation"
    place = places[0]
    return place.run if place.run != place.path else Path("runs") / Path(place.given).name


if __name__ == "__main__":
    main()
