"""`latentdc list WHAT`: the names that a recipe or a command takes, one line each.

Each comes from the table, or the folder, that the code itself looks names up in. Imports no torch,
but for data sets.
"""

import ast
import json
import re
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from inspect import getdoc
from pathlib import Path
from textwrap import shorten
from typing import get_args

from latentdc import cli, config
from latentdc.plain_text import on_terminal
from latentdc.recipe import METHODS, MethodSettings, ObjectiveSettings, Sampling
from latentdc.recipe.networks import LIMITS, PREFIX, SMALLEST, TIMM, limits_of
from latentdc.recipe.rules import RULES
from latentdc.recipe.sampling import GUIDES

Lines = dict[str, str]  # by name, what it is
_WIDEST = 100  # characters of what is said of a name


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = "List the names that latentdc knows."
    parser.add_argument("what", choices=list(TABLES), metavar="WHAT", help=", ".join(TABLES))


def run(options: Namespace) -> None:
    """Print the names of one kind."""
    lines = TABLES[options.what]()
    wide = min(30, max(map(len, lines)))
    for name, text in lines.items():
        line = shorten(re.sub(r"(?<!\.)\.$", "", text), _WIDEST, placeholder=" ...")
        print(on_terminal(f"{name:<{wide}}  {line}"))


def recipes() -> Lines:
    """Recipes of `latentdc distill`, and of `latentdc train-prior` in `priors/`."""
    found = _files("recipes")
    return {name: text for name, text in found.items() if not name.startswith("sweeps/")}


def sweeps() -> Lines:
    """Sweeps of `latentdc sweep`."""
    found = _files("recipes")
    return {name: text for name, text in found.items() if name.startswith("sweeps/")}


def protocols() -> Lines:
    """Values of `evaluate.protocol`."""
    return _files("evaluate/protocols")


def priors() -> Lines:
    """The shipped ones, for `prior.weights`."""
    lines = {}
    for path in sorted(config.shipped_folder("assets/priors").glob("*/training.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        images = f"{facts['psnr_db']:.1f} dB on {facts['held_out_images']:,} held-out images"
        count = f"{sum(facts['parameters']) / 1e6:.1f} M parameters"
        lines[path.parent.name] = f"latent diffusion prior, {count}, reconstructs at {images}"
    return lines


def methods() -> Lines:
    """Values of `method.kind`."""
    told = _in_brackets(MethodSettings)
    return {name: told.get(name) or _docstring(one.function) for name, one in METHODS.items()}


def rules() -> Lines:
    """Values of `prune.score`."""
    told = {name: _docstring(f"latentdc.prune.rules.{one.function}") for name, one in RULES.items()}
    shape = r"^\([A-Za-z, ]+\) "
    return {name: re.sub(shape, "", text) for name, text in told.items()}


def guides() -> Lines:
    """Guides as `sampling.NAME`."""
    told = _attributes(Sampling)
    return {name: told[name] for name in GUIDES}


def objectives() -> Lines:
    """Values of `objective.kind`."""
    kind = next(one for one in get_args(ObjectiveSettings.__annotations__["kind"]) if get_args(one))
    told = _in_brackets(ObjectiveSettings)
    return {name: told[name] for name in get_args(kind)}


def networks() -> Lines:
    """Values of `objective.network`, `prune.scorer.network` and students."""
    lines = {}
    for name, one in LIMITS.items():
        width = f", base width {one.width}, or {name}@WIDTH" if one.widths else ""
        lines[name] = one.samples + width
    lines |= {name: limits_of(name).samples for name in (f"{PREFIX}{one}" for one in SMALLEST)}
    return lines | {f"{TIMM}NAME": 'any classifier of timm (pip install "latentdc[timm]")'}


def datasets() -> Lines:
    """Values of `data.source` whose sizes are known; any folder or Hub id is one too."""
    from latentdc.data.open import KNOWN

    return {
        name: f"{size.train:,} training and {size.test:,} test images, {size.classes} classes"
        for name, size in KNOWN.items()
    }


TABLES: dict[str, Callable[[], Lines]] = {
    one.__name__: one
    for one in (
        *(recipes, sweeps, priors, methods, guides, rules),
        *(objectives, networks, protocols, datasets),
    )
}


def _files(folder: str) -> Lines:
    """YAML files below a folder that the package brings, and their first line."""
    lines = {}
    for name, path in config.shipped_files(folder).items():
        words = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("# "):
                break
            words += line.removeprefix("# ").split()
        lines[name] = _sentence(" ".join(words))
    return lines


def _sentence(text: str) -> str:
    """The first of a text, without its full stop; `IDC et al. say` is not two."""
    return re.split(r"(?<![A-Z])(?<!al)\.(?= [A-Z`\[]| +\w+ \w+-?|$)", text, maxsplit=1)[0]


def _attributes(settings: type) -> Lines:
    """What the docstring of a dataclass says of its fields."""
    section = (getdoc(settings) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section, re.M)
    return {name: " ".join(text.split()) for name, text in entries}


def _in_brackets(settings: type) -> Lines:
    """What stands in brackets behind each kind of a dataclass, in its docstring."""
    return dict(re.findall(r"`(\w+)` \((.+?)\)", _attributes(settings)["kind"]))


def _docstring(function: str) -> str:
    """First line of the docstring of `module:function`, which is not imported."""
    module, _, name = function.partition(":")
    home = Path(__file__).parents[2].joinpath(*module.split("."))
    return _functions(home.with_suffix(".py"))[name]


@cache
def _functions(path: Path) -> Lines:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.ClassDef)]
    return {one.name: (ast.get_docstring(one) or "").partition("\n")[0] for one in named}
