"""The main job: `accelerate launch -m latentdc.distill recipes/digits_ipc1.yaml [key=value]`."""

from argparse import ArgumentTypeError, Namespace

from latentdc import cli, ranks
from latentdc.evaluate.loading import recipe_protocol
from latentdc.io import locked
from latentdc.recipe import Recipe, require
from latentdc.recipe.networks import check_network
from latentdc.recipe.prune import check_prune
from latentdc.recipe.run import check_vectors
from latentdc.run_folder import check_folder


def arguments(parser: cli.Parser) -> None:
    """Those of the command."""
    parser.description = "Prune, distil and evaluate as a recipe says."
    cli.recipe_arguments(parser, Recipe)
    parser.add_argument(
        "--device-memory", type=_bytes, metavar="SIZE", help="plan a dry run for it, such as 80GB"
    )
    parser.add_argument(
        "--tflops",
        type=_positive,
        metavar="RATE",
        help="tell a dry run's hours at so many 10^12 operations a second of each process",
    )


def run(options: Namespace) -> None:
    """Prune, distil and evaluate as a recipe says, or say what that would take."""
    recipe, name = cli.read_recipe(Recipe, options, check)
    for key in ("device_memory", "tflops"):
        require(
            options.dry_run or getattr(options, key) is None,
            f"--{key.replace('_', '-')} is of a dry run; add --dry-run.",
        )
    if options.dry_run:
        from latentdc.cost import Hardware, describe

        processes = recipe.processes or ranks.processes()
        text = describe(recipe, Hardware(processes, options.device_memory, options.tflops))
        if ranks.rank() == 0:
            print(text)
        return
    folder = cli.run_folder(recipe.output, name)
    check_folder(recipe, folder)
    with locked(folder):
        from latentdc.report.page import NAME, write
        from latentdc.run import run as run_recipe

        run_recipe(recipe, name, folder)
        if ranks.rank() == 0:
            print(f"report: {write(folder / NAME, [folder])}")


def _positive(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"a positive number such as 400, got {text!r}")
    return value


def _bytes(text: str) -> float:
    """A size with its unit."""
    for unit, size in (("GB", 1e9), ("GiB", 2.0**30), ("TB", 1e12), ("MB", 1e6)):
        if text.endswith(unit):
            return _positive(text.removesuffix(unit)) * size
    raise ArgumentTypeError(f"a size such as 80GB or 80GiB, got {text!r}")


def check(recipe: Recipe) -> None:
    """Refuse what a recipe's parts say only together.

    Raises:
        InputError: unknown networks or protocol, or networks that cannot take the resolution.
    """
    check_vectors(recipe)
    size, kind = recipe.data.size, recipe.data.kind
    if recipe.matches:
        check_network(recipe.objective.network, size, kind)
    if recipe.samples and "influence" in recipe.sampling.guides:
        check_network(recipe.sampling.influence.network, size, kind)
    check_prune(recipe.prune, recipe.data)
    protocol = recipe_protocol(recipe.evaluate)
    protocol.check_students(size, kind)
    grid, cells = getattr(recipe.settings, "grid", 1), protocol.views.cells
    require(
        grid == 1 or cells in (None, grid),
        f"method.kind={recipe.method.kind} makes mosaics of {grid} x {grid} and the protocol "
        f"{protocol.name} crops in cells of {cells} x {cells}; write evaluate.changes="
        f"[views.cells={grid}], or views.cells=null to crop from whole mosaics.",
    )
    if recipe.evaluate.learned_lr:
        protocol.with_learned_lr(recipe.objective.trajectory.lr_student)


main = cli.entry("distill")

if __name__ == "__main__":
    main()
