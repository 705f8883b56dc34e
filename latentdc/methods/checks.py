"""What matching refuses before it begins, and a run before it scores.

A recipe's own contradictions are refused in `latentdc.recipe`; here are those that only data and
prior show.
"""

from collections.abc import Mapping

import torch

from latentdc.arguments import require_a, require_able
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.methods.context import Context
from latentdc.methods.latents import require_enough_images, require_shared
from latentdc.methods.real import separable
from latentdc.objectives.base import LEARNED_LR, Objective
from latentdc.priors.base import Prior
from latentdc.priors.classes import match_classes
from latentdc.priors.pixel import VectorPrior
from latentdc.recipe import Matching


def check_parts(
    coreset: Dataset, prior: Prior, objective: Objective, settings: Matching, context: Context
) -> None:
    """Refuse things of another kind, and those that were made for other samples or classes."""
    require_a(Dataset, coreset, "coreset", "such as the first of open_splits(Data())")
    require_able(
        "encode decode condition resolution identity", prior, "prior", "what load_prior makes"
    )
    require_able("accumulate scope", objective, "objective", "what build_objective makes")
    require_a(Matching, settings, "settings", "such as Matching(steps=1000)")
    require_a(Context, context, "context", "such as Context(ipc=10)")
    kind = "vectors" if isinstance(prior, VectorPrior) else "images"
    if kind != coreset.kind:
        raise InputError(
            f"the prior decodes {kind}, and the core set holds {coreset.kind}; take a prior of "
            f"{coreset.kind}."
        )
    size = "values" if kind == "vectors" else "px"
    if prior.resolution != coreset.resolution:
        raise InputError(
            f"the prior decodes {kind} of {prior.resolution} {size}, and those of the core set "
            f"have {coreset.resolution}; load it with resolution={coreset.resolution}."
        )
    for name, here in (
        ("num_classes", coreset.num_classes),
        ("resolution", coreset.resolution),
    ):
        built = getattr(objective, name, here)
        if built != here:
            raise InputError(
                f"the objective was built with {name}={built}, and the core set has {here}; "
                f"build_objective(..., {name}={here})."
            )


def check_match(
    counts: Mapping[str, int],
    prior: Prior,
    objective: Objective,
    settings: Matching,
    context: Context,
    *,
    steps: int,
) -> None:
    """Refuse what does not go together, as soon as data and prior are open.

    `counts` are the different images of each class in the core set, `steps` those that are left.
    """
    processes, num_classes = context.accelerator.num_processes, len(counts)
    if settings.init == "real":
        require_enough_images(counts, context.ipc)
    elif lacking := [name for name, count in counts.items() if not count]:
        raise InputError(
            f"the core set has no image of {lacking[0]!r}, and synthetic images are matched with "
            "real ones of their class; raise prune.keep."
        )
    require_shared(num_classes, processes)
    per_step = settings.classes_per_step
    if per_step is not None and objective.scope == "set":
        raise InputError(
            f"distill.classes_per_step={per_step}, but the objective compares all classes at once; "
            "take null, or an objective that is a sum over classes (dm, dc without inner steps, "
            "of networks without batch norm)."
        )
    if per_step is not None and not processes <= per_step <= num_classes:
        raise InputError(
            f"distill.classes_per_step={per_step} is between the number of processes, {processes}, "
            f"and that of classes, {num_classes}; null takes all classes in every step."
        )
    separable(settings.trim, objective)
    space, learns = getattr(objective, "space", prior), LEARNED_LR in objective.state()
    check_moves(space, settings, learns=learns, steps=steps, device=context.accelerator.device)
    match_classes(tuple(counts), prior)


def check_moves(
    prior: Prior, settings: Matching, *, learns: bool, steps: int, device: torch.device | str
) -> None:
    """Refuse steps that would move nothing, where the objective `learns` nothing too."""
    if steps == 0:
        return
    conditional = prior.condition(torch.zeros(1, dtype=torch.int64, device=device)) is not None
    if conditional and settings.lr_c == "auto" and settings.optimizer == "adam":
        raise InputError(
            "distill.lr_c=auto is a rate of SGD, and distill.optimizer is adam; give it a number, "
            "0 to keep the conditions as they are."
        )
    if settings.moves("lr_z") or learns:
        return
    if conditional and settings.moves("lr_c"):
        return
    why = "" if conditional else "; this prior has no conditions that distill.lr_c could move"
    rate = str(settings.lr_c).removesuffix(".0")
    raise InputError(
        f"distill.lr_z=0 and distill.lr_c={rate}: nothing would move in {counted(steps, 'step')}"
        f"{why}. Give distill.lr_z a rate, or take distill.steps=0 for the images as they start."
    )
