"""`python -m latentdc.pca RECIPE`: prune, combine into mosaics, evaluate with crops inside a cell.

Imports no torch before the recipe is checked.
"""

from collections.abc import Sequence

from latentdc import cli, config, ownership
from latentdc.pca.variants import VARIANTS, chosen, protocols, resolved
from latentdc.prune.check import check_prune
from latentdc.recipe import Recipe

DEFAULT = "P+C+A"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = cli.recipe_parser(
        "latentdc pca",
        "Prune a recipe's images, combine them into mosaics, and train students on crops inside "
        "one cell; or compare these steps and RDED in one table.",
    )
    parser.add_argument(
        "--variants",
        default=DEFAULT,
        help=f"rows of the table, joined by commas, of {', '.join(VARIANTS)} (default: {DEFAULT}); "
        "all for each of them",
    )
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        every = options.variants == "all"
        variants = chosen(list(VARIANTS) if every else options.variants.split(","))
        path = config.find(options.recipe, "recipes")
        recipe = resolved(config.load(Recipe, path, options.overrides))
        check_prune(recipe.prune, recipe.data)
        by_cells = protocols(recipe)
        if options.print_config:
            print(config.to_yaml(recipe), end="")
            return
        folder = cli.run_folder(recipe.output, path.stem)
        ownership.check(recipe, folder)
        from latentdc.pca.run import run

        run(recipe, path.stem, folder, variants, by_cells)

    cli.exits(work)


if __name__ == "__main__":
    main()
