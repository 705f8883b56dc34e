"""`python -m latentdc.experts RECIPE`: train the experts that trajectory matching follows.

Imports no torch before the recipe is checked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentdc import ranks
from latentdc.cli import exits, read_recipe, recipe_parser
from latentdc.errors import InputError
from latentdc.experts.manifest import (
    CORESET,
    experts_folder,
    facts_of,
    pruning,
    read_manifest,
    require_same,
    require_writable,
    write_manifest,
)
from latentdc.io import locked
from latentdc.recipe import Recipe
from latentdc.recipe.networks import check_network
from latentdc.recipe.prune import check_prune
from latentdc.recipe.vectors import require_images

if TYPE_CHECKING:
    from accelerate import Accelerator

    from latentdc.data.dataset import Dataset
    from latentdc.prune.coreset import Coreset


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends with code 2 where the input cannot be used."""
    parser = recipe_parser(
        "latentdc experts",
        "Train the networks whose weights trajectory matching follows, on the core set of a "
        "recipe with objective.kind=mtt. Those that are there already are kept.",
    )
    parser.add_argument("--dry-run", action="store_true", help="print work and disk; train nothing")
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        recipe, _ = read_recipe(Recipe, options, check)
        if options.dry_run:
            from latentdc.experts.dry_run import describe

            text = describe(recipe)
            if ranks.rank() == 0:
                print(text)
            return
        folder = experts_folder(recipe)
        require_writable(folder)
        if any(folder.glob("replay_buffer_*.pt")):
            raise InputError(
                f"{folder} holds replay buffers of MTT, which `latentdc distill` follows as they "
                "are; name another folder with objective.trajectory.experts=..."
            )
        if (manifest := read_manifest(folder)) is not None:
            require_same(folder, manifest, _facts(recipe))
        with locked(folder):
            _train(recipe, folder)

    exits(work)


def check(recipe: Recipe) -> None:
    """Refuse a recipe that follows no experts, or whose network or pruning cannot be.

    Raises:
        InputError: says which.
    """
    if recipe.objective.kind != "mtt":
        raise InputError(
            f"objective.kind={recipe.objective.kind} follows no experts; add objective.kind=mtt."
        )
    require_images(recipe.data, "latentdc experts")
    check_network(recipe.objective.network, recipe.data.resolution, "images")
    check_prune(recipe.prune, recipe.data)


def _facts(recipe: Recipe) -> dict[str, object]:
    return {**facts_of(recipe), "seed": recipe.seed}


def _train(recipe: Recipe, folder: Path) -> None:
    from latentdc import launch
    from latentdc.data.open import open_splits, preprocessing
    from latentdc.experts.files import data_facts, missing_experts
    from latentdc.experts.training import expert_bytes, train_experts

    accelerator = launch.start(
        threads=recipe.threads,
        precision=recipe.precision,
        processes=recipe.processes,
        folder=folder,
    )
    train, test = launch.main_first(accelerator, lambda: open_splits(recipe.data))
    normalization = launch.main_first(accelerator, lambda: preprocessing(recipe.data, train))
    kept = _coreset(recipe, train, test, folder, accelerator)
    coreset = train.select(kept.indices(train))
    facts = {**_facts(recipe), **data_facts(coreset, normalization)}
    facts["precision"] = accelerator.mixed_precision
    if (manifest := read_manifest(folder)) is not None:
        require_same(folder, manifest, facts)
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        kept.save(folder / CORESET)
        write_manifest(folder, {**facts, "pruning": pruning(recipe)})
        settings, network = recipe.experts, recipe.objective.network
        size = expert_bytes(settings, network, train.num_classes, train.resolution)
        lacking = len(missing_experts(folder, settings.count))
        print(
            f"{lacking} of {settings.count} experts to train, {lacking * size:,} bytes in {folder}"
        )
    accelerator.wait_for_everyone()
    train_experts(
        coreset,
        folder,
        recipe.experts,
        network=recipe.objective.network,
        normalization=normalization,
        seed=recipe.seed,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        print(f"experts: {folder}")
    accelerator.end_training()


def _coreset(
    recipe: Recipe, train: "Dataset", test: "Dataset", folder: Path, accelerator: "Accelerator"
) -> "Coreset":
    """The core set that is there already, or the one that the recipe asks for."""
    from latentdc import launch
    from latentdc.images import Normalization
    from latentdc.prune.coreset import Coreset
    from latentdc.prune.prune import prune_dataset

    if launch.agree(accelerator, (folder / CORESET).is_file()) and recipe.prune.coreset is None:
        return Coreset.load(folder / CORESET, train)
    return prune_dataset(
        train,
        recipe.prune,
        test,
        normalization=Normalization(recipe.data.mean, recipe.data.std),
        seed=recipe.seed,
        accelerator=accelerator,
    )


if __name__ == "__main__":
    main()
