"""Guided sampling: anchors of the real latents, steps that guides correct, and a choice at the end.

Each process samples the classes it owns, one after the other, some images together. All draws are
keyed by the class's name and the image's number, so that neither processes, batches nor the order
of classes matter. z of the set is what the sampler left, which the decoder turns into its images.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from latentdc import draws, io, ranks, runtime
from latentdc.data.dataset import Dataset
from latentdc.images import as_floats
from latentdc.methods import guides
from latentdc.methods.anchors import RealLatents, rows_by_hash
from latentdc.methods.context import ByClass, Context, State, check_call
from latentdc.methods.decode import settle_memory, synthetic_set
from latentdc.methods.latents import Latents, class_sizes, own_classes
from latentdc.methods.log import diverged, stopped
from latentdc.methods.own import own_guides
from latentdc.methods.sampled import Networks, check_sample, chosen
from latentdc.modes import in_plain_modes
from latentdc.objectives.gradient import real_gradient
from latentdc.priors.base import Prior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.sampler import Guide, keyed_draw, noised
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Sampling
from latentdc.recipe.identity import filled
from latentdc.synthetic.synthetic_set import SyntheticSet

_STAGES = ("anchors", "sampling", "selection")
_SPARED = 20  # times as long as a checkpoint took to write, no other one is written
ImageKeys = Sequence[tuple[int, int]]  # class and number of each image, class after class


@in_plain_modes
@torch.no_grad()
def sampling(
    coreset: Coreset, prior: Prior | None, settings: Sampling, context: Context
) -> SyntheticSet:
    """`context.ipc` sampled images of each class, and the latents that they were decoded from.

    Raises:
        InputError: what the settings ask for and the prior, the context or a class lacks; before
            anything is sampled. A saved state of another set.

    Examples:
        >>> train, test = latentdc.open_splits(latentdc.Data(source="digits", resolution=16))
        >>> coreset = latentdc.prune_dataset(train, latentdc.Prune(score="random", keep=0.1))
        >>> settings = latentdc.PriorSettings(weights="digits", steps=2)
        >>> prior = latentdc.load_prior(settings, resolution=16)
        >>> context = latentdc.Context(ipc=1, train=train)
        >>> latentdc.sampling(coreset, prior, latentdc.Sampling(), context)
        SyntheticSet(10 images of 16 px, uint8, 10 classes: '0', '1', '2', ...; with z)
    """
    check_call(coreset, settings, Sampling, context)
    real = context.core_images(coreset)
    check_sample(class_sizes(real), prior, settings, context)
    assert isinstance(prior, DiffusionPrior)
    networks = Networks(settings, context, real)
    facts = _facts(real, prior, settings, context)
    saved = context.saved_state()
    if saved is not None:
        told = filled(saved.facts.get("sampling"), Sampling)
        saved._replace(facts={**saved.facts, "sampling": told}).require_same(facts)
    with torch.enable_grad():  # some guides go back through a step
        settled, plan = settle_memory(
            prior, settings.batch, saved, context.accelerator, one_step=True
        )
    if settings.choice.kind is not None:
        pool, stay = settings.choice.candidates(context.ipc), context.ipc
        counts = f"{pool * real.num_classes:,} images, of which {stay * real.num_classes:,} stay"
        ranks.say("sampling", counts)
    latents = RealLatents(real, settled, settings, context.ipc, context.seed)
    sampler = ClassSampler(latents, networks, context)
    finished = _sample_classes(sampler, saved, facts | plan)
    with sampler.timed("selection"):
        rows = chosen(finished, latents, networks, context)
    parts = tuple(z[rows[label]] for label, z in finished.items())
    own = Latents(tuple(finished), context.ipc, parts, None, None)
    made = synthetic_set(own, prior.autoencoder, real.class_names, context)
    weights = None
    if settings.weights:  # processes own neighbouring classes, in their order
        masses = gather_object([latents.summary(label).masses for label in finished])
        weights = torch.cat(masses) * context.ipc
    told = {name: round(value, 2) for name, value in sampler.seconds.items()}
    return replace(made, weights=weights, provenance={"seconds": told})


def _sample_classes(
    sampler: "ClassSampler", saved: State | None, facts: dict[str, Any]
) -> dict[int, Tensor]:
    """(n, C, h, w) candidates of each class of this process, on its device; kept on the way."""
    settings, context, classes = sampler.settings, sampler.context, sampler.real.num_classes
    accelerator, count = context.accelerator, settings.choice.candidates(context.ipc)
    own = own_classes(classes, accelerator.process_index, accelerator.num_processes)
    facts = {**facts, "processes": accelerator.num_processes}
    done, known = 0, ByClass()
    if saved is not None:
        done, known = saved.step, saved.tensors(own)
        sampler.seconds |= zip(_STAGES, saved.shared["seconds"].tolist(), strict=True)
    none = torch.empty(0, *sampler.prior.latent_shape)
    finished = {label: known.get(label, {}).get("z", none).to(accelerator.device) for label in own}
    left = _batches(
        [[(label, at) for at in range(len(z), count)] for label, z in finished.items()],
        settings.batch,
        apart=settings.class_by_class,
    )
    sizes: list[list[int]] = gather_object([[len(batch) for batch in left]])
    turns, kept, cost = max(map(len, sizes)), time.perf_counter(), 0.0

    def tensors(some: Collection[int]) -> ByClass:
        return {label: {"z": z.cpu()} for label in some if len(z := finished[label])}

    with context.stop_requests() as stop_requested:
        for turn in ranks.progress(range(turns), "sample", unit=" batches"):
            began = time.perf_counter()
            if turn < len(left):
                z = sampler.sample(left[turn], finished)
                for (label, _), image in zip(left[turn], z.split(1), strict=True):
                    finished[label] = torch.cat([finished[label], image])
            if context.on_step is not None:
                context.on_step({"step": done, "seconds": round(time.perf_counter() - began, 4)})
            done += sum(size[turn] for size in sizes if turn < len(size))
            stops = turn + 1 < turns and stop_requested()
            pause = settings.checkpoint_seconds and max(settings.checkpoint_seconds, _SPARED * cost)
            due = time.perf_counter() - kept >= pause
            if stops or turn + 1 == turns or runtime.broadcast(due):
                began = time.perf_counter()
                if context.save_state is not None:
                    shared = {"seconds": torch.tensor([*sampler.seconds.values()])}
                    context.save_state(State(done, facts, own, tensors, shared))
                kept = time.perf_counter()
                cost = kept - began
            if stops:
                raise stopped(f"{done} of {count * classes} samples, which are")
    return finished


def _facts(
    real: Dataset, prior: DiffusionPrior, settings: Sampling, context: Context
) -> dict[str, Any]:
    """What a saved state belongs to."""
    walked = asdict(replace(settings, checkpoint_seconds=0.0))
    return {**context.facts(real, prior), "sampling": io.as_read_back(walked)}


def _batches(images: Sequence[ImageKeys], size: int, *, apart: bool) -> list[ImageKeys]:
    """Images in their order, `size` at a time; if `apart` of one class at a time."""
    runs = images if apart else [[image for run in images for image in run]]
    return [run[at : at + size] for run in runs for at in range(0, len(run), size)]


class ClassSampler:
    """Samples the candidates of classes; `seconds` are those of each stage."""

    def __init__(self, latents: RealLatents, networks: Networks, context: Context) -> None:
        self.latents, self.networks, self.context = latents, networks, context
        self.real, self.prior, self.settings = latents.real, latents.prior, latents.settings
        self.seconds = dict.fromkeys(_STAGES, 0.0)
        self._targets = lru_cache(maxsize=1)(self._real_gradients)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the seconds of the block to a stage."""
        began = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - began

    def sample(self, batch: ImageKeys, finished: Mapping[int, Tensor]) -> Tensor:
        """(B, C, h, w) clean latents; all processes stop where they are not finite.

        Args:
            batch: class and number of each; the k-th of each group of ipc has the k-th anchor.
            finished: by class, (M, C, h, w) candidates that were sampled before.
        """
        with self.timed("anchors"):
            anchors, starts = self._anchors(batch)
        z = anchors
        if self.settings.denoise:
            with self.timed("sampling"):
                z = self._denoised(batch, anchors, starts, finished[batch[0][0]])
        whole = z.isfinite().flatten(1).all(dim=1).tolist()
        names = [repr(self.real.class_names[label]) for label, _ in batch]
        if broken := dict.fromkeys(name for name, one in zip(names, whole, strict=True) if not one):
            scales = ", ".join(self.settings.guides)
            raise diverged(
                f"sampled latents of {', '.join(broken)} are not finite",
                f"Lower the scales of {scales}" if scales else "Take other weights",
            )
        return z

    def _denoised(
        self, batch: ImageKeys, anchors: Tensor, starts: Tensor, finished: Tensor
    ) -> Tensor:
        """(B, C, h, w) clean latents, sampled from noise, from noised anchors or from `starts`."""
        settings, prior, seed = self.settings, self.prior, self.context.seed
        images = [(self.real.class_names[label], number) for label, number in batch]
        labels, start = torch.tensor(batch)[:, 0], prior.start_index(settings.strength)
        x = starts if len(starts) else None
        if settings.start == "anchors" and len(anchors):
            x = prior.noised(anchors, images, seed=seed, start=start)
        return prior.sample(
            self.latents.prior_labels[labels],
            images,
            seed=seed,
            start=start,
            x=x,
            eta=settings.eta,
            guides=self._guides(labels, anchors, finished),
            condition=self._condition(labels, images) if "semantic" in settings.guides else None,
        )

    def _anchors(self, batch: ImageKeys) -> tuple[Tensor, Tensor]:
        """Anchors and noisy starts of a batch, (B, C, h, w) each, or empty."""
        settings, choice = self.settings, self.settings.choice
        at_the_end = settings.weights or choice.kind == "nearest" or choice.sees == "latents"
        anchors, starts = [], []
        for label, images in groupby(batch, key=lambda image: image[0]):
            numbers, known = torch.tensor([number for _, number in images]), self.latents.of(label)
            if at_the_end:
                self.latents.summary(label)  # while the class is known
            anchors.append(
                known.anchors[numbers % self.context.ipc] if len(known.anchors) else known.anchors
            )
            starts.append(known.starts[numbers] if len(known.starts) else known.starts)
        return torch.cat(anchors), torch.cat(starts)

    def _guides(self, labels: Tensor, anchors: Tensor, finished: Tensor) -> list[Guide]:
        """The guides of one batch; of its class, where they look at one."""
        label, networks, on = int(labels[0]), self.networks, self.settings
        prior, render, latents = self.prior, self.prior.render, self.latents
        there = labels.to(prior.device)
        make: dict[str, Callable[[], Guide]] = {
            "text_mode": lambda: guides.text_mode(anchors, on.text_mode.scale),
            "entropy": lambda: guides.entropy(networks.classifier, render, on.entropy.scale),
            "learnability": lambda: guides.learnability(
                networks.student,
                networks.classifier,
                there,
                render,
                on.learnability.scale,
                weight=on.learnability.teacher,
                lowers=on.learnability.sign == "printed",
            ),
            "transport": lambda: guides.transport(
                *latents.clusters(label),
                finished,
                on.transport.scale,
                epsilon=on.transport.epsilon,
                iterations=on.transport.iterations,
            ),
            "mode": lambda: guides.mode(anchors, on.mode.scale, ancestral=on.eta > 0),
            "features": lambda: guides.features(*self._features(label), on.features.scale),
            "influence": lambda: guides.influence(
                networks.snapshots, self._targets(label), label, render, on.influence.scale
            ),
            "deviation": lambda: guides.deviation(finished, on.deviation.scale),
            "diversity": lambda: guides.diversity(
                latents.of(label).latents.mean(dim=0).to(prior.device),
                finished,
                on.diversity.scale,
                on.diversity.mean_scale,
                epsilon=on.diversity.epsilon,
            ),
        }
        own = own_guides(
            on,
            prior,
            labels=there,
            class_name=self.real.class_names[label],
            anchors=anchors,
            latents=latents.of(label).latents if on.own else anchors,
            finished=finished,
        )
        made = [
            replace(make[name](), steps=guide.steps)
            for name, guide in on.guides.items()
            if name != "semantic" and not name.startswith("own.")  # a condition; made above
        ]
        return [*made, *own.values()]

    def _condition(self, labels: Tensor, images: Sequence[tuple[str, int]]) -> guides.Condition:
        """DMGD's conditions; each image has another class of its own, and noise of its own."""
        how, names, seed = self.settings.semantic, self.real.class_names, self.context.seed
        others = []
        for name, number in images:
            rest = sorted({*names} - {name})  # by name, whatever the order of the classes
            source = draws.generator(seed, "other class", name, number)
            others.append(names.index(rest[int(draws.choose(len(rest), 1, source))]))
        own, other = (
            self.prior.condition(self.latents.prior_labels[some]) for some in (labels, others)
        )
        assert own is not None and other is not None, "an unconditional prior was refused"

        def noise(index: int) -> Tensor:
            return keyed_draw(seed, "condition", images, own.shape[1:], index).to(own)

        return guides.semantic(
            own,
            other,
            noise,
            how.scale,
            how.window or (0, len(self.prior.schedule.timesteps)),
            weights=(how.other, how.noise),
            form=how.form,
        )

    def _features(self, label: int) -> tuple[guides.Embed, Callable[[int], Tensor]]:
        """The denoiser's features under the class, and its real latents as noisy as a step's."""
        prior, latents = self.prior, self.latents.of(label).latents
        name, count = self.real.class_names[label], self.settings.features.real
        own = self.latents.prior_labels[[label]]

        def embed(x: Tensor, index: int) -> Tensor:
            return prior.features(x, index, prior.condition(own.expand(len(x))))

        def real(index: int) -> Tensor:
            source = draws.generator(self.context.seed, "features", name, index)
            some = latents[draws.choose(len(latents), count, source)]
            noise = torch.randn(some.shape, generator=source)
            return noised(some, noise, prior.schedule, index).to(prior.device)

        return embed, real

    def _real_gradients(self, label: int) -> list[list[Tensor]]:
        """Gradients of real images of a class at the weights of each snapshot."""
        rows, name = rows_by_hash(self.real, label), self.real.class_names[label]
        source = draws.generator(self.context.seed, "influence", name)
        some = rows[draws.choose(len(rows), self.settings.influence.real, source)]
        images = as_floats(self.real.images[some].to(self.prior.device))
        with torch.enable_grad():
            return [
                real_gradient(network, list(network.parameters()), images, label)
                for network in self.networks.snapshots
            ]
