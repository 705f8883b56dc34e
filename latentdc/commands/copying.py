"""`latentdc copy RECIPE [TO]`: a shipped recipe or sweep as a file of one's own, to be edited."""

import shlex
from argparse import Namespace
from pathlib import Path

from latentdc import cli, config
from latentdc.errors import InputError, nearest
from latentdc.io import write_text

_COMMANDS = {"sweeps": "sweep", "priors": "train-prior"}  # by folder of recipes


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = "Put a shipped recipe or sweep into this folder, to be edited."
    parser.add_argument("recipe", help="its name, as latentdc list recipes and sweeps print it")
    parser.add_argument("to", nargs="?", default=".", help="file or folder (default: this folder)")


def run(options: Namespace) -> None:
    """Copy the file, and say the command that takes it."""
    cli.one_process("latentdc copy")
    name, to = options.recipe, Path(options.to).expanduser()
    known = config.shipped_files("recipes")
    short = name.removeprefix("recipes/").removesuffix(".yaml")
    if short not in known:
        raise InputError(
            f"latentdc brings no recipe {name[:200]!r}{nearest(short, known) or '.'} "
            "See latentdc list recipes and latentdc list sweeps."
        )
    target = to / known[short].name if to.is_dir() else to
    if target.suffix not in (".yaml", ".yml"):
        raise InputError(f"{target} is no folder; a copy is a YAML file, such as {target}.yaml.")
    if target.exists():
        raise InputError(f"{target} exists; name another file: latentdc copy {short} OTHER.yaml.")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, known[short].read_text(encoding="utf-8"))
    command = _COMMANDS.get(short.partition("/")[0], "distill")
    word = f"./{target}" if str(target).startswith("-") else str(target)
    print(f"{target}: edit it, then run {shlex.join(['latentdc', command, word])}")
