"""`python -m latentdc.evaluate SET ... [key=value ...]`: score saved sets under protocols.

A SET is a run folder, the folder of a set, the file of a core set, a data set id of the Hub, or a
set of others: image folders, parquet files, .pt or .npz tensors. The recipe that lies with the
first says which data, protocol and rows; `--recipe` names another one.
Imports no torch until the recipe is checked.
"""

import argparse
from collections.abc import Sequence, Set
from pathlib import Path

from latentdc import cli, config, locks, ranks
from latentdc.commands.sets import image_count, output_folder, read_sets, set_arguments
from latentdc.errors import InputError
from latentdc.evaluate.loading import changes_for, check_names, protocol_words, recipe_protocol
from latentdc.recipe import BASELINES, Recipe
from latentdc.recipe.evaluate import said_by
from latentdc.recipe.protocol import EvalProtocol
from latentdc.results.result import EVALUATION, load
from latentdc.synthetic.open import SetSource

_CHANGEABLE = ("protocol", "evaluate", "data", "threads", "precision", "processes")


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Train students on saved sets, and on random images beside them, and test them on the "
        "real test set. protocol=rdc-hard, protocol.epochs=30 or evaluate.students=[alexnet@32] "
        "say how."
    )
    set_arguments(parser)
    parser.add_argument("--labels", help="folder of stored soft labels of a set (default: made)")
    parser.add_argument("--print-config", action="store_true", help="print recipe and protocols")


def run(options: argparse.Namespace) -> None:
    """Check the recipe, score the sets and their baselines, print the table."""
    sets, written = cli.split_words(options.words)
    names, changes, overrides = protocol_words(written)
    if not sets:
        raise InputError(f"name a set to score, got only {' '.join(options.words)}; see --help.")
    check_names(names)
    sources, recipe = read_sets(sets, overrides, options, _CHANGEABLE)
    if len({source.path.resolve() for source in sources}) < len(sources):
        raise InputError(f"two of these are the same set: {' '.join(sets)}; name it once.")
    recipes = _recipes(sources, recipe, options.recipe)
    names = names or [recipe.evaluate.protocol]
    given = {key for override in overrides for key in config.keys_of(override)}
    if "evaluate.protocol" in given and recipe.evaluate.protocol not in names:
        raise InputError(
            f"evaluate.protocol={recipe.evaluate.protocol} and protocol={','.join(names)} say the "
            "same; give one."
        )
    if "evaluate.changes" in given and recipe.evaluate.protocol not in names:
        raise InputError(
            f"evaluate.changes is of the recipe's protocol, {recipe.evaluate.protocol}, and not of "
            f"{', '.join(names)}; write protocol.KEY=VALUE."
        )
    protocols = _protocols(names, changes, recipe, given)
    if options.labels is not None and all(p.labels.source != "stored" for p in protocols):
        raise InputError(
            "--labels names stored soft labels, and the protocol stores none; add "
            "protocol.labels.source=stored to one with soft labels."
        )
    if options.print_config:
        cli.print_result("---\n".join(map(config.to_yaml, [recipe, *protocols])).rstrip("\n"))
        return
    if options.recipe is None and "data.source" not in given:
        ranks.say("note", f"test data: {recipe.data.source}, by the set's own recipe")
    if options.dry_run:
        from latentdc.cost import Hardware, describe_evaluation

        counts = {name: image_count(p, recipe) for name, p in zip(sets, sources, strict=True)}
        rows = [row for row in dict.fromkeys(["random", *recipe.evaluate.rows]) if row in BASELINES]
        hardware = Hardware.of(options, recipe.processes)
        cli.print_result(describe_evaluation(recipe, protocols, counts, rows, hardware))
        return
    labels = None if options.labels is None else Path(options.labels)
    output = output_folder(sources, options.output, recipe.data)
    with locks.locked(output):
        if (output / EVALUATION).exists():
            # One that nothing can be added to is refused before hours of work.
            load(output / EVALUATION)
        ranks.say("evaluate", f"{', '.join(sets)} under {', '.join(names)}")
        from latentdc.commands.scoring import score_saved

        score_saved(sources, recipes, protocols, output, labels)


def _protocols(
    names: Sequence[str], changes: Sequence[str], recipe: Recipe, given: Set[str]
) -> list[EvalProtocol]:
    """Checked against the images' size; the recipe's own protocol with its `evaluate.changes`.

    `given` are the recipe's keys that the command names.
    """
    protocols = []
    for name in names:
        own = changes_for(name, names, changes)
        for key, same in said_by(own).items():
            if f"evaluate.{key}" in given and getattr(recipe.evaluate, key) not in (None, False):
                raise InputError(f"evaluate.{key} and protocol.{same} say the same; give one.")
        protocol = recipe_protocol(recipe.evaluate, name, own)
        protocol.check_students(recipe.data.size, recipe.data.kind)
        if recipe.evaluate.learned_lr:
            protocol.with_learned_lr(protocol.lr)
        protocols.append(protocol)
    return protocols


def _recipes(sources: Sequence[SetSource], recipe: Recipe, named: str | None) -> list[Recipe]:
    """A recipe for each set: the named one, else its own, else the first set's."""
    others = [None if named is not None else source.own_recipe for source in sources[1:]]
    return [recipe, *(recipe if own is None else config.load(Recipe, own) for own in others)]


main = cli.entry("evaluate")

if __name__ == "__main__":
    main()
