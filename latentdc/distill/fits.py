"""What `distill_dataset` refuses before it does anything: no parts of a run, or of another one."""

from collections.abc import Mapping

from accelerate import Accelerator

from latentdc.arguments import require_a, require_able, require_json
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.images import Kind
from latentdc.objectives.base import Objective
from latentdc.priors.base import Prior
from latentdc.priors.vector import VectorPrior


def check_parts(
    coreset: Dataset,
    prior: Prior,
    objective: Objective,
    provenance: Mapping[str, object] | None,
    accelerator: Accelerator | None,
) -> None:
    """Refuse things of another kind, and those that were made for other samples or classes.

    Raises:
        InputError: says which.
    """
    require_a(Dataset, coreset, "coreset", "such as the first of open_splits(Data())")
    require_able(
        "encode decode condition resolution identity", prior, "prior", "what load_prior makes"
    )
    require_able("accumulate scope", objective, "objective", "what build_objective makes")
    if accelerator is not None:
        require_a(Accelerator, accelerator, "accelerator", "make one, or leave it out")
    if provenance is not None:
        require_json(provenance, "provenance")
    kind: Kind = "vectors" if isinstance(prior, VectorPrior) else "images"
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
