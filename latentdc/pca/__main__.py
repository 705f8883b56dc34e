"""`python -m latentdc.pca RECIPE`: prune, combine into mosaics, evaluate with crops inside a cell.

Imports no torch before the recipe is checked.
"""

import argparse
from collections.abc import Sequence

from latentdc import cli, config
from latentdc.evaluate.words import check_names, protocol_words
from latentdc.io import locked
from latentdc.pca.plan import protocols, runs
from latentdc.pca.variants import VARIANTS, chosen
from latentdc.recipe import Recipe
from latentdc.recipe.data import require_images
from latentdc.recipe.prune import check_prune
from latentdc.run_folder import check_folder

DEFAULT = "P+C+A"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    options = _parser().parse_intermixed_args(argv)
    cli.exits(lambda: _work(options))


def _parser() -> argparse.ArgumentParser:
    parser = cli.recipe_parser(
        "latentdc pca",
        "Prune a recipe's images, combine them into mosaics, and train students on crops inside "
        "one cell; or compare these steps and RDED in one table, under several protocols "
        "(protocol=[rdc-hard,rdc-soft]).",
    )
    parser.add_argument(
        "--variants",
        default=DEFAULT,
        help=f"rows of the table, joined by commas, of {', '.join(VARIANTS)} (default: {DEFAULT}); "
        "all for each of them",
    )
    parser.add_argument("--ipcs", help="images per class, such as 1,10: a run of each in one table")
    return parser


def _work(options: argparse.Namespace) -> None:
    every = options.variants == "all"
    variants = chosen(list(VARIANTS) if every else options.variants.split(","))
    path = config.find(options.recipe, "recipes")
    names, changes, overrides = protocol_words(options.overrides)
    check_names(names)
    recipe = config.load(Recipe, path, overrides)
    require_images(recipe.data, "latentdc pca")
    folder = cli.run_folder(recipe.output, path.stem)
    each = runs(recipe, folder, options.ipcs)
    check_prune(each[0][0].prune, recipe.data)
    pairs = protocols(recipe, names, changes)
    if options.print_config:
        settings = [pair[cells] for pair in pairs for cells in pair] if names else []
        print("---\n".join(map(config.to_yaml, [each[0][0], *settings])), end="")
        return
    for one, place in each:
        check_folder(one, place)
    with locked(folder, *(place for _, place in each)):
        from latentdc.pca.run import run

        run(each, path.stem, folder, variants, pairs)


if __name__ == "__main__":
    main()
