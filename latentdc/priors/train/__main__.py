"""Training a small prior: `python -m latentdc.priors.train recipes/priors/x.yaml`."""

import os
from argparse import Namespace

from latentdc import cli, config, locks, ranks, run_folder
from latentdc.errors import InputError
from latentdc.recipe.prior_training import PriorRecipe

# What says nothing about the weights.
_LOCAL = ("output=", "data.source=", "data.cache=", "threads=", "trackers=")

_SHAPES = ("autoencoder", *(f"unet.{name}" for name in ("channels", "attention", "condition")))
_SHAPES += ("unet.layers", "unet.heads")


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Train a small latent diffusion prior, or go on training it, and write it to OUTPUT/prior."
    )
    cli.recipe_arguments(parser, PriorRecipe)
    parser.add_argument(
        "--from",
        dest="start",
        metavar="PRIOR",
        help="fine-tune a shipped prior, a folder or a Hub id: the key start of the recipe",
    )


def run(options: Namespace) -> None:
    """Train the prior of a recipe and write it as a folder in diffusers layout."""
    if options.start is not None:
        if any("start" in config.keys_of(override) for override in options.overrides):
            raise InputError("--from and start=... say the same; give one.")
        options.overrides.append(f"start={options.start}")
    recipe, name = cli.read_recipe(PriorRecipe, options)
    cli.one_process("latentdc train-prior")
    if recipe.start is not None:
        why = f"start={recipe.start}, whose autoencoder and shape of the UNet stay as they are"
        cli.tell_unread(options.overrides, dict.fromkeys(_SHAPES, why))
    if options.dry_run:
        from latentdc.cost.prior_training import describe_prior
        from latentdc.cost.stages import Hardware

        cli.print_result(describe_prior(recipe, Hardware.of(options)))
        return
    words = ["python -m latentdc.priors.train", options.recipe]
    words += [word for word in options.overrides if not word.startswith(_LOCAL)]
    folder = cli.run_folder(recipe.output, f"priors/{name}")
    run_folder.require_apart(recipe.data, folder)
    with locks.locked(folder):
        ranks.say("train-prior", f"{name}, in {folder}")
        if (precision := os.environ.get("ACCELERATE_MIXED_PRECISION", "no")) != "no":
            ranks.warn(f"priors are trained in float32; mixed_precision={precision} is left out.")
        from latentdc.priors.training import train_prior

        train_prior(recipe, name, folder, " ".join(words))


main = cli.entry("train-prior")

if __name__ == "__main__":
    main()
