"""What surrounds the sets of an evaluation, what it asks of them, and accuracy on its test images.

Mosaics show several pictures in a grid. A crop inside one cell is the third step of PCA
(https://arxiv.org/abs/2502.06434). It is defined by the grid of a mosaic, so that sets that know
their grid are seen by no other, and single images, which have no cells, are cropped as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from latentdc import io, modes, runtime, training
from latentdc.augment.geometry import central_part
from latentdc.data.classes import require_same_classes
from latentdc.data.dataset import Dataset
from latentdc.data.open import open_splits
from latentdc.errors import InputError, RunError
from latentdc.images import fetch, forward_batch, kind_of, place, send
from latentdc.networks.base import Network
from latentdc.preprocessing import Normalization, Preprocessing
from latentdc.recipe import Data
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The real images, how networks see images, and where they are trained.

    Attributes:
        test: real images, on which teachers are tried and each student is tested once, after its
            last step.
        normalization: from images to the students' input, the same for training and test images.
        accelerator: devices, precision and processes.
        train: real training images, for teachers without weights; None where there are none.
        folder: of finished trainings and trained teachers, beside which soft labels are stored;
            None keeps none.
        on_step: is told `student`, `seed`, `step` and `loss` of each step of a student's training,
            on the process that trains it; of one that all processes divide, on the main process,
            with the loss of its share.
    """

    test: Dataset
    normalization: Preprocessing
    accelerator: Accelerator
    train: Dataset | None = None
    folder: Path | None = None
    on_step: training.OnStep | None = None

    def hash(self, teachers: str | None, processes: Mapping[str, object]) -> str:
        """8 hex digits of what an accuracy depends on beside set, protocol, student and seed.

        `teachers` is their hash, None where labels are hard or the sets' own; `processes` how many
        divide the training, where it depends on that, else nothing.
        """
        facts = {
            "test": set_hash(self.test),
            "preprocessing": self.normalization.facts(),
            "precision": modes.precision_of(self.accelerator),
            "labels": teachers,
            **processes,
        }
        return io.fingerprint(facts, digits=8)


def open_setting(data: Data, launch: Mapping[str, Any], output: Path) -> tuple[Setting, Dataset]:
    """What surrounds sets that were saved, by the data that they stand for; the training images.

    Args:
        data: that the sets stand for.
        launch: threads, precision and processes, as `runtime.start` takes them.
        output: a folder that all processes must see, which gets finished trainings.
    """
    accelerator = runtime.start(**launch, folder=output)
    train, test = runtime.main_first(accelerator, lambda: open_splits(data))
    setting = Setting(
        test=test,
        normalization=Normalization(data.mean, data.std),
        accelerator=accelerator,
        train=train,
        folder=output / "trainings",
    )
    return setting, train


def require_trainable(one: SyntheticSet, protocol: EvalProtocol, name: str) -> None:
    """Refuse a set whose grid, soft labels or weights the protocol cannot train on."""
    cells = protocol.views.cells
    if cells is not None and one.grid not in (None, 1, cells):
        raise InputError(
            f"the {name} set has mosaics of {one.grid} x {one.grid} and the protocol crops in "
            f"cells of {cells} x {cells}; set protocol.views.cells={one.grid}, or null to crop "
            "from whole mosaics."
        )
    if protocol.infobatch is not None and one.soft_labels is not None:
        raise InputError(
            f"the {name} set has soft labels, and infobatch judges images by their hard ones; "
            "take protocol.infobatch=null."
        )
    if protocol.infobatch is not None and one.weights is not None:
        raise InputError(
            f"the {name} set weighs its images, and infobatch has weights of its own; take "
            "protocol.infobatch=null."
        )


class Accuracy(NamedTuple):
    """Shares in [0, 1] of a test set.

    Attributes:
        top1: of images whose class has the largest logit.
        top5: of images whose class is among the five largest; None with five classes or fewer,
            where it says nothing.
    """

    top1: float
    top5: float | None = None


@torch.no_grad()
def accuracy(
    network: Network, setting: Setting, *, crop: float = 1.0, batch: int = 512
) -> Accuracy:
    """Accuracy of a network on the test images, counted exactly; every image once.

    It is scored in eval mode, on the accelerator's device, `batch` images at a time at most. `crop`
    is the side of the central part that is seen, enlarged to the images' size. Logits that are not
    finite are no accuracy, but a `RunError`.
    """
    device = setting.accelerator.device
    images, labels = place(setting.test.images, device), setting.test.labels.to(device)
    network.eval()
    first, among = torch.zeros((2,), dtype=torch.int64, device=device)
    finite, classes = torch.ones((), dtype=torch.bool, device=device), 0
    for rows in torch.arange(len(labels)).split(forward_batch(images, batch, device)):
        inputs = setting.normalization(central_part(fetch(images, rows, device), crop))
        with setting.accelerator.autocast():
            logits = network(inputs)
        finite &= logits.isfinite().all()
        right, classes = labels[send(rows, device)], logits.shape[1]
        first += (logits.argmax(dim=1) == right).sum()
        if classes > 5:
            among += (logits.topk(5, dim=1).indices == right[:, None]).sum()
    if not finite:
        raise RunError(
            "a student's logits of test images are NaN or infinite, which say no class; train it "
            "in full precision or with a smaller lr."
        )
    return Accuracy(int(first) / len(labels), int(among) / len(labels) if classes > 5 else None)


# ---- What it asks of a set, and how a protocol sees it ----


def require_comparable(one: SyntheticSet | Dataset, test: Dataset, name: str) -> None:
    """Refuse an empty set, or one of other classes or another size of samples than the test set."""
    for what, some in ((f"the {name} set", one), ("the test set", test)):
        if len(some.labels) == 0:
            raise InputError(f"{what} holds no {kind_of(some.images)}.")
    require_same_classes(one.class_names, test.class_names, name)
    kind, wanted = kind_of(one.images), kind_of(test.images)
    if kind != wanted:
        raise InputError(
            f"the {name} set holds {kind}, and the test set {wanted}; open the data with "
            f"data.kind={kind}."
        )
    size, tested = one.images.shape[-1], test.images.shape[-1]
    if kind == "vectors" and size != tested:
        raise InputError(
            f"the {name} set has vectors of {size} values, the test set {tested}; extract both by "
            "the same network."
        )
    if size != tested:
        raise InputError(
            f"the {name} set has images of {size}x{size} px, the test set {tested}x{tested}; open "
            f"the test set with data.resolution={size}."
        )


def protocol_for(protocol: EvalProtocol, one: SyntheticSet) -> EvalProtocol:
    """The protocol as a set meets it, with a hash of its own: single images have no cells."""
    if protocol.views.cells is None or one.grid != 1:
        return protocol
    return replace(protocol, views=replace(protocol.views, cells=None))
