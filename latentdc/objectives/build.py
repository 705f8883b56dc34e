"""From an objective's settings to the objective."""

from collections.abc import Callable, Sequence
from functools import partial

from latentdc import arguments
from latentdc.errors import InputError
from latentdc.modes import in_plain_modes
from latentdc.objectives.base import ExpertWeights, Objective, ObjectiveRequest
from latentdc.objectives.classwise import Classwise, Students
from latentdc.objectives.distribution import match_distributions
from latentdc.objectives.effects import distribution_effects, gradient_effects
from latentdc.objectives.gradient import match_gradients
from latentdc.objectives.own import own_match
from latentdc.objectives.trajectory import TrajectoryMatching
from latentdc.preprocessing import Normalization, Preprocessing
from latentdc.priors.base import Prior
from latentdc.recipe import ObjectiveSettings


@in_plain_modes
def build_objective(
    settings: ObjectiveSettings,
    *,
    num_classes: int,
    resolution: int,
    normalization: Preprocessing | None = None,
    experts: ExpertWeights | None = None,
    prior: Prior | None = None,
    class_names: Sequence[str] = (),
    seed: int = 0,
) -> Objective:
    """What latents are optimised for: `dm`, `dc`, `mtt`, `denoise` or a function of your own.

    Args:
        settings: its kind and numbers; the `loops` of `dc` with both of them.
        num_classes: of the data set.
        resolution: of its images, in pixels.
        normalization: of real and synthetic images alike; None takes ImageNet's.
        experts: of `mtt`, of the same network.
        prior: of `denoise`, a diffusion prior.
        class_names: of `denoise`, which the prior has to know.
        seed: of all draws.

    Raises:
        InputError: arguments of another kind, `dc` without its loops, `mtt` without experts, and
            `denoise` without a diffusion prior.

    Examples:
        >>> def means(student, real, synthetic, label):
        ...     return (student(real).mean(0) - student(synthetic).mean(0)).square().sum()
        >>> settings = latentdc.ObjectiveSettings(kind=means, network="convnet3@8")
        >>> objective = latentdc.build_objective(settings, num_classes=10, resolution=8)
    """
    arguments.require_a(
        ObjectiveSettings, settings, "settings", 'such as latentdc.ObjectiveSettings(kind="dm")'
    )
    seed = arguments.require_seed(seed)
    num_classes = arguments.require_whole(num_classes, "num_classes")
    resolution = arguments.require_whole(resolution, "resolution")
    if normalization is not None:
        arguments.require_able("__call__ facts", normalization, "normalization", "a Normalization")
    seen = normalization or Normalization()
    request = ObjectiveRequest(num_classes, resolution, seen, experts, prior, class_names, seed)
    return OBJECTIVES.get(settings.kind, _own)(settings, request)


def _dm(settings: ObjectiveSettings, request: ObjectiveRequest) -> Objective:
    return Classwise(Students(settings, request), match_distributions, distribution_effects)


def _dc(settings: ObjectiveSettings, request: ObjectiveRequest) -> Objective:
    match = partial(match_gradients, distance=settings.distance)
    effects = partial(gradient_effects, distance=settings.distance)
    return Classwise(Students(settings, request, settings.loops), match, effects)


def _denoise(settings: ObjectiveSettings, request: ObjectiveRequest) -> Objective:
    from latentdc.objectives.denoise import Denoise  # importing diffusers takes seconds
    from latentdc.priors.diffusion import DiffusionPrior

    if not isinstance(request.prior, DiffusionPrior):
        raise InputError("denoise asks a diffusion prior; build_objective(..., prior=...).")
    return Denoise(
        settings.denoise, request.prior, class_names=request.class_names, seed=request.seed
    )


def _own(settings: ObjectiveSettings, request: ObjectiveRequest) -> Objective:
    match = own_match(settings.kind, settings.network, **request.sizes)
    return Classwise(Students(settings, request), match, None)


OBJECTIVES: dict[str, Callable[[ObjectiveSettings, ObjectiveRequest], Objective]] = {
    "dm": _dm,
    "dc": _dc,
    "mtt": TrajectoryMatching,
    "denoise": _denoise,
}
"""By `objective.kind`; all other kinds are names of one's own functions."""
