"""The console script `latentdc`, and what the mains of all commands share.

Each sub-command is the `main(argv)` of the module that does the work. Imports no torch: `--help`,
`--print-config` and a wrong recipe answer at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn, TypeVar

from latentdc import config
from latentdc.errors import InputError, RunError

COMMANDS = {
    "distill": ("latentdc.distill.__main__", "prune, distil and evaluate a recipe"),
    "ablate": ("latentdc.ablate.__main__", "run variants of a recipe that differ in one thing"),
    "sweep": ("latentdc.sweep.__main__", "a table of runs over a grid of changes to a recipe"),
    "prune": ("latentdc.prune.__main__", "choose and save the core set of a recipe"),
    "pca": ("latentdc.pca.__main__", "prune, combine into mosaics and evaluate a recipe"),
    "experts": ("latentdc.experts.__main__", "train the experts that trajectory matching follows"),
    "evaluate": ("latentdc.evaluate.__main__", "score a synthetic set under a protocol"),
    "measure": ("latentdc.metrics.__main__", "storage, entropy, diversity and KID of a set"),
    "compare": ("latentdc.compare.__main__", "tables and a picture of any number of results"),
    "train-prior": ("latentdc.priors.train", "train a small latent diffusion prior"),
    "convert-prior": ("latentdc.priors.convert", "convert a CompVis checkpoint into a prior"),
    "push": ("latentdc.synthetic.push", "push a run's synthetic set to the Hugging Face Hub"),
    "export": ("latentdc.synthetic.export", "write a synthetic set as an image folder or .pt file"),
}

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one sub-command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<14} {text}" for name, (_, text) in COMMANDS.items())
        print(f"usage: latentdc COMMAND ...\n\n{lines}\n\nlatentdc COMMAND --help says more.")
        return
    command, *rest = arguments
    if command not in COMMANDS:
        hint = config.nearest(command, COMMANDS)
        _leave(f"unknown command {command!r}{hint}; known: {', '.join(COMMANDS)}.", 2)
    import_module(COMMANDS[command][0]).main(rest)


def recipe_parser(command: str, description: str) -> argparse.ArgumentParser:
    """The arguments that every command over a recipe has."""
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("recipe", help="YAML file, or the name of a recipe that latentdc brings")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="changed keys: seed=1"
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe")
    return parser


def read_recipe(
    schema: type[T], options: argparse.Namespace, check: Callable[[T], None] = lambda recipe: None
) -> tuple[T, str]:
    """The checked recipe and its name; with --print-config, print it and leave."""
    path = config.find(options.recipe, "recipes")
    recipe = config.load(schema, path, options.overrides)
    check(recipe)
    if options.print_config:
        print(config.to_yaml(recipe), end="")
        raise SystemExit(0)
    return recipe, path.stem


def exits(work: Callable[[], None]) -> None:
    """Run a command's work; end with one line and the right code where it cannot go on.

    2: the input cannot be used. 1: the run broke (NaN, full disk). Only the main process speaks.
    """
    # Torch is not loaded yet. Its threads would spin while they wait, and where another process
    # computes too, that makes two threads many times slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        work()
    except InputError as error:
        _leave(str(error), 2)
    except RunError as error:
        _leave(str(error), 1)
    except Exception as error:
        if not _disk_full(error):
            raise
        _leave("the disk is full; finished files are whole, start again after making room.", 1)


def _disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; torch and safetensors say so in words only."""
    if error is None:
        return False
    code = error.errno if isinstance(error, OSError) else None
    full = code in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
    return full or _disk_full(error.__cause__ or error.__context__)


def _leave(message: str, code: int) -> NoReturn:
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"latentdc: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(code)


def run_folder(output: str | None, name: str) -> Path:
    """Where a run of the recipe `name` leaves its files."""
    return Path(output).expanduser() if output else Path("runs") / name
