"""Refinement: images that were sampled and chosen are optimised on.

Sampling knows what images of a class look like, matching what they have to do: here the first gives
the second its start, in place of encoded real images. With the objective `denoise` this is CaO2
(Wang et al., ICCV 2025, https://arxiv.org/abs/2506.22637); with `dm`, `dc` or `mtt` in LD3M's space
nobody has published it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from latentdc import runtime
from latentdc.errors import InputError
from latentdc.methods.context import Context, State, check_call
from latentdc.methods.matching import match
from latentdc.methods.sampled import check_sample
from latentdc.methods.sampling import sampling
from latentdc.modes import in_plain_modes
from latentdc.priors.base import Prior
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Matching, Sampling
from latentdc.recipe.fields import show
from latentdc.synthetic.synthetic_set import SyntheticSet

_SAMPLED = "sampled"  # provenance of the first stage, in the states of the second one


def check_refine(
    counts: Mapping[str, int],
    prior: Prior | None,
    settings: tuple[Sampling, Matching],
    context: Context,
) -> None:
    """`check_sample`, of the first stage."""
    check_sample(counts, prior, settings[0], context)


@in_plain_modes
def refine(
    coreset: Coreset, prior: Prior | None, settings: tuple[Sampling, Matching], context: Context
) -> SyntheticSet:
    """`sampling`, then `matching` from the latents that it left.

    Raises:
        InputError: there is no prior or objective, or as of either stage.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=16))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> settings = latentdc.PriorSettings(weights="digits", steps=2)
        >>> prior = latentdc.load_prior(settings, resolution=16)
        >>> matched = latentdc.ObjectiveSettings(network="convnet3@8", batch=16)
        >>> objective = latentdc.build_objective(matched, num_classes=10, resolution=16)
        >>> context = latentdc.Context(ipc=1, train=train, objective=objective)
        >>> stages = latentdc.Sampling(), latentdc.Matching(steps=1, init="sampled")
        >>> latentdc.refine(coreset, prior, stages, context)
        SyntheticSet(10 images of 16 px, uint8, 10 classes: '0', '1', '2', ...; with z, c, noise)
    """
    if not isinstance(settings, tuple) or len(settings) != 2:
        raise InputError(
            f"settings of refine are (Sampling(), Matching()), got {show(settings)}; give both."
        )
    first, second = settings
    check_call(coreset, first, Sampling, context)
    check_call(coreset, second, Matching, context)
    if prior is None or context.objective is None:
        raise InputError("refine takes a prior and Context(objective=...); give both.")
    real = context.core_images(coreset)
    saved = context.saved_state()
    # Steps of both stages are counted on, so that the last state is the one furthest on.
    ahead = real.num_classes * first.choice.candidates(context.ipc)
    if saved is not None and "objective" in saved.facts:
        z, facts = None, saved.facts[_SAMPLED]
        begun = saved._replace(step=saved.step - ahead)
    else:
        made, begun = sampling(coreset, prior, first, context), None
        z, facts = runtime.broadcast(made.z), made.provenance

    def save(state: State) -> None:
        assert context.save_state is not None
        told = {**state.facts, _SAMPLED: facts}
        context.save_state(state._replace(step=state.step + ahead, facts=told))

    def told(measures: Mapping[str, Any]) -> None:
        assert context.on_step is not None
        context.on_step({**measures, "step": measures["step"] + ahead})

    surround = replace(
        context,
        load_state=lambda: begun,
        save_state=None if context.save_state is None else save,
        on_step=None if context.on_step is None else told,
    )
    # Of real images the start needs none of its own.
    second = replace(second, init="sampled")
    refined = match(real, prior, context.objective, second, surround, z=z)
    own: Mapping[str, Any] = refined.provenance
    seconds = {**facts["seconds"], **own.get("seconds", {})}
    return replace(refined, provenance={**facts, **own, "seconds": seconds})
