"""`python -m latentdc.ablate RECIPE`: change one thing at a time, and compare.

Imports no torch before all variants are checked.
"""

from collections.abc import Sequence

from latentdc import config
from latentdc.ablate.variants import VARIANTS, expand
from latentdc.cli import exits, recipe_parser, run_folder
from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.io import locked
from latentdc.run_folder import check_folder

STEPS = (2, 5, 10, 20, 50)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = recipe_parser(
        "latentdc ablate",
        "Run a recipe and variants of it that differ in one thing, and print one table; or draw "
        "how strong a gradient reaches the latents.",
    )
    parser.add_argument(
        "--variants",
        help=f"joined by commas, of {', '.join(VARIANTS)}; all by default",
    )
    parser.add_argument(
        "--gradients",
        nargs="?",
        const=",".join(map(str, STEPS)),
        metavar="STEPS",
        help="measure the gradient of z for these numbers of denoising steps, under each skip, "
        "in place of the runs (default: %(const)s)",
    )
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        path = config.find(options.recipe, "recipes")
        names = None if options.variants is None else options.variants.split(",")
        names = [] if options.gradients is not None else names
        recipes = expand(path, options.overrides, names, check)
        unchanged = next(iter(recipes.values()))
        if options.print_config:
            print(config.to_yaml(unchanged), end="")
            return
        folder = run_folder(unchanged.output, f"{path.stem}_ablation")
        if options.gradients is not None:
            steps = _numbers(options.gradients)
            from latentdc.ablate.gradients import draw

            with locked(folder):
                draw(unchanged, steps, folder)
            return
        for name, recipe in recipes.items():
            check_folder(recipe, folder / name)
        from latentdc.ablate.runs import compare

        compare(recipes, path.stem, folder, options.recipe, options.overrides)

    exits(work)


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers of denoising steps, ascending.

    Raises:
        InputError: others, or below 2, where the skips are not defined.
    """
    try:
        steps = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        steps = ()
    if not steps or steps[0] < 2 or steps[-1] > 1000:
        raise InputError(
            f"--gradients takes numbers of denoising steps from 2 to 1000 such as 2,5,10, "
            f"got {text!r}."
        )
    return steps


if __name__ == "__main__":
    main()
