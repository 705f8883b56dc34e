"""A small distillation problem that every test of the loop starts from."""

from pathlib import Path

import torch

from latentdc import checkpoint, draws
from latentdc.data.dataset import Dataset
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.objectives.build import build_objective
from latentdc.preprocessing import Normalization
from latentdc.recipe import Loops, Matching, ObjectiveSettings, Trajectory
from tests.experts.toys import Wanderers
from tests.priors import small

CLASSES = small.CLASSES


def dataset(per_class: int = 6) -> Dataset:
    """Random images whose brightness depends on their class."""
    count = per_class * len(CLASSES)
    labels = torch.arange(count) % len(CLASSES)
    noise = torch.randint(0, 120, (count, 3, 8, 8), generator=draws.generator(0, "images"))
    images = (noise + 60 * labels[:, None, None, None]).to(torch.uint8)
    return Dataset(images, labels, CLASSES, torch.arange(count), "toy")


def objective(kind: str = "dm", batch: int = 4, **changes):
    loops = Loops(outer=3, inner=2, batch_syn=4) if kind == "dc loops" else Loops(outer=1, inner=1)
    return build_objective(
        ObjectiveSettings(
            kind=kind.split()[0],
            network="convnet3@8",
            batch=batch,
            loops=loops,
            **changes,
            trajectory=Trajectory(syn_steps=3, batch_syn=4, lr_student=0.01, lr_lr=1e-5),
        ),
        num_classes=3,
        resolution=8,
        normalization=Normalization(),
        experts=Wanderers() if kind == "mtt" else None,
    )


def run(folder: Path | None = None, *, prior=None, kind: str = "dm", **options):
    changes = {name: options.pop(name) for name in ("batch", "augment") if name in options}
    given = {"steps": 10, "lr_z": 0.1, "lr_c": 0.1, "checkpoint_every": 5, **options}
    of_context = {name: given.pop(name) for name in ("ipc", "seed", "accelerator") if name in given}
    context = Context(**{"ipc": 2, **of_context})
    return match(
        dataset(),
        prior or small.prior(steps=2),
        objective(kind, **changes),
        settings=Matching(**given),
        context=context if folder is None else checkpoint.in_folder(folder, context),
    )
