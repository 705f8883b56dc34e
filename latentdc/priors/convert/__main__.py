"""`python -m latentdc.priors.convert model.ckpt --config cin256-v2.yaml OUT`.

Turns a latent diffusion checkpoint in CompVis' layout into a prior in the layout of diffusers. The
checkpoint's own code and packages are not needed, and nothing in it is run.
"""

import argparse
from pathlib import Path

from latentdc import cli, io
from latentdc.errors import InputError
from latentdc.priors.convert.shape import class_names, read_yaml


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = "Convert a CompVis latent diffusion checkpoint into a prior for latentdc."
    parser.add_argument("checkpoint", type=Path, help="torch file, such as model.ckpt")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument("--config", type=Path, required=True, help="the YAML that belongs to it")
    parser.add_argument("--classes", type=Path, help="file with a class name per line")
    parser.add_argument("--ema", action="store_true", help="take the UNet's averaged weights")


def run(options: argparse.Namespace) -> None:
    """Convert a checkpoint and say what became of it."""
    cli.one_process("latentdc convert-prior")
    io.require_free(options.out)
    model = read_yaml(options.config)
    if model.classes is None and options.classes:
        raise InputError("--classes names the classes of a model that has none.")
    names = class_names(model.classes, options.classes) if model.classes else None
    from latentdc.priors.convert.weights import convert

    given = [options.checkpoint.name, "--config", options.config.name]
    given += ["--classes", options.classes.name] if options.classes else []
    given += [*["--ema"] * options.ema, options.out.name]
    rows = convert(
        options.checkpoint,
        options.config,
        options.out,
        model=model,
        class_names=names,
        command=" ".join(["latentdc convert-prior", *given]),
        ema=options.ema,
    )
    for name in ("parameters", "left out"):
        print(f"{name}: {rows[name]}")
    print(f"prior: {options.out}")


main = cli.entry("convert-prior")

if __name__ == "__main__":
    main()
