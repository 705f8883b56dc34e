"""`python -m latentdc.metrics SET [key=value ...]`: measure a set beside random real images.

A SET is whatever `latentdc evaluate` takes. Imports no torch until the recipe is checked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from latentdc import cli, config
from latentdc.cli import split_words
from latentdc.errors import InputError
from latentdc.io import locked
from latentdc.recipe import Recipe
from latentdc.recipe.data import require_images
from latentdc.recipe.labels import Teacher
from latentdc.recipe.networks import PRETRAINED, pretrained
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.open import Place, find

if TYPE_CHECKING:
    from latentdc.metrics.measure import Wanted

CHANGEABLE = ("data", "threads", "precision", "processes")


def main(argv: Sequence[str] | None = None) -> None:
    """Check the input, measure, print a table and write metrics.json."""
    options = _parser().parse_intermixed_args(argv)
    cli.exits(lambda: _measure(options))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog="latentdc measure",
        description="Storage of a set, and how sure, diverse and near to real images it is; as "
        "many random images stand beside it.",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="SET",
        help="as for latentdc evaluate; then key=value, such as data.source=FOLDER",
    )
    parser.add_argument("--recipe", help="recipe to use in place of the one that lies with the set")
    parser.add_argument("--ipc", type=int, help="read the first so many images of each class")
    parser.add_argument(
        "--numbers",
        choices=get_args(Numbers),
        help="what class numbers in a set of others are: names of classes, or positions among them",
    )
    parser.add_argument("--network", help="for entropy and feature diversity, such as resnet20")
    parser.add_argument(
        "--weights", help="its safetensors file, or torchvision; without, it is trained"
    )
    parser.add_argument("--epochs", type=int, default=Teacher().epochs, help="of that training")
    parser.add_argument("--mean", type=float, nargs=3, help="that its weights expect")
    parser.add_argument("--std", type=float, nargs=3, help="likewise")
    parser.add_argument("--size", type=int, help="pixels to which images are resized for it")
    parser.add_argument("--lpips", action="store_true", help="diversity by LPIPS (an extra)")
    parser.add_argument("--kid", action="store_true", help="KID to the real images (an extra)")
    parser.add_argument("--output", help="folder of metrics.json (default: the run's)")
    return parser


def _measure(options: argparse.Namespace) -> None:
    sets, overrides = split_words(options.words)
    if len(sets) != 1:
        raise InputError(
            f"measure one set at a time, got {' '.join(sets) or 'none'}; what follows is key=value."
        )
    for override in overrides:
        if override.partition("=")[0].partition(".")[0] not in CHANGEABLE:
            raise InputError(
                f"{override!r} changes nothing about a saved set; here {', '.join(CHANGEABLE)} "
                "can be set, such as data.source=FOLDER."
            )
    cli.one_process("latentdc measure")
    place = find(sets[0], options.ipc, options.numbers)
    if options.numbers is not None and place.kind is None:
        raise InputError(f"--numbers is about sets of others, and {sets[0]} is latentdc's own.")
    path = place.recipe if options.recipe is None else config.find(options.recipe, "recipes")
    recipe = config.load(Recipe, path, overrides)
    require_images(recipe.data, "latentdc measure")
    network = _network(options)
    if network is not None:
        network.check_size(recipe.data.resolution)
    from latentdc.metrics.measure import NAME, Wanted, measure_saved, to_text

    wanted = Wanted(network, options.lpips, options.kid)
    _check_extras(wanted)
    output = Path(options.output) if options.output else _output(place)
    with locked(output):
        content = measure_saved(place, recipe, wanted, output)
    print(f"\n{to_text(content)}\n\nmetrics: {output / NAME}")


def _network(options: argparse.Namespace) -> Teacher | None:
    if options.network is None:
        for name in ("weights", "mean", "std", "size"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} is about a network; name it: --network NAME.")
        return None
    _check_network(options)
    mean, std = (None if v is None else tuple(v) for v in (options.mean, options.std))
    try:
        return Teacher(
            network=options.network,
            weights=options.weights,
            epochs=options.epochs,
            mean=mean,
            std=std,
            resolution=options.size,
        )
    except InputError as error:
        raise InputError(str(error).replace("labels.teachers.", "--")) from error


def _check_network(options: argparse.Namespace) -> None:
    """In the words of this command, before `Teacher` says the same in those of a protocol."""
    weights = options.weights
    given = weights is not None and pretrained(weights) is None
    if given and not Path(weights).is_file():
        raise InputError(
            f"--weights: there is no file {weights}; give a safetensors file, {PRETRAINED!r}, or "
            "leave it out to train the network."
        )
    if options.epochs < 1:
        raise InputError(f"--epochs is at least 1, got {options.epochs}.")
    if options.size is not None and options.size < 1:
        raise InputError(f"--size is a number of pixels, got {options.size}.")


def _check_extras(wanted: "Wanted") -> None:
    from latentdc.metrics.measures import lpips_distance, require_fidelity

    if wanted.kid:
        require_fidelity()
    if wanted.lpips:
        lpips_distance("cpu")


def _output(place: Place) -> Path:
    """The run folder of a set that lies in one, else one named after the set."""
    return place.run if place.run != place.path else Path("runs") / Path(place.given).name


if __name__ == "__main__":
    main()
