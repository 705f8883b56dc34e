"""The console script `latentdc`: its table of commands and their arguments.

A command is a row of `COMMANDS` and a module with `arguments(parser)`, which adds its arguments,
and `run(options)`, which does the work. Imports no torch: `--help`, `--print-config` and a wrong
recipe answer at once.
"""

import argparse
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol, TypeVar, cast

from latentdc import __version__, config, ranks
from latentdc.errors import InputError, nearest
from latentdc.exits import EXIT, exits
from latentdc.plain_text import on_terminal
from latentdc.recipe.fields import all_keys

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class _Command(NamedTuple):
    """A row of the table of commands."""

    module: str  # of latentdc, imported when the command is called, or its arguments asked for
    help: str
    dry_run: bool = False  # whether it takes minutes and has `--dry-run`


COMMANDS = {
    "distill": _Command("distill", "prune, distil and evaluate a recipe", True),
    "sweep": _Command("sweep.__main__", "a table of runs over a grid of changes to a recipe", True),
    "prune": _Command("prune.__main__", "choose and save the core set of a recipe", True),
    "experts": _Command(
        "experts.__main__", "train the experts that trajectory matching follows", True
    ),
    "evaluate": _Command("evaluate.__main__", "score a synthetic set under a protocol", True),
    "measure": _Command("metrics.__main__", "storage, entropy, diversity and KID of a set", True),
    "compare": _Command("results.__main__", "tables and a picture of any number of results"),
    "report": _Command("report.__main__", "one HTML page of any runs"),
    "train-prior": _Command("priors.train.__main__", "train a small latent diffusion prior", True),
    "convert-prior": _Command("priors.convert.__main__", "make a prior of a CompVis checkpoint"),
    "copy": _Command(
        "commands.copying", "put a shipped recipe or sweep into this folder, to be edited"
    ),
    "list": _Command(
        "commands.listing", "names that a recipe takes: methods, networks, rules, ..."
    ),
    "push": _Command("synthetic.push", "push a run's synthetic set to the Hugging Face Hub"),
    "push-prior": _Command("priors.push", "push a prior to the Hugging Face Hub"),
    "export": _Command(
        "synthetic.export", "write a synthetic set as image folder, tar, .pt or .npz"
    ),
    "verify": _Command("commands.verify", "whether the accuracies of a published set hold", True),
    "env": _Command("commands.env", "versions and devices, for a report of a fault"),
}

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """Refuses what is no argument of a command in one line, as everything else is refused."""

    schema: type | None = None  # dataclass whose keys the command takes as `key=value`

    def error(self, message: str) -> NoReturn:
        """End with code 2."""
        self._leave(f"{message}; see {self.prog} --help.")

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Like argparse's, which says nothing of a pipe that nobody reads or a full disk."""
        print(self.format_help(), end="", file=file)

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Options and positional arguments, in any order."""
        options, unknown = self.parse_known_intermixed_args(words)
        for word in unknown:
            if told := self._key(word, words):
                self._leave(told)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def _key(self, word: str, words: Sequence[str]) -> str | None:
        """What to write in place of an option `--ipc 10` that is a key of the recipe."""
        name, given, value = word.removeprefix("--").partition("=")
        if self.schema is None or not word.startswith("--") or not name:
            return None
        known = all_keys(self.schema)
        name = name.replace("-", "_")
        keys = [name] if name in known else [k for k in known if k.rpartition(".")[2] == name]
        if not keys:
            return None
        if not given:
            after = [*words, ""][words.index(word) + 1]
            value = after if after and after[:1] != "-" and "=" not in after else "..."
        written = " or ".join(shlex.quote(f"{key}={value}") for key in keys)
        option = word.partition("=")[0]
        return f"{option} is no option but a key of the recipe; write {written}."

    def _leave(self, message: str) -> NoReturn:
        self.exit(EXIT["input"], f"latentdc: error: {on_terminal(message)}\n")


class _Module(Protocol):
    """What the module of a command has."""

    def arguments(self, parser: Parser) -> None: ...

    def run(self, options: argparse.Namespace) -> None: ...


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; ends with code 2 where the input cannot be used."""
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> None:
        for word in words:
            if re.search("[\ud800-\udfff]", word):
                raise InputError(
                    f"{word} has characters that UTF-8 cannot write; give the file another name, "
                    "or where they are of another locale, set PYTHONUTF8=1."
                )
        module, options = parse(words or ["--help"])
        options.command = ["latentdc", *words]
        ranks.set_level(getattr(options, "level", None) or logging.INFO)
        module.run(options)

    exits(work)


def entry(command: str) -> Callable[..., None]:
    """The `main(argv)` of a command's module: `python -m MODULE ...` is `latentdc COMMAND ...`."""

    def run_command(argv: Sequence[str] | None = None) -> None:
        main([command, *(sys.argv[1:] if argv is None else argv)])

    return run_command


def parse(words: Sequence[str]) -> tuple[_Module, argparse.Namespace]:
    """The module of the command that is named first, and its options; `--help` ends here."""
    parser, commands = _whole_parser()
    name, *rest = words
    if name.startswith("-"):
        parser.parse_args(words)
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        raise InputError(f"unknown command {name!r}{hint}; known: {', '.join(COMMANDS)}.")
    module, options = complete(commands[name], name), commands[name].parse(rest)
    if COMMANDS[name].dry_run and not (options.dry_run or getattr(options, "print_config", False)):
        for key in ("device_memory", "tflops"):
            if getattr(options, key) is not None:
                raise InputError(f"--{key.replace('_', '-')} is of a dry run; add --dry-run.")
    return module, options


