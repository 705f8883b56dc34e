"""Train experts: SGD at a constant rate, as MTT's are, their weights kept after every epoch.

`training_snapshots` trains one on the spot for whoever follows a training and not trajectories.

Cazenavette et al. 2022, https://arxiv.org/abs/2203.11932; the released code's settings are the
defaults of `recipe.Experts`. All of an expert's draws follow from (seed, its number).
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from latentdc import io, modes, ranks, run_folder, runtime, tracking, training
from latentdc.augment.dsa import augment
from latentdc.data.dataset import Dataset
from latentdc.divided import Divided, is_divided, process_facts
from latentdc.errors import InputError, RunError
from latentdc.estimates import parameters
from latentdc.experts.files import data_facts, expert_path, missing_experts
from latentdc.images import fetch, place, send
from latentdc.modes import in_plain_modes
from latentdc.networks.base import Weights
from latentdc.networks.build import build_network, new_network, outline
from latentdc.preprocessing import Preprocessing
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Experts, identity

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def train_experts(
    coreset: Dataset,
    folder: Path,
    settings: Experts,
    *,
    network: str,
    normalization: Preprocessing,
    seed: int,
    accelerator: Accelerator,
    on_step: training.OnStep | None = None,
) -> None:
    """Train the experts that a folder lacks, shared out over the processes.

    Where there are fewer, finished or not, than processes and a step of one is much work, the
    processes divide its batches (`Divided`), but for networks that would learn otherwise so.

    Args:
        coreset: real images.
        folder: gets a file per expert as soon as it is trained, and `metrics.jsonl`: the mean loss,
            learning rate and seconds of each epoch of the main process's experts, of which the
            accelerator's trackers are told, too.
        settings: of the trainings.
        network: its name.
        normalization: from images to its input.
        seed: of all draws.
        accelerator: devices, precision and processes.
        on_step: is told `expert`, `epoch`, `step` (of the epoch) and `loss` of each step, on the
            process that trains it; of one that all processes divide, on the main process, with the
            loss of its share.

    Raises:
        InputError: the disk has no room for them; before anything is trained.
        RunError: a training diverged.
    """
    trained = ExpertTraining(coreset, settings, network, normalization, seed, accelerator)
    record = tracking.StepFile(folder / run_folder.METRICS, accelerator, cut=False)
    trained.train_lacking(folder, tracking.Tell("expert_loss", on_step, record))


@dataclass(frozen=True, eq=False)
class ExpertTraining:
    """What decides the weights of experts; attributes as the arguments of `train_experts`.

    `statistics` keeps the means and variances of batch norms too, of experts that are not only
    followed but asked.
    """

    coreset: Dataset
    settings: Experts
    network: str
    normalization: Preprocessing
    seed: int
    accelerator: Accelerator
    statistics: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """What the network is built for."""
        return {"num_classes": self.coreset.num_classes, "resolution": self.coreset.resolution}

    @property
    def divides(self) -> bool:
        """See `divides_experts`."""
        images, processes = len(self.coreset), self.accelerator.num_processes
        return divides_experts(
            self.settings, self.network, images=images, processes=processes, **self.sizes
        )

    @in_plain_modes
    def train_lacking(self, folder: Path, tell: tracking.Tell | None = None) -> None:
        """Train the experts that a folder lacks; all processes call it together."""
        accelerator = self.accelerator
        lacking = runtime.broadcast(missing_experts(folder, self.settings.count))
        size = len(lacking) * expert_bytes(self.settings, self.network, **self.sizes)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise InputError(
                f"{len(lacking)} experts take {size:,} bytes and {folder} has room for {free:,}; "
                "lower experts.count or experts.epochs, take experts.dtype=bfloat16, or another "
                "disk (objective.trajectory.experts=FOLDER)."
            )
        divides = self.divides
        own = lacking[accelerator.process_index :: accelerator.num_processes]
        for index in ranks.progress(lacking if divides else own, "experts"):
            snapshots = self.train(index, tell)
            if accelerator.is_main_process or not divides:
                io.save_tensors(expert_path(folder, index), snapshots)
        accelerator.wait_for_everyone()

    def train(self, index: int, tell: tracking.Tell | None = None) -> Weights:
        """Weights of one expert by name, (epochs + 1, ...): at its start and after each epoch.

        All processes call it together where they divide its batches; `tell` is then told on the
        main one alone.
        """
        settings, seed, device = self.settings, self.seed, self.accelerator.device
        count = len(self.coreset)
        images, labels = place(self.coreset.images, device), self.coreset.labels.to(device)
        expert = new_network(self.network, "expert", index, **self.sizes, seed=seed).to(device)
        join = training.joins(self.network, **self.sizes, count=count, batch=settings.batch)
        precision = training.Precision(self.accelerator)
        divides = self.divides
        what = f"expert {index} of {self.network}" if divides else None
        shares = Divided(expert, self.accelerator, what, min(settings.batch, count))
        if divides and not self.accelerator.is_main_process:
            tell = None
        optimizer = SGD(expert.parameters(), lr=settings.lr, momentum=settings.momentum)

        def kept() -> Weights:
            own = batch_statistics(expert) if self.statistics else {}
            return {**dict(expert.named_parameters()), **own}

        snapshots = {
            name: torch.empty((settings.epochs + 1, *weight.shape), dtype=_DTYPES[settings.dtype])
            for name, weight in kept().items()
        }

        def loss(forward: training.Forward, batch: training.Batch) -> Tensor:
            return shares.mean(lambda own: mean_loss(forward, own), batch)

        def mean_loss(forward: training.Forward, batch: training.Batch) -> Tensor:
            inputs = augment(self.normalization(fetch(images, batch.rows, device)), batch.draw)
            return F.cross_entropy(forward(inputs), labels[send(batch.rows, device)])

        def keep(epoch: int) -> None:  # a copy, for the optimiser goes on to change the weights
            for name, weight in kept().items():
                snapshots[name][epoch].copy_(weight.detach())

        keep(0)
        for epoch in range(settings.epochs):
            keys = ("expert", index, epoch)
            batches = training.epoch_batches(
                count, settings.batch, settings.augment, seed, *keys, join=join
            )
            last = len(batches) - 1
            steps = training.fit(
                shares.network,
                batches,
                loss,
                optimizer,
                precision=precision,
                dropout=(seed, *shares.keys("dropout", *keys)),
            )
            for step, _ in enumerate(steps):
                if tell is not None:
                    told = {"expert": index, "epoch": epoch, "step": step}
                    number, due = index * settings.epochs + epoch, step == last
                    tell(told, shares.latest, number, lr=settings.lr, due=due)
            keep(epoch + 1)
        if not all(bool(weights.isfinite().all()) for weights in snapshots.values()):
            raise RunError(
                f"expert {index} diverged; experts before it are kept. Lower experts.lr."
            )
        return snapshots


def batch_statistics(network: nn.Module) -> Weights:
    """The floats by name that a network has beside its parameters, as batch norms have them."""
    parameters = {name for name, _ in network.named_parameters()}
    return {
        name: value
        for name, value in network.state_dict().items()
        if name not in parameters and value.is_floating_point()
    }


def divides_experts(
    settings: Experts,
    network: str,
    *,
    images: int,
    processes: int,
    num_classes: int,
    resolution: int,
) -> bool:
    """Whether processes divide the batches of experts: of fewer than they are, on many images."""
    sizes = {"num_classes": num_classes, "resolution": resolution}
    batch = min(settings.batch, images)
    few = settings.count < processes and is_divided(
        network, **sizes, batch=batch, processes=processes
    )
    return few and not process_facts(network, **sizes, processes=processes)


def training_snapshots(
    coreset: Dataset,
    epochs: Sequence[int],
    settings: Experts,
    *,
    network: str,
    normalization: Preprocessing,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
) -> list[Classifier]:
    """One network at the end of some epochs of its training, which a folder has or gets now.

    It trains for the largest of the epochs, 0 being untrained; numbers of experts and epochs in the
    settings are of no account. Runs with the same training share the folder.

    Returns:
        Of each epoch a network, (B, 3, H, W) images in [-1, 1] -> (B, C) logits, whose weights
        require gradients.
    """
    settings = replace(settings, count=1, epochs=max(1, *epochs))
    plan = outline(network, num_classes=coreset.num_classes, resolution=coreset.resolution)
    known = sorted(batch_statistics(plan))
    facts = {
        "network": network,
        "resolution": coreset.resolution,
        **identity.facts_of(settings),
        **data_facts(coreset, normalization),
        "seed": seed,
        "precision": modes.precision_of(accelerator),
        **({"statistics": known} if known else {}),
    }
    folder = folder / io.fingerprint(facts)
    folder.mkdir(parents=True, exist_ok=True)
    trained = ExpertTraining(coreset, settings, network, normalization, seed, accelerator, True)
    trained.train_lacking(folder)
    path, found = expert_path(folder, 0), []
    try:
        weights = io.load_tensors(path)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); remove it to train it again.") from error
    for epoch in epochs:
        one = build_network(network, num_classes=coreset.num_classes, resolution=coreset.resolution)
        after = {name: weight[epoch].float() for name, weight in weights.items()}
        one.load_state_dict(after, strict=False)
        seen = Classifier(one, lambda shown: normalization(2 * shown - 1))
        found.append(seen.eval().to(accelerator.device))
    return found


def expert_bytes(settings: Experts, network: str, num_classes: int, resolution: int) -> int:
    """Bytes of one expert on disk."""
    plan = outline(network, num_classes=num_classes, resolution=resolution)
    return (settings.epochs + 1) * parameters(plan) * _DTYPES[settings.dtype].itemsize
