"""`python -m latentdc.experts RECIPE`: train the experts that trajectory matching follows.

Imports no torch before the recipe is checked.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path

from latentdc import cli, io, locks, ranks, run_folder
from latentdc.errors import InputError, counted
from latentdc.recipe import Recipe
from latentdc.recipe.data import require_images
from latentdc.recipe.networks import check_network
from latentdc.recipe.prune import check_prune


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Train the networks whose weights trajectory matching follows, on the core set of a "
        "recipe with objective.kind=mtt. Those that are there already are kept."
    )
    cli.recipe_arguments(parser, Recipe)


def run(options: Namespace) -> None:
    """Train the experts that are missing, or say what that would take."""
    recipe, name = cli.read_recipe(Recipe, options, check)
    if not options.dry_run:
        wanted = f"{recipe.experts.count} {recipe.objective.network}"
        ranks.say("experts", f"{wanted} for {name}, {counted(recipe.experts.epochs, 'epoch')} each")
    from latentdc.experts import files
    from latentdc.experts.buffers import buffer_files

    folder = files.experts_folder(recipe.asked_experts)
    why = f"objective.trajectory.experts, the folder of experts (here {folder})"
    cli.tell_unread(options.overrides, {"output": why})
    if options.dry_run:
        from latentdc.cost import Hardware, describe_experts

        lacking = len(files.missing_experts(folder, recipe.experts.count))
        hardware = Hardware.of(options, recipe.processes)
        cli.print_result(describe_experts(recipe, str(folder), lacking, hardware))
        return
    io.require_writable(folder, "objective.trajectory.experts")
    run_folder.require_apart(recipe.data, folder, "objective.trajectory.experts=...")
    if buffer_files(folder):
        raise InputError(
            f"{folder} holds replay buffers of MTT, which `latentdc distill` follows as they "
            "are; name another folder with objective.trajectory.experts=..."
        )
    if files.read_manifest(folder) is None and any(folder.glob("expert-*.safetensors")):
        raise files.unknown_making(folder)
    _require_same(recipe, folder)
    from latentdc.modes import precision_put_back

    with locks.locked(folder), precision_put_back():
        _train(recipe, folder)


def check(recipe: Recipe) -> None:
    """Refuse a recipe that follows no experts, or whose network or pruning cannot be."""
    if recipe.objective.kind != "mtt":
        raise InputError(
            f"objective.kind={recipe.objective.kind} follows no experts; add objective.kind=mtt."
        )
    require_images(recipe.data, "latentdc experts")
    check_network(recipe.objective.network, recipe.data.resolution, "images")
    check_prune(recipe.prune, recipe.data)


def _require_same(recipe: Recipe, folder: Path, **known: object) -> dict[str, object]:
    """Facts of the experts to train, which those that are there already share."""
    from latentdc.experts.files import making, read_manifest, require_same

    facts = making(recipe.asked_experts) | {"seed": recipe.seed, **known}
    if (manifest := read_manifest(folder)) is not None:
        require_same(folder, manifest, facts, recipe.prune)
    return facts


def _train(recipe: Recipe, folder: Path) -> None:
    from latentdc import runtime
    from latentdc.data.open import open_used, plain_preprocessing, preprocessing
    from latentdc.experts.files import ExpertFiles, data_facts, missing_experts, write_manifest
    from latentdc.experts.training import expert_bytes, train_experts
    from latentdc.modes import precision_of
    from latentdc.provenance import shared_recipe
    from latentdc.prune.prune import keep_coreset, kept_coreset, prune_dataset
    from latentdc.tracking import start_trackers

    accelerator = runtime.start(**recipe.launch, trackers=recipe.trackers, folder=folder)
    data, prune = recipe.data, recipe.prune
    train, open_test, _ = runtime.main_first(accelerator, lambda: open_used(data, tests=False))
    normalization = runtime.main_first(accelerator, lambda: preprocessing(data, train))
    there = runtime.broadcast((folder / run_folder.CORESET).is_file())
    if there and prune.coreset is None:
        path = folder / run_folder.CORESET
        read = partial(kept_coreset, path, train, prune, precision_of(accelerator))
        kept = runtime.main_first(accelerator, read)
    else:
        plain = plain_preprocessing(data, train)
        test = runtime.main_first(accelerator, open_test) if prune.scores_images else None
        given = {"normalization": plain, "seed": recipe.seed, "accelerator": accelerator}
        kept = prune_dataset(train, prune, test, **given)
    coreset = train.select(kept.indices(train))
    facts = _require_same(
        recipe,
        folder,
        **data_facts(coreset, normalization),
        precision=precision_of(accelerator),
    )
    settings, network = recipe.experts, recipe.objective.network
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        keep_coreset(folder / run_folder.CORESET, kept, train)
        write_manifest(folder, facts)
    finished = ExpertFiles(folder, settings.count)
    runtime.main_alone(accelerator, lambda: finished.check(train, normalization))
    if accelerator.is_main_process:
        size = expert_bytes(settings, network, train.num_classes, train.resolution)
        lacking = len(missing_experts(folder, settings.count))
        told = f"{lacking} of {settings.count} to train, {lacking * size:,} bytes in {folder}"
        ranks.say("experts", told)
    accelerator.wait_for_everyone()
    start_trackers(accelerator, shared_recipe(recipe), f"experts of {network}", folder)
    train_experts(
        coreset,
        folder,
        settings,
        network=network,
        normalization=normalization,
        seed=recipe.seed,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        print(f"experts: {folder}")
    accelerator.end_training()


main = cli.entry("experts")

if __name__ == "__main__":
    main()
