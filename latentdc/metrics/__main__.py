"""`python -m latentdc.metrics SET [key=value ...]`: measure a set beside random real images.

A SET is whatever `latentdc evaluate` takes. Imports no torch until the recipe is checked.
"""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from latentdc import cli, locks, ranks
from latentdc.commands.sets import image_count, output_folder, read_sets, set_arguments
from latentdc.errors import InputError
from latentdc.evaluate.loading import recipe_protocol
from latentdc.recipe import Recipe
from latentdc.recipe.data import require_images
from latentdc.recipe.labels import Teacher
from latentdc.recipe.protocol import EvalProtocol

if TYPE_CHECKING:
    from latentdc.metrics.measure import Wanted

_CHANGEABLE = ("data", "evaluate", "threads", "precision", "processes")
_NONE = "measures that train no student; --redundancy N does"
_ONE = dict.fromkeys(  # keys that say nothing about one student on one increment
    (f"evaluate.{key}" for key in ("seeds", "together", "rows", "learned_lr")),
    "--redundancy, which trains one student once on each increment",
)


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Storage of a set, and how sure, diverse and near to real images it is; as many random "
        "images stand beside it."
    )
    set_arguments(parser)
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
    parser.add_argument(
        "--redundancy",
        type=int,
        metavar="N",
        help="students of N images of each class are tested on the next N (evaluate.protocol)",
    )


def run(options: argparse.Namespace) -> None:
    """Check the input, measure, print a table and write metrics.json."""
    sets, overrides = cli.split_words(options.words)
    if len(sets) != 1:
        raise InputError(
            f"measure one set at a time, got {' '.join(sets) or 'none'}; what follows is key=value."
        )
    cli.one_process("latentdc measure")
    (source,), recipe = read_sets(sets, overrides, options, _CHANGEABLE)
    require_images(recipe.data, "latentdc measure")
    protocol = _protocol(options.redundancy, recipe)
    cli.tell_unread(overrides, {"evaluate": _NONE} if protocol is None else _ONE)
    network = _network(options)
    if network is not None:
        network.check_size(recipe.data.resolution)
    if options.dry_run:
        from latentdc.cost import Hardware, describe_measuring

        text = describe_measuring(
            recipe,
            protocol,
            image_count(source, recipe),
            network,
            Hardware.of(options),
            redundancy=options.redundancy,
            others=[name for name in ("lpips", "kid") if getattr(options, name)],
        )
        cli.print_result(text)
        return
    ranks.say("measure", sets[0])
    from latentdc.metrics.measure import NAME, Wanted, measure_saved, to_text

    wanted = Wanted(network, options.lpips, options.kid, options.redundancy, protocol)
    _check_extras(wanted)
    output = output_folder([source], options.output, recipe.data)
    with locks.locked(output):
        content = measure_saved(
            source, recipe.data, wanted, output, prior=recipe.prior, launch=recipe.launch
        )
    print(f"\n{to_text(content)}\n\nmetrics: {output / NAME}")


def _protocol(each: int | None, recipe: Recipe) -> EvalProtocol | None:
    """That of the students of increments; None where there are none."""
    if each is None:
        return None
    if each < 1:
        raise InputError(f"--redundancy is at least 1 image of each class, got {each}.")
    protocol = recipe_protocol(recipe.evaluate)
    protocol = replace(protocol, students=protocol.students[:1])
    if protocol.labels.source != "hard":
        raise InputError(
            f"redundancy is measured with hard labels, and protocol {protocol.name} has soft ones; "
            "name another with evaluate.protocol, such as quick."
        )
    protocol.check_students(recipe.data.size, recipe.data.kind)
    return protocol


def _network(options: argparse.Namespace) -> Teacher | None:
    if options.network is None:
        for name in ("weights", "mean", "std", "size"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} is about a network; name it: --network NAME.")
        return None
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
    except InputError as error:  # in the words of this command
        told = str(error).replace("labels.teachers.", "--").replace("--resolution", "--size")
        raise InputError(told) from error


def _check_extras(wanted: "Wanted") -> None:
    from latentdc.metrics.diversity import lpips_distance
    from latentdc.metrics.kid import require_fidelity

    if wanted.kid:
        require_fidelity()
    if wanted.lpips:
        lpips_distance("cpu")


main = cli.entry("measure")

if __name__ == "__main__":
    main()
