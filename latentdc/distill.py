"""The main job: `accelerate launch -m latentdc.distill recipes/digits_ipc1.yaml [key=value]`."""

from argparse import Namespace

from latentdc import cli, ranks
from latentdc.evaluate.loading import recipe_protocol
from latentdc.locks import locked
from latentdc.recipe import Recipe, require
from latentdc.recipe.networks import check_network
from latentdc.recipe.prune import check_prune
from latentdc.recipe.run import check_vectors
from latentdc.run_folder import check_folder


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = "Prune, distil and evaluate as a recipe says."
    cli.recipe_arguments(parser, Recipe)


def run(options: Namespace) -> None:
    """Prune, distil and evaluate as a recipe says, or say what that would take."""
    recipe, name = cli.read_recipe(Recipe, options, check)
    cli.tell_unread(options.overrides, recipe.unread)
    if options.dry_run:
        from latentdc.cost import Hardware, describe

        cli.print_result(describe(recipe, Hardware.of(options, recipe.processes)))
        return
    folder = cli.run_folder(recipe.output, name)
    check_folder(recipe, folder)
    with locked(folder):
        ranks.say("distill", f"{name} by {recipe.method.kind}, in {folder}")
        from latentdc.report.page import written
        from latentdc.run import run as run_recipe

        run_recipe(recipe, name, folder, command=options.command)
        if ranks.rank() == 0:
            print(f"report: {written(folder)}")


def check(recipe: Recipe) -> None:
    """Refuse what a recipe's parts say only together."""
    check_vectors(recipe)
    size, kind = recipe.data.size, recipe.data.kind
    if recipe.matches:
        check_network(recipe.objective.network, size, kind)
    if recipe.samples and "influence" in recipe.sampling.guides:
        check_network(recipe.sampling.influence.network, size, kind)
    check_prune(recipe.prune, recipe.data, classifies=recipe.asks_classifier)
    protocol = recipe_protocol(recipe.evaluate)
    protocol.check_students(size, kind)
    grid, cells = getattr(recipe.settings, "grid", 1), protocol.views.cells
    require(
        grid == 1 or cells in (None, grid),
        f"method.kind={recipe.method.kind} makes mosaics of {grid} x {grid} and the protocol "
        f"{protocol.name} crops in cells of {cells} x {cells}; write evaluate.changes="
        f"[views.cells={grid}], or views.cells=null to crop from whole mosaics.",
    )
    require(
        not (recipe.samples and recipe.sampling.weights) or protocol.infobatch is None,
        "sampling.weights=true weighs the images, and infobatch has weights of its own; take one.",
    )
    if recipe.evaluate.learned_lr:
        protocol.with_learned_lr(recipe.objective.trajectory.lr_student)


main = cli.entry("distill")

if __name__ == "__main__":
    main()
