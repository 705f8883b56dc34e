"""A whole run of a recipe: prune, make the synthetic set, keep it, evaluate, push."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from latentdc import checkpoint, runtime
from latentdc.data.dataset import Dataset, random_images
from latentdc.data.open import OpenData, open_used
from latentdc.errors import InputError
from latentdc.evaluate.baselines import with_baselines
from latentdc.evaluate.evaluate import score_sets
from latentdc.evaluate.setting import Setting
from latentdc.hub import require_login
from latentdc.io import write_bytes
from latentdc.methods import find_method, require_set
from latentdc.methods.checks import check_match
from latentdc.methods.context import Context, require_same_inputs
from latentdc.methods.latents import class_sizes, require_enough_images
from latentdc.modes import in_plain_modes, precision_of, precision_put_back
from latentdc.pictures import save_grid
from latentdc.preprocessing import Whitening
from latentdc.provenance import (
    circumstances,
    provenance,
    require_same_data,
    same_making,
)
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import check_pruning, keep_coreset, kept_coreset, prune_dataset
from latentdc.prune.score import Scoring
from latentdc.prune.select import most_kept
from latentdc.ranks import detail
from latentdc.recipe import Recipe
from latentdc.results.result import RESULTS, Results, save, to_json
from latentdc.results.tables import to_text
from latentdc.run_folder import CHECKPOINTS, CORESET, GRID, SET, claim_folder
from latentdc.run_parts import (
    Parts,
    check_selected,
    evaluation_setting,
    method_context,
    open_parts,
)
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.folder import is_set
from latentdc.synthetic.push import push_folder
from latentdc.tracking import end_trackers, start_trackers, tell_with
from latentdc.training import OnStep


@in_plain_modes
@precision_put_back()
def run(
    recipe: Recipe,
    name: str,
    folder: Path,
    *,
    trainings: Path | None = None,
    scores: Path | None = None,
    on_step: OnStep | None = None,
    command: Sequence[str] = (),
) -> Results:
    """Carry out, or continue, the recipe `name`; the main process prints the table at the end.

    What can be refused is refused before anything is scored, trained or written.

    Args:
        recipe: what to do.
        name: of the recipe.
        folder: of the run.
        trainings: folder of finished trainings; None takes the run's own.
        scores: folder of the scores that the core set is chosen by; likewise.
        on_step: is told `stage` (`pruning`, `distilling` or `evaluating`) and the measures of each
            step, such as `step` and `loss`; what it raises ends the run, which goes on later.
        command: words of the command line that repeats it, which the set keeps.

    Returns:
        Results of all rows; none where the recipe evaluates nothing.

    Raises:
        InputError: what only the data, the weights or the launcher show to be wrong.
        RunError: the run broke.
    """
    trainings = trainings or folder / "trainings"
    parts, setting, context = _opened(recipe, folder, trainings, on_step)
    accelerator = context.accelerator
    tell = tell_with(on_step, stage="pruning")
    kept = _coreset(parts, name, context, folder, scores, tell)
    coreset = parts.train.select(kept.indices(parts.train))
    tested = f", {len(setting.test):,} to test on" if setting is not None else ""
    detail("data", f"{len(parts.train):,} samples to train on{tested}")
    detail("core set", f"{len(coreset):,} samples, by {kept.by}")
    if parts.experts is not None:
        parts.experts.require_data(coreset, parts.normalization)
    synthetic = _synthetic_set(parts, name, kept, context, folder, command)
    results = Results() if setting is None else _scored(parts, setting, synthetic, coreset)
    if accelerator.is_main_process:
        _tell_and_push(synthetic, results, folder, parts)
    end_trackers(accelerator, results, recipe.distill.steps if recipe.matches else 1)
    return results


@in_plain_modes
@precision_put_back()
def check_run(
    recipe: Recipe, folder: Path, *, trainings: Path, open_data: OpenData = open_used
) -> None:
    """Refuse what `run` refuses before anything is scored, trained or written.

    For the later of several runs, before hours of the first.
    """
    parts, _, context = _opened(recipe, folder, trainings, None, open_data)
    if _known_coreset(parts, context, folder) is None:
        check_pruning(Scoring(parts.train, recipe.prune, normalization=parts.plain))


def _opened(
    recipe: Recipe,
    folder: Path,
    trainings: Path,
    on_step: OnStep | None,
    open_data: OpenData = open_used,
) -> tuple[Parts, Setting | None, Context]:
    """What a run opens; the setting is None where nothing is evaluated."""
    method = find_method(recipe.method.kind)
    accelerator = runtime.start(**recipe.launch, trackers=recipe.trackers, folder=folder)
    runtime.require_precision(accelerator)
    if recipe.push.repo is not None:
        runtime.main_first(accelerator, require_login)
    parts = runtime.main_first(
        accelerator, lambda: open_parts(recipe, method, accelerator, open_data)
    )
    setting = None
    if recipe.evaluate.rows:
        tell = tell_with(on_step, stage="evaluating")
        setting = evaluation_setting(parts, trainings, accelerator, tell)
    tell = tell_with(on_step, stage="distilling")
    return parts, setting, method_context(parts, folder, trainings, accelerator, tell)


def _coreset(
    parts: Parts,
    name: str,
    context: Context,
    folder: Path,
    scores: Path | None,
    on_step: OnStep | None,
) -> Coreset:
    """The run's core set: kept from before, given by the user, the experts', or scored now.

    Before that, what cannot be matched is refused, and trackers begin.
    """
    recipe, train, prune = parts.recipe, parts.train, parts.recipe.prune
    if (kept := _known_coreset(parts, context, folder)) is not None:
        return kept
    accelerator = context.accelerator
    test = parts.open_test() if prune.scores_images else None
    start_trackers(accelerator, parts.shared, name, folder)
    return prune_dataset(
        train,
        prune,
        test,
        normalization=parts.plain,
        seed=recipe.seed,
        accelerator=accelerator,
        folder=scores or folder,
        on_step=on_step,
    )


def _known_coreset(parts: Parts, context: Context, folder: Path) -> Coreset | None:
    """The core set that is there: the folder's, else `prune.coreset`, else the experts'.

    None where it is to be scored. What could not be made of it, or at most of the one that is to
    come, or not be compared, is refused.
    """
    recipe, train, experts, prune = parts.recipe, parts.train, parts.experts, parts.recipe.prune
    accelerator = context.accelerator
    path: Path | None = folder / CORESET
    begun = bool(checkpoint.whole(folder / CHECKPOINTS))
    found = (folder / CORESET).is_file(), begun, is_set(folder / SET)
    saved, begun, finished = runtime.broadcast(found)  # others may see files later
    if not saved:
        path = experts.coreset if experts is not None else None
        path = path if prune.coreset is None else Path(prune.coreset)
    kept = None
    if path is not None:
        precision = precision_of(accelerator) if experts is None else None
        again = partial(kept_coreset, prune=prune, precision=precision)
        read = again if saved else Coreset.load
        kept = runtime.main_first(accelerator, partial(read, path, train))
        counts = dict(zip(kept.class_names, kept.different_counts(), strict=True))
    else:
        sizes = class_sizes(train)
        most = most_kept([*sizes.values()], prune, train.counts)
        counts = dict(zip(sizes, most, strict=True))
    if parts.prior is not None and parts.objective is not None:
        settings = recipe.distill
        steps = 0 if begun else settings.steps
        check_match(counts, parts.prior, parts.objective, settings, context, steps=steps)
    if not finished and parts.method.check_data is not None:
        parts.method.check_data(counts, parts.prior, recipe.settings, context)
    if not finished:
        check_selected(parts, context)
    if "coreset" in recipe.evaluate.rows:
        require_enough_images(counts, recipe.ipc)
    if "random" in recipe.evaluate.rows:
        random_images(train, recipe.ipc, recipe.seed)
    return kept


def _synthetic_set(
    parts: Parts,
    name: str,
    kept: Coreset,
    context: Context,
    folder: Path,
    command: Sequence[str],
) -> SyntheticSet:
    """The set that the folder holds finished, or else one that is made now and saved there."""
    recipe, accelerator, train = parts.recipe, context.accelerator, parts.train
    precision = precision_of(accelerator)
    facts = provenance(recipe, name, parts.prior, kept, precision, size=train.resolution)
    finished = partial(_finished, folder, facts, parts, context.inputs)
    synthetic = runtime.main_first(accelerator, finished)
    if accelerator.is_main_process:
        claim_folder(recipe, folder)
        keep_coreset(folder / CORESET, kept, train)
    if not accelerator.trackers:  # which begin where the core set is chosen now
        start_trackers(accelerator, parts.shared, name, folder)
    if runtime.broadcast(synthetic is None):
        synthetic = _made(parts, kept, context)
        facts |= {**synthetic.provenance, **_classifier_fact(parts)}
        done = circumstances(train, accelerator, command)
        facts["made"] = done | ({"inputs": dict(context.inputs)} if context.inputs else {})
        synthetic = _saved(replace(synthetic, provenance=facts), folder, parts.shared, accelerator)
    elif synthetic is None:  # which this process saw later than the main one
        synthetic = SyntheticSet.from_pretrained(folder / SET)
    if accelerator.is_main_process and synthetic.kind == "images":
        _keep_grid(synthetic, folder)
    return synthetic


def _classifier_fact(parts: Parts) -> dict[str, str]:
    """What a set keeps of the classifier that its method asked."""
    return {} if parts.asked_network is None else {"classifier": parts.asked_network}


def _finished(
    folder: Path, facts: Mapping[str, object], parts: Parts, inputs: Mapping[str, str]
) -> SyntheticSet | None:
    """The set that a run ended with before, which is not made again; None where there is none.

    Other processes, threads or chunks would round some pixels otherwise, and so make another set
    of the one that has been scored or pushed. A damaged one, or one of other facts, is none.
    """
    try:
        kept = SyntheticSet.from_pretrained(folder / SET) if is_set(folder / SET) else None
    except InputError:
        return None
    if kept is None or not same_making(facts, kept.provenance, parts.recipe):
        return None
    require_same_data(kept.provenance, parts.train, folder)
    made = kept.provenance.get("made")
    known = made.get("inputs") if isinstance(made, Mapping) else None
    require_same_inputs(known, inputs, f"the set in {folder}")
    return kept


def _made(parts: Parts, kept: Coreset, context: Context) -> SyntheticSet:
    """What the method makes, in the time that `-v` and a method's single step are told."""
    recipe, began = parts.recipe, time.perf_counter()
    synthetic = parts.method.make(kept, parts.prior, recipe.settings, context)
    seconds = round(time.perf_counter() - began, 4)
    require_set(synthetic, recipe.method.kind, parts.train, recipe.ipc)
    detail("set", f"{len(synthetic.labels):,} samples, made in {seconds:,.1f} seconds")
    if context.on_step is not None and not (recipe.matches or "seconds" in synthetic.provenance):
        context.on_step({"step": 0, "seconds": seconds})
    seen = parts.normalization if isinstance(parts.normalization, Whitening) else None
    return replace(synthetic, whitening=seen)


