"""Guided sampling: anchors of the real latents, steps that guides correct, and a choice at the end.

Each process samples the classes it owns, one after the other, some images of a class together. All
draws are keyed by the class's name and the image's number, so that neither processes nor the order
of classes matter. z of the set is what the sampler left, which the decoder turns into its images.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentdc.clusters import inliers
from latentdc.data.dataset import Dataset, different_counts, hash_samples
from latentdc.draws import choose, generator
from latentdc.errors import InputError
from latentdc.images import Images, as_floats, to_uint8
from latentdc.io import as_read_back
from latentdc.methods import guides
from latentdc.methods.anchors import AT_ONCE, class_rows, clustered, encoded, moments
from latentdc.methods.context import Context, State
from latentdc.methods.decode import synthetic_set
from latentdc.methods.latents import Latents, own_classes
from latentdc.methods.log import diverged
from latentdc.methods.pools import Candidates, gaussian_group, judged, select
from latentdc.objectives.gradient import real_gradient
from latentdc.priors.base import Prior
from latentdc.priors.classes import match_classes
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.sampler import Guide, noised
from latentdc.prune.coreset import Coreset
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Sampling
from latentdc.synthetic.synthetic_set import SyntheticSet

STAGES = ("anchors", "sampling", "selection")


@torch.no_grad()
def sampling(
    coreset: Coreset, prior: Prior | None, settings: Sampling, context: Context
) -> SyntheticSet:
    """`context.ipc` sampled images of each class, and the latents that they were decoded from.

    Raises:
        InputError: what the settings ask for and the prior, the context or a class lacks; before
            anything is sampled. A saved state of another set.
    """
    train = context.real_images()
    real = train.select(coreset.indices(train))
    accelerator = context.accelerator
    if not isinstance(prior, DiffusionPrior):
        raise InputError("sampling takes a diffusion prior; write prior.kind=diffusion.")
    maker = _Maker(real, prior, settings, context)
    maker.check()
    own = own_classes(real.num_classes, accelerator.process_index, accelerator.num_processes)
    finished = _sample_classes(maker, own, accelerator)
    rows = maker.choose(finished)
    parts = tuple(finished[label][rows[label]] for label in own)
    latents = Latents(tuple(own), context.ipc, parts, None, None)
    made = synthetic_set(latents, prior.autoencoder, real.class_names, context)
    seconds = {name: round(maker.seconds[name], 2) for name in STAGES}
    made = replace(made, provenance={"seconds": seconds})
    if not settings.weights:
        return made
    weights = torch.zeros(real.num_classes, context.ipc, device=accelerator.device)
    for label in own:
        weights[label] = maker.summary(label).masses.to(weights) * context.ipc
    return replace(made, weights=accelerator.reduce(weights, "sum").flatten().cpu())


def _sample_classes(maker: "_Maker", own: range, accelerator: Accelerator) -> dict[int, Tensor]:
    """(n, C, h, w) candidates of each class of this process, on its device; kept on the way."""
    context, settings = maker.context, maker.settings
    facts = maker.facts(accelerator)
    saved = None if context.load_state is None else context.load_state()
    finished = {label: torch.empty(0, *maker.prior.latent_shape) for label in own}
    done = 0
    if saved is not None:
        saved.require_same(facts)
        finished |= {label: t["z"] for label, t in saved.tensors(own).items() if "z" in t}
        done = saved.step
        for name, before in zip(STAGES, saved.shared["seconds"].tolist(), strict=True):
            maker.seconds[name] += before
    finished = {label: z.to(accelerator.device) for label, z in finished.items()}
    batches = range(0, maker.count, settings.batch)
    left = [(label, at) for label in own for at in batches if at >= len(finished[label])]
    counts: list[int] = gather_object([len(left)])

    def save() -> None:
        if context.save_state is None:
            return
        shared = {"seconds": torch.tensor([maker.seconds[name] for name in STAGES])}

        def tensors(some: Any) -> dict[int, dict[str, Tensor]]:
            return {label: {"z": z.cpu()} for label in some if len(z := finished[label])}

        context.save_state(State(done, facts, own, tensors, shared))

    quiet = not accelerator.is_main_process
    for turn in tqdm(range(max(counts)), "sample", disable=quiet, mininterval=1):
        began = time.perf_counter()
        if turn < len(left):
            label, first = left[turn]
            numbers = range(first, min(first + settings.batch, maker.count))
            z = maker.sample(label, numbers, finished[label])
            if not z.isfinite().all():
                name, scales = maker.real.class_names[label], ", ".join(settings.guides)
                raise diverged(
                    f"sampled latents of {name!r} are not finite",
                    f"Lower the scales of {scales}" if scales else "Take other weights",
                )
            if settings.weights or (maker.choice.kind and maker.choice.sees == "latents"):
                maker.summary(label)  # while the class is known
            finished[label] = torch.cat([finished[label], z])
        if context.on_step is not None:
            context.on_step({"step": done, "seconds": round(time.perf_counter() - began, 4)})
        done += sum(turn < count for count in counts)
        if (turn + 1) % settings.checkpoint_every == 0 or turn + 1 == max(counts):
            save()
    return finished


@dataclass(frozen=True)
class _Known:
    """What is known of the real images of one class.

    Attributes:
        latents: (n, C, h, w) on the CPU, without outliers.
        anchors: (ipc, C, h, w) on the prior's device.
        masses: (ipc,) shares of the latents.
        starts: (n, C, h, w) latents of the anchors' Gaussian, as noisy as the first step.
    """

    latents: Tensor
    anchors: Tensor
    masses: Tensor
    starts: Tensor


class _Maker:
    """Makes the candidates of a class, and chooses among them.

    Attributes:
        count: candidates of each class.
        start: index of the first step.
        prior_labels: (C,) labels of the prior for the classes of the data set.
        seconds: that each stage has taken.
    """

    def __init__(
        self, real: Dataset, prior: DiffusionPrior, settings: Sampling, context: Context
    ) -> None:
        self.real, self.prior, self.settings, self.context = real, prior, settings, context
        gaussian = settings.anchors.kind == "gaussian"
        choice = settings.select
        early = gaussian and choice.kind == "moments" and choice.sees == "latents"
        self.choice = replace(choice, kind=None) if early else choice  # early: not yet denoised
        self.count = self.choice.candidates(context.ipc)
        self.start = prior.start_index(settings.strength)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.prior_labels = match_classes(real.class_names, prior)
        self.known = lru_cache(maxsize=1)(self._known)
        self.summaries: dict[int, _Known] = {}
        self.support = lru_cache(maxsize=1)(self._support)
        self.targets = lru_cache(maxsize=1)(self._targets)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - began

    # ---- Before ----

    def check(self) -> None:
        """Refuse what the prior or a class lacks; open now the networks that are needed later."""
        settings, on = self.settings, self.settings.guides
        processes, classes = self.context.accelerator.num_processes, self.real.num_classes
        if processes > classes:
            raise InputError(
                f"{processes} processes share {classes} classes; start at most {classes}."
            )
        settings.check_steps(len(self.prior.schedule.timesteps))
        self._check_windows(len(self.prior.schedule.timesteps) - 1)
        one = self.prior.condition(self.prior_labels[:1].to(self.prior.device))
        if one is None and settings.start == "noise" and {*on} <= {"deviation", "entropy"}:
            raise InputError(
                "this prior knows no classes, and nothing else tells the sampler of them: take "
                "sampling.start=anchors, or a guide towards the class, such as sampling.mode."
            )
        if "text_mode" in on and one is None:
            raise InputError(
                "sampling.text_mode pulls the conditional branch, and this prior is unconditional; "
                "take sampling.mode."
            )
        if "features" in on:
            blank = torch.zeros(1, *self.prior.latent_shape, device=self.prior.device)
            self.prior.features(blank, 0, one)  # refuses where there is no middle block
        if settings.anchors.kind in ("centres", "medoids"):
            for name, count in zip(
                self.real.class_names, different_counts(self.real).tolist(), strict=True
            ):
                left = count - int(settings.anchors.outliers * count)
                if left < self.context.ipc:
                    raise InputError(
                        f"{self.context.ipc} anchors are made of each class, and {name!r} has "
                        f"{left} different images for them; lower ipc or sampling.anchors.outliers,"
                        " or keep more (prune.keep)."
                    )
        if "influence" in on:
            self.networks  # noqa: B018
        if "entropy" in on or self.choice.needs_classifier:
            self.classifier  # noqa: B018

    def _check_windows(self, last: int) -> None:
        """Refuse guides that none of the steps that are walked would obey."""
        for name, guide in self.settings.guides.items():
            first, after = guide.window or (0, last + 1)
            acting = range(max(first, self.start), after)
            if not acting:
                raise InputError(
                    f"sampling.{name}.window={[first, after]} ends before step {self.start}, where "
                    f"sampling.strength={self.settings.strength} starts; end it later."
                )
            if name == "mode" and self.settings.eta > 0 and acting[0] == last:
                raise InputError(
                    f"sampling.mode pulls in units of the noise that a step adds, and step {last}, "
                    "the last, adds none; begin its window earlier, or write sampling.eta=0."
                )

    def facts(self, accelerator: Accelerator) -> dict[str, Any]:
        """What a saved state belongs to."""
        real = self.real
        return {
            "classes": real.num_classes,
            "core_set": hash_samples(real.hashes, real.labels, real.class_names),
            "ipc": self.context.ipc,
            "seed": self.context.seed,
            "prior": self.prior.identity,
            "decoding": self.prior.settings,
            "sampling": as_read_back(asdict(replace(self.settings, checkpoint_every=1))),
            "precision": accelerator.mixed_precision,
        }

    @cached_property
    def classifier(self) -> nn.Module:
        return self.context.real_classifier()[0]

    @cached_property
    def networks(self) -> Sequence[nn.Module]:
        """Snapshots of a training."""
        if self.context.snapshots is None:
            raise InputError("sampling.influence follows a training; give Context(snapshots=...).")
        return self.context.snapshots(self.settings.influence.epochs)

    # ---- Anchors ----

    def _known(self, label: int) -> _Known:
        with self.timed("anchors"):
            settings, name = self.settings.anchors, self.real.class_names[label]
            empty = torch.empty(0)
            needed = {"features", "transport", "diversity"} & {*self.settings.guides}
            if settings.kind == "none" and not needed and self.choice.sees != "latents":
                return _Known(empty, empty, empty, empty)
            rows = class_rows(self.real, label)
            latents = encoded(self.real, rows, self.prior.encode, self.prior.device)
            latents = latents[inliers(latents.flatten(1), settings.outliers, settings.neighbours)]
            if settings.kind == "gaussian":
                return _Known(latents, empty, empty, self._gaussian(label, latents))
            if settings.kind == "none":
                return _Known(latents, empty, empty, empty)
            anchors, masses = clustered(
                latents,
                self.context.ipc,
                self.context.seed,
                name,
                medoids=settings.kind == "medoids",
            )
            return _Known(latents, anchors.to(self.prior.device), masses, empty)

    def summary(self, label: int) -> _Known:
        """What the end needs: latents are their mean and deviation alone, (2, C, h, w)."""
        if label not in self.summaries:
            known = self.known(label)
            moments = torch.std_mean(known.latents, dim=0, correction=0)[::-1]
            self.summaries[label] = replace(known, latents=torch.stack(moments))
        return self.summaries[label]

    def _gaussian(self, label: int, latents: Tensor) -> Tensor:
        """(count, C, h, w) draws of the Gaussian of a class's inverted latents."""

        def invert(z: Tensor) -> Tensor:
            labels = self.prior_labels[[label]].expand(len(z))
            return self.prior.invert(z, labels.to(z.device), stop=self.start)

        mean, std = moments(latents, invert, self.prior.device)
        source = generator(self.context.seed, "gaussian", self.real.class_names[label])
        if self.choice.kind != self.settings.select.kind:
            choice, ipc = self.settings.select, self.context.ipc
            return gaussian_group(
                mean, std, ipc, groups=choice.groups, skew=choice.skew, source=source
            )
        return mean + std * torch.randn(self.count, *mean.shape, generator=source)

    # ---- Sampling ----

    def sample(self, label: int, numbers: range, finished: Tensor) -> Tensor:
        """(B, C, h, w) clean latents of some candidates of a class.

        Args:
            label: of the class.
            numbers: of the candidates; the k-th of each group of ipc has the k-th anchor.
            finished: (M, C, h, w) candidates that were sampled before.
        """
        settings, known = self.settings, self.known(label)
        with self.timed("sampling"):
            slots = torch.tensor([number % self.context.ipc for number in numbers])
            anchors = known.anchors[slots] if len(known.anchors) else known.anchors
            if not settings.denoise:
                return anchors
            from_anchors = settings.start == "anchors" and len(anchors) > 0
            return self.prior.sample(
                self.prior_labels[[label]].expand(len(numbers)),
                [(self.real.class_names[label], number) for number in numbers],
                seed=self.context.seed,
                start=self.start,
                z=anchors if from_anchors else None,
                x=known.starts[list(numbers)] if len(known.starts) else None,
                eta=settings.eta,
                guides=self._guides(label, anchors, finished),
            )

    def _guides(self, label: int, anchors: Tensor, finished: Tensor) -> list[Guide]:
        """The guides of one batch."""
        settings, known, render = self.settings, self.known(label), self.prior.render
        ot, cgs = settings.transport, settings.diversity
        make: dict[str, Callable[[float, guides.Steps], Guide]] = {
            "text_mode": partial(guides.text_mode, anchors),
            "entropy": lambda *how: guides.entropy(self.classifier, render, *how),
            "transport": lambda *how: guides.transport(
                *self.support(label),
                finished,
                *how,
                epsilon=ot.epsilon,
                iterations=ot.iterations,
            ),
            "mode": partial(guides.mode, anchors, ancestral=settings.eta > 0),
            "features": lambda *how: guides.features(*self._features(label), *how),
            "influence": lambda *how: guides.influence(
                self.networks, self.targets(label), label, render, *how
            ),
            "deviation": partial(guides.deviation, finished),
            "diversity": lambda scale, steps: guides.diversity(
                known.latents.mean(dim=0).to(self.prior.device),
                finished,
                scale,
                cgs.mean_scale,
                steps,
                epsilon=cgs.epsilon,
            ),
        }
        windows = {name: guide.window for name, guide in settings.guides.items()}
        return [
            make[name](guide.scale, None if (w := windows[name]) is None else range(*w))
            for name, guide in settings.guides.items()
        ]

    def _features(self, label: int) -> tuple[guides.Embed, Callable[[int], Tensor]]:
        """The denoiser's features under the class, and its real latents as noisy as a step's."""
        prior, latents = self.prior, self.known(label).latents
        name, count = self.real.class_names[label], self.settings.features.real
        place = self.prior_labels[[label]].to(prior.device)

        def embed(x: Tensor, index: int) -> Tensor:
            return prior.features(x, index, prior.condition(place.expand(len(x))))

        def real(index: int) -> Tensor:
            source = generator(self.context.seed, "features", name, index)
            some = latents[choose(len(latents), count, source)]
            noise = torch.randn(some.shape, generator=source)
            return noised(some, noise, prior.schedule, index).to(prior.device)

        return embed, real

    def _support(self, label: int) -> tuple[Tensor, Tensor]:
        """Centres of the class's clusters, and their masses."""
        latents, device = self.known(label).latents, self.prior.device
        count = min(self.settings.transport.clusters, len(latents))
        name, seed = self.real.class_names[label], self.context.seed
        centres, masses = clustered(latents, count, seed, name)
        return centres.to(device), masses.to(device)

    def _targets(self, label: int) -> list[list[Tensor]]:
        """Gradients of real images of a class at the weights of each snapshot."""
        rows, name = class_rows(self.real, label), self.real.class_names[label]
        source = generator(self.context.seed, "influence", name)
        some = rows[choose(len(rows), self.settings.influence.real, source)]
        images = as_floats(self.real.images[some].to(self.prior.device))
        with torch.enable_grad():
            return [
                real_gradient(network, list(network.parameters()), images, label)
                for network in self.networks
            ]

    # ---- Selection ----

    def choose(self, finished: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """(ipc,) candidates that stay, of each class of this process."""
        with self.timed("selection"):
            names = self.real.class_names
            pool = {names[label]: self._candidates(label, z) for label, z in finished.items()}
            if self.choice.kind == "centroids":  # compares classes
                pool = {name: one for some in gather_object([pool]) for name, one in some.items()}
            chosen = select(pool, self.context.ipc, self.choice, self.context.seed)
            return {label: chosen[names[label]] for label in finished}

    def _judged(self, images: Images, label: int) -> Candidates:
        assert isinstance(self.classifier, Classifier)
        return judged(self.classifier, images, label)

    def _candidates(self, label: int, z: Tensor) -> Candidates:
        """What the choice asks of the candidates of a class."""
        choice, found = self.choice, Candidates(len(z))
        if choice.needs_classifier:
            parts = [to_uint8(self.prior.render(some)).cpu() for some in z.split(AT_ONCE)]
            found = self._judged(torch.cat(parts), label)
        if choice.kind in ("random", "confidence", None):
            return found
        if choice.sees == "features":
            rows = class_rows(self.real, label)
            real = self._judged(self.real.images[rows], label).places
            assert real is not None
            return replace(found, mean=real.mean(dim=0), std=real.std(dim=0))
        known = self.summary(label)
        mean, std = known.latents.flatten(1)
        anchors = known.anchors.cpu().flatten(1) if len(known.anchors) else None
        return replace(found, places=z.cpu().flatten(1), mean=mean, std=std, anchors=anchors)
