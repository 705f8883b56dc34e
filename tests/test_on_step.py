"""What takes long tells its caller of each step, and ends by what the caller raises."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

import latentdc
from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.experts.training import train_experts
from latentdc.preprocessing import Normalization
from latentdc.priors.training import train_prior
from latentdc.recipe import (
    Data,
    Evaluate,
    Experts,
    Matching,
    ObjectiveSettings,
    PriorSettings,
    Prune,
    Recipe,
    Scorer,
)
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, UNetTraining
from latentdc.run import run
from latentdc.sweep.run import carry_out

TINY = Recipe(
    data=Data(resolution=8, classes=["0", "1"]),
    prune=Prune(keep=0.5, scorer=Scorer(network="convnet3@16", epochs=4, batch=32, lr=0.05)),
    prior=PriorSettings(kind="pixel"),
    objective=ObjectiveSettings(network="convnet3@8", batch=8),
    distill=Matching(steps=2),
    evaluate=Evaluate(students=["convnet3@8"], seeds=1, steps=3, rows=["distilled", "random"]),
    threads=1,
)


def test_a_run_tells_the_steps_of_its_stages_in_their_order(tmp_path, capsys):
    told = []
    run(TINY, "tiny", tmp_path / "run", on_step=told.append)
    stages = [one["stage"] for one in told]
    assert list(dict.fromkeys(stages)) == ["pruning", "distilling", "evaluating"]
    assert [one["step"] for one in told if one["stage"] == "distilling"] == [0, 1]
    assert [one["step"] for one in told if one["stage"] == "evaluating"] == [0, 1, 2] * 2
    assert all(one["loss"] > 0 for one in told)
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 2, "its own are kept"


def test_a_folder_tells_the_caller_of_its_context_too(tmp_path):
    told = []
    context = latentdc.in_folder(tmp_path, latentdc.Context(on_step=told.append))
    context.on_step({"step": 0, "loss": 0.5})
    assert told == [{"step": 0, "loss": 0.5}]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0, "loss": 0.5}\n'


def test_what_is_raised_ends_a_run_that_goes_on_later(tmp_path, capsys):
    def stop(step):
        if step["stage"] == "evaluating":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(TINY, "tiny", tmp_path, on_step=stop)
    told = []
    assert len(run(TINY, "tiny", tmp_path, on_step=told.append)) == 2
    assert {one["stage"] for one in told} == {"evaluating"}, "what was finished is not repeated"


def test_a_sweep_tells_the_cell(tmp_path, capsys):
    unscored = replace(TINY, prune=Prune(keep=1.0), evaluate=Evaluate(rows=[]))
    cells = {("one",): unscored, ("two",): replace(unscored, ipc=2)}
    told, words = [], {point: ["tiny"] for point in cells}
    carry_out([*cells], cells, "grid", tmp_path / "grid", words, told.append)
    assert [(one["cell"], one["stage"], one["step"]) for one in told] == [
        (cell, "distilling", step) for cell in ("one", "two") for step in (0, 1)
    ]


def toy() -> Dataset:
    images = torch.randint(0, 256, (10, 3, 8, 8), generator=generator(0), dtype=torch.uint8)
    return Dataset(images, torch.arange(10) % 2, ("a", "b"), torch.arange(10), "toy")


def test_an_evaluation_tells_of_its_students():
    told = []
    protocol = latentdc.load_protocol("quick", students=["convnet3@4"], seeds=2, steps=2)
    latentdc.evaluate_sets(
        toy(), toy(), protocol, normalization=Normalization(), on_step=told.append
    )
    assert [(one["student"], one["seed"], one["step"]) for one in told] == [
        ("convnet3@4", seed, step) for seed in (0, 1) for step in (0, 1)
    ]


def test_experts_tell_of_their_steps_and_those_that_are_trained_stay(tmp_path):
    told, spec = [], Experts(count=2, epochs=2, batch=4, lr=0.1)

    def tell(step):
        told.append((step["expert"], step["epoch"], step["step"]))
        if step["expert"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_experts(
            toy(),
            tmp_path,
            spec,
            network="convnet3@4",
            normalization=Normalization(),
            seed=0,
            accelerator=Accelerator(),
            on_step=tell,
        )
    assert told == [*((0, epoch, step) for epoch in (0, 1) for step in range(3)), (1, 0, 0)]
    assert len([*tmp_path.glob("*.safetensors")]) == 1


def test_a_prior_tells_of_both_its_networks(tmp_path, capsys):
    recipe = PriorRecipe(
        data=Data(resolution=8),
        autoencoder=AutoencoderTraining(channels=[16, 16], batch=4, steps=2),
        unet=UNetTraining(channels=[16, 16], heads=8, condition=8, batch=4, steps=2),
        threads=1,
    )

    def tell(step):
        told.append((step["network"], step["step"]))
        if len(told) == 3:
            raise KeyboardInterrupt

    told = []
    with pytest.raises(KeyboardInterrupt):
        train_prior(recipe, "tiny", tmp_path, "", tell)
    assert told == [("autoencoder", 0), ("autoencoder", 1), ("unet", 0)]