def _saved(
    synthetic: SyntheticSet, folder: Path, recipe: str, accelerator: Accelerator
) -> SyntheticSet:
    """The set as the run's folder holds it, on all processes."""
    if accelerator.is_main_process:
        synthetic = synthetic.as_stored()
        synthetic.save_pretrained(folder / SET, recipe=recipe)
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1:  # the main process's, to the last bit
        return SyntheticSet.from_pretrained(folder / SET)
    return synthetic


def _keep_grid(synthetic: SyntheticSet, folder: Path) -> None:
    """Leave the set's picture in the run folder too; one that was deleted is drawn again."""
    if not (folder / SET / GRID).is_file():
        save_grid(folder / SET / GRID, synthetic.levels(), synthetic.labels, synthetic.class_names)
    grid = (folder / SET / GRID).read_bytes()
    if not (folder / GRID).is_file() or (folder / GRID).read_bytes() != grid:
        write_bytes(folder / GRID, grid)


def _scored(parts: Parts, setting: Setting, synthetic: SyntheticSet, coreset: Dataset) -> Results:
    """Results of the set and of the rows beside it."""
    recipe, protocol, rows = parts.recipe, parts.protocol, parts.recipe.evaluate.rows
    if recipe.evaluate.learned_lr:
        protocol = protocol.with_learned_lr(synthetic.learned_lr)
    # Sets of earlier versions lack the fact.
    told = {**_classifier_fact(parts), **synthetic.provenance}
    own = {"distilled": replace(synthetic, provenance=told)}
    sets = with_baselines(own, rows, recipe.ipc, train=parts.train, coreset=coreset)
    return score_sets(sets, protocol, setting, ipc=recipe.ipc)


def _tell_and_push(synthetic: SyntheticSet, results: Results, folder: Path, parts: Parts) -> None:
    """Write and print the table, name the files, push the set if a repository is named."""
    home = folder / SET
    if results:
        save(folder / RESULTS, results)
        synthetic.add_results(home, to_json(results), recipe=parts.shared)
        print(f"\n{to_text(results)}\n")
        print(f"results: {folder / RESULTS}")
    if synthetic.kind == "images":
        print(f"grid: {folder / GRID}")
    if (to := parts.recipe.push).repo is not None:
        url = push_folder(home, to)
        print(f"pushed: {url}")
