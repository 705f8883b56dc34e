"""Training a small prior: `python -m latentdc.priors.train recipes/priors/x.yaml`."""

from collections.abc import Sequence

from latentdc import cli
from latentdc.recipe import PriorRecipe


def main(argv: Sequence[str] | None = None) -> None:
    """Train the prior of a recipe and write it as a folder in diffusers layout."""
    parser = cli.recipe_parser("latentdc train-prior", "Train a small latent diffusion prior.")
    options = parser.parse_args(argv)

    def work() -> None:
        recipe, name = cli.read_recipe(PriorRecipe, options)
        from latentdc.priors.training import train_prior

        command = (
            f"python -m latentdc.priors.train {' '.join([options.recipe, *options.overrides])}"
        )
        train_prior(recipe, name, cli.run_folder(recipe.output, f"priors/{name}"), command)

    cli.exits(work)


if __name__ == "__main__":
    main()
