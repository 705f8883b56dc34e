"""Run by torchrun from test_divided: trainings of an evaluation that two processes divide."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from latentdc import divided
from latentdc.evaluate import evaluate, training
from latentdc.experts.files import expert_path
from latentdc.experts.training import train_experts
from latentdc.io import load_tensors
from latentdc.preprocessing import Normalization
from latentdc.recipe import Experts
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.recipe.protocol import EvalProtocol
from latentdc.synthetic import SyntheticSet
from tests.evaluate.toys import TEST, protocol, stripes
from tests.processes import end

# 23 images in batches of 10: shares of 5 and 5, and the last 3 whole on both; ten steps.
TRAIN = stripes(23, seed=3)
STUDENT = protocol(seeds=1, steps=10, batch=10, lr=0.1)
RICH = replace(
    STUDENT, augment="color_crop", ema=0.9, views=Views(pad=1, flip=True, mix="cutmix"), steps=11
)
OWN = replace(STUDENT, students=["tests.evaluate.toys:Idle"], steps=4)
NORMED = replace(STUDENT, students=["convnet3-bn@4"])
TEACHER = Teacher(network="convnet3@4", epochs=4, lr=0.05, batch=10)
TAUGHT = replace(
    STUDENT,
    steps=10,
    views=Views(flip=True),
    labels=Labels(source="online", loss="kl", temperature=4.0, teachers=[TEACHER]),
)
WEIGHED = replace(SyntheticSet.from_real(TRAIN), weights=torch.linspace(0.5, 2, len(TRAIN.labels)))


class Trained(dict[str, dict[str, Tensor]]):
    """Weights by what was trained, of every training that is done while it is there."""

    def __init__(self) -> None:
        super().__init__()
        train = evaluate.train_together

        def seen(sets, network, protocol: EvalProtocol, setting, **options):
            (made,) = train(sets, network, protocol, setting, **options)
            number = sum(name.startswith(network) for name in self)
            self[f"{network} {number} {protocol.name}"] = made.state_dict()
            return [made]

        evaluate.train_together = training.train_together = seen


def carry_out(accelerator: Accelerator, folder: Path) -> list[tuple[float, ...]]:
    """All trainings that `folder` lacks; accuracies of the evaluations."""
    options = {
        "normalization": Normalization(),
        "train": TRAIN,
        "trainings": folder / "rows",
        "accelerator": accelerator,
    }
    found = []
    for number, some in enumerate((STUDENT, RICH, TAUGHT, OWN, NORMED)):
        named = replace(some, name=f"toy{number}")
        results = evaluate.evaluate_sets({"full": TRAIN}, TEST, named, **options)
        results += evaluate.evaluate_sets(WEIGHED, TEST, named, **options)
        found += [one.accuracies for one in results]
    (folder / "experts").mkdir(parents=True, exist_ok=True)
    train_experts(
        TRAIN,
        folder / "experts",
        Experts(count=1, epochs=4, batch=10, lr=0.1, augment="color_flip"),
        network="convnet3@4",
        normalization=Normalization(),
        seed=3,
        accelerator=accelerator,
    )
    return found


def expert(folder: Path) -> dict[str, Tensor]:
    """Its weights, of all epochs."""
    return load_tensors(expert_path(folder / "experts", 0))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator, trained = Accelerator(cpu=True), Trained()
    assert accelerator.num_processes == 2
    divided.LONG = 0
    found = carry_out(accelerator, folder)
    own = {"trained": dict(trained), "accuracies": found}
    torch.save(own, folder / f"{accelerator.process_index}.pt")
    trained.clear()
    assert carry_out(accelerator, folder) == found
    assert not trained, "all was kept"
    end(accelerator)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