def _whole_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of `latentdc`, and by name those of its commands, which `complete` completes."""
    parser = Parser(
        prog="latentdc",
        description="Dataset distillation through latent diffusion: prune, distil, evaluate.",
        epilog="latentdc COMMAND --help says more.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=20),
    )
    parser.add_argument("--version", action="version", version=f"latentdc {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=tuple(_RECIPES),
        metavar="SHELL",
        help="print a completion for bash or zsh, and end",
    )
    group = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    return parser, {
        name: group.add_parser(name, help=command.help) for name, command in COMMANDS.items()
    }


def complete(parser: Parser, name: str) -> _Module:
    """Import the module of a command and add its arguments, and those that commands share."""
    module = cast(_Module, import_module(f"latentdc.{COMMANDS[name].module}"))
    module.arguments(parser)
    if COMMANDS[name].dry_run:
        _add_common(parser)
    return module


def _add_common(parser: Parser) -> None:
    """Add what commands that take minutes have: dry runs, and how much is told of the work."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print what it would do and cost; do nothing"
    )
    parser.add_argument(
        "--device-memory", type=_bytes, metavar="SIZE", help="plan a dry run for it, such as 80GB"
    )
    parser.add_argument(
        "--tflops",
        type=_positive,
        metavar="RATE",
        help="tell a dry run's hours at so many 10^12 operations a second of each process",
    )
    level = parser.add_mutually_exclusive_group()
    for letter, word, found, text in (
        ("q", "quiet", logging.WARNING, "tell warnings and errors alone; results are printed"),
        ("v", "verbose", logging.DEBUG, "tell more: the machine, and what each stage found"),
    ):
        names = f"-{letter}", f"--{word}"
        level.add_argument(*names, dest="level", action="store_const", const=found, help=text)


def _positive(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a positive number such as 400, got {text!r}")
    return value


def _bytes(text: str) -> float:
    """A size with its unit."""
    for unit, size in (("GB", 1e9), ("GiB", 2.0**30), ("TB", 1e12), ("MB", 1e6)):
        if text.endswith(unit):
            return _positive(text.removesuffix(unit)) * size
    raise argparse.ArgumentTypeError(f"a size such as 80GB or 80GiB, got {text!r}")


def print_result(text: str) -> None:
    """Print a result, on the main process."""
    if ranks.rank() == 0:
        print(text)


class _Completion(argparse.Action):
    """Prints a shell's completion, which the library shtab writes, and ends."""

    def __call__(self, parser: object, namespace: object, values: object, *_: object) -> NoReturn:
        try:
            import shtab
        except ImportError as error:
            raise InputError(
                'completion needs shtab; install it with pip install "latentdc[completion]".'
            ) from error
        whole, commands = _whole_parser()
        for name, command in commands.items():
            complete(command, name)
            for action in command._actions:
                if action.dest in ("recipe", "base"):
                    action.complete = {shell: "_latentdc_recipes" for shell in _RECIPES}  # type: ignore[attr-defined]
                elif action.type is Path:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        shell, recipes = str(values), " ".join(sorted(config.shipped_files("recipes")))
        print(shtab.complete(whole, shell=shell, preamble=_RECIPES[shell] % recipes))
        raise SystemExit(0)


_RECIPES = {  # by shell, a function that offers files and shipped recipes
    "bash": '_latentdc_recipes() {\n  compgen -f -- "$1"\n  compgen -W "%s" -- "$1"\n}',
    "zsh": "_latentdc_recipes() {\n  _files\n  compadd -- %s\n}",
}


def recipe_arguments(parser: Parser, schema: type) -> None:
    """Add what every command over a recipe takes; `schema` is the dataclass of its keys."""
    parser.schema = schema
    parser.add_argument("recipe", help="YAML file, or the name of a recipe that latentdc brings")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="changed keys: seed=1"
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe")


def read_recipe(
    schema: type[T], options: argparse.Namespace, check: Callable[[T], None] = lambda recipe: None
) -> tuple[T, str]:
    """The checked recipe and its name; with --print-config, print it and leave."""
    path = config.find(options.recipe, "recipes")
    recipe = config.load(schema, path, options.overrides)
    check(recipe)
    if options.print_config:
        if ranks.rank() == 0:
            print(config.to_yaml(recipe), end="")
        raise SystemExit(0)
    os.getcwd()  # FileNotFoundError where it is gone, told before anything is made
    return recipe, path.stem


def tell_unread(overrides: Sequence[str], unread: Mapping[str, str]) -> None:
    """Say which keys of a command line change nothing: of `unread`, or below such, and why."""
    given = sorted({key for override in overrides for key in config.keys_of(override)})
    for why in dict.fromkeys(unread.values()):
        starts = tuple(f"{key}." for key, of in unread.items() if of == why)
        if keys := [key for key in given if f"{key}.".startswith(starts)]:
            ranks.say("note", f"{', '.join(keys)}: without effect beside {why}")


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What a command line names, and its overrides `key=value`; a path that exists is a name."""
    named = ["=" not in word or os.path.exists(os.path.expanduser(word)) for word in words]
    pairs = list(zip(words, named, strict=True))
    return [word for word, name in pairs if name], [word for word, name in pairs if not name]


def one_process(command: str) -> None:
    """Refuse to run in several processes a command that works in one."""
    if (processes := ranks.processes()) > 1:
        raise InputError(
            f"{command} runs on one process, and {processes} were started; start it without "
            "torchrun or accelerate launch."
        )


def run_folder(output: str | None, name: str) -> Path:
    """Where a run of the recipe `name` leaves its files."""
    return Path(output).expanduser() if output else Path("runs") / name
