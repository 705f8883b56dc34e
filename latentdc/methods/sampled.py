"""Before and after sampling: what is refused, and which of the sampled images stay."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.estimates import in_bytes
from latentdc.images import to_uint8
from latentdc.methods.anchors import RealLatents, rows_by_hash
from latentdc.methods.context import Context
from latentdc.methods.decode import RENDERED
from latentdc.methods.latents import require_shared
from latentdc.methods.own import try_own_guides
from latentdc.methods.pools import NONE, Candidates, classify, judged, select
from latentdc.methods.selection import opened_set, student_of
from latentdc.priors.base import Prior
from latentdc.priors.classes import match_classes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.memory import free_bytes
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Sampling
from latentdc.synthetic.synthetic_set import SyntheticSet

# Guides that divide by the image's share in x, and those of formulas in alpha, which no flow has.
DIVIDE = ("text_mode", "entropy", "learnability", "diversity")
OF_ALPHA = ("entropy", "learnability", "influence", "diversity")
COMPARED = 10**12  # values of noisy groups of a class; 10^8 take a second of a CPU core


class Networks:
    """What guides and choices ask beside the prior: each is there where the settings ask for it.

    Attributes:
        snapshots: networks of one training on the core set.
        student: of the images of an earlier set.
        classifier: of the real images.
    """

    snapshots: Sequence[nn.Module]
    student: Classifier
    classifier: Classifier

    def __init__(self, settings: Sampling, context: Context, real: Dataset) -> None:
        if "influence" in settings.guides:
            if context.snapshots is None:
                raise InputError(
                    "sampling.influence follows a training; give Context(snapshots=...)."
                )
            self.snapshots = context.snapshots(real, settings.influence.epochs)
        if settings.learns:
            self.student = student_of(_start(settings, context), context)
        if settings.asks_classifier:
            self.classifier = context.real_classifier()[0]


def _start(settings: Sampling, context: Context) -> SyntheticSet:
    """The set of earlier images."""
    assert settings.learnability.start is not None, "the settings ask for it"
    return opened_set(settings.learnability.start, context.real_images(), context)


# ---- Before ----


def check_sample(
    counts: Mapping[str, int], prior: Prior | None, settings: Sampling, context: Context
) -> None:
    """Refuse what the prior or a class lacks, as soon as data and prior are open."""
    if not isinstance(prior, DiffusionPrior):
        raise InputError("sampling takes a diffusion prior; write prior.kind=diffusion.")
    names = tuple(counts)
    require_shared(len(names), context.accelerator.num_processes)
    check_guides(prior, settings)
    known = match_classes(names, prior)
    if "semantic" in settings.guides and len(names) == 1:
        raise InputError(
            f"sampling.semantic mixes conditions of two classes, and there is only {names[0]!r}; "
            "leave it out, or take sampling.diversity for other images of a class."
        )
    _check_counts(counts, settings, context.ipc)
    _check_room(len(names), prior, settings, context)
    if settings.learns:
        _start(settings, context)
    try_own_guides(prior, settings, names[0], int(known[0]))


def check_guides(prior: DiffusionPrior, settings: Sampling) -> None:
    """Refuse guides that ask what a prior lacks, or that no step would obey."""
    on, flow = {*settings.guides}, prior.schedule.is_flow
    settings.check_steps(len(prior.schedule.timesteps))
    if flow and settings.eta > 0 and settings.denoise:
        raise InputError(
            "this prior is a flow, whose steps add no noise, and sampling.eta is "
            f"{settings.eta:g}; write sampling.eta=0."
        )
    if flow and (lost := [name for name in OF_ALPHA if name in on]):
        raise InputError(
            f"sampling.{lost[0]} is a formula of a diffusion's alpha, which this prior, a flow, "
            "does not have; leave it out, or take sampling.mode, text_mode, features or transport."
        )
    _check_windows(prior, settings)
    one = prior.condition(torch.zeros(1, dtype=torch.long, device=prior.device))
    every = prior.guided_channels in (None, prior.latent_shape[0])
    why = "knows no classes" if one is None else ""
    if not why and prior.guidance == 0 and every:
        why = "is not told the classes at prior.guidance=0"
    if why and settings.start == "noise" and on <= {"deviation", "entropy"}:
        raise InputError(
            f"this prior {why}, and nothing else tells the sampler of them: take "
            "sampling.start=anchors, or a guide towards the class, such as sampling.mode."
        )
    if why and "text_mode" in on:
        raise InputError(
            f"sampling.text_mode pulls the conditional branch, and this prior {why}; take "
            "sampling.mode."
        )
    if why and "semantic" in on:
        raise InputError(
            f"sampling.semantic mixes conditions of two classes, and this prior {why}; leave it "
            "out, or take sampling.diversity for other images of a class."
        )
    if "features" in on:
        blank = torch.zeros(1, *prior.latent_shape, device=prior.device)
        with torch.no_grad():
            prior.features(blank, 0, one)  # refuses where there is no middle block


def _check_counts(counts: Mapping[str, int], settings: Sampling, ipc: int) -> None:
    """Refuse classes with fewer images than anchors, or too few for a deviation."""
    kind = settings.anchors.kind
    if kind == "none":
        return
    least, made, lower = ipc, f"{ipc} anchors are made", "ipc or sampling.anchors.outliers"
    if kind == "gaussian":
        least, made, lower = 2, "a deviation is taken", "sampling.anchors.outliers"
    for name, count in counts.items():
        left = count - int(settings.anchors.outliers * count)
        if left < least:
            raise InputError(
                f"{made} of {least} or more different images of each class, and {name!r} has "
                f"{left}; lower {lower}, or keep more (prune.keep)."
            )


def _check_room(classes: int, prior: DiffusionPrior, settings: Sampling, context: Context) -> None:
    """Refuse more candidates than there is room for, on any process, or than can be compared."""
    free, values = min(gather_object([free_bytes(prior.device)])), math.prod(prior.latent_shape)
    own = -(-classes // context.accelerator.num_processes)
    groups, per_group = settings.select.groups, own * context.ipc * values * 4
    most = f"lower sampling.select.groups to {max(2, free // per_group):,} at most"
    if settings.choice.kind is not None and groups * per_group > free:
        raise InputError(
            f"{groups * own * context.ipc:,} candidates (sampling.select.groups={groups:,}) stay "
            f"until the choice, {in_bytes(groups * per_group)} of latents, and "
            f"{in_bytes(free)} of memory are free; {most}."
        )
    if settings.chooses_noise and groups * values > COMPARED:
        raise InputError(
            f"moments compare {groups:,} groups of {values:,} values for each class, which takes "
            f"hours; lower sampling.select.groups to {max(2, COMPARED // values):,} at most."
        )


def _check_windows(prior: DiffusionPrior, settings: Sampling) -> None:
    """Refuse guides that none of the steps that are walked would obey, or that have no step."""
    start, steps = prior.start_index(settings.strength), len(prior.schedule.timesteps)
    for name, guide in settings.guides.items():
        first, after = guide.window or (0, steps)
        acting = range(max(first, start), after)
        if not acting:
            raise InputError(
                f"sampling.{name}.window={[first, after]} ends before step {start}, where "
                f"sampling.strength={settings.strength} starts; end it later."
            )
        if name == "mode" and settings.eta > 0 and acting[0] == steps - 1:
            raise InputError(
                "sampling.mode pulls in units of the noise that a step adds, and step "
                f"{steps - 1}, the last, adds none; begin its window earlier, or write "
                "sampling.eta=0."
            )
        if name in DIVIDE and not prior.schedule.alphas[acting[0]]:
            raise InputError(
                f"sampling.{name} divides by the share of the image in x, and at step {acting[0]} "
                "this prior's x is noise alone; begin its window at step "
                f"{acting[0] + 1}: sampling.{name}.window=[{acting[0] + 1},{after}]."
            )


# ---- After ----


def chosen(
    finished: Mapping[int, Tensor], latents: RealLatents, networks: Networks, context: Context
) -> dict[int, Tensor]:
    """(ipc,) candidates that stay, of each class of this process.

    `finished` are (n, C, h, w) latents of the candidates, by class.
    """
    names, choice = latents.real.class_names, latents.settings.choice
    pool = {names[label]: _candidates(label, z, latents, networks) for label, z in finished.items()}
    if choice.kind == "centroids":  # compares classes
        pool = {name: one for some in gather_object([pool]) for name, one in some.items()}
    found = select(pool, context.ipc, choice, context.seed)
    return {label: found[names[label]] for label in finished}


def _candidates(label: int, z: Tensor, latents: RealLatents, networks: Networks) -> Candidates:
    """What the choice asks of the candidates of a class."""
    choice, real = latents.settings.choice, latents.real
    anchors = latents.summary(label).anchors if choice.kind == "nearest" else NONE

    def rendered(z: Tensor) -> Tensor:
        return torch.cat([to_uint8(latents.prior.render(some)).cpu() for some in z.split(RENDERED)])

    if choice.needs_classifier:
        classifier = networks.classifier
        student = networks.student if choice.kind == "learnability" else None
        rows = rows_by_hash(real, label)
        found = judged(choice, classifier, student, rendered(z), label, real, rows)
        if len(anchors):
            found = replace(found, anchors=classify(classifier, rendered(anchors), label).points)
        return found
    if not choice.compares_points:
        return Candidates(len(z))
    mean, std = latents.summary(label).latents.flatten(1)
    anchors = anchors.cpu().flatten(1) if len(anchors) else anchors
    return Candidates(len(z), points=z.cpu().flatten(1), mean=mean, std=std, anchors=anchors)
