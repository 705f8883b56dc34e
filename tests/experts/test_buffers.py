"""Replay buffers of MTT's released code as experts."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from latentdc.data.open import open_splits
from latentdc.distill import main as distill
from latentdc.experts.__main__ import main as experts
from latentdc.images import from_uint8
from latentdc.networks.build import new_network
from latentdc.preprocessing import Normalization
from latentdc.recipe import Data

RECIPE = """
data: {source: digits, resolution: 8}
prior: {kind: pixel}
objective:
  kind: mtt
  network: convnet3@8
  trajectory: {experts: theirs, syn_steps: 2, expert_epochs: 1, max_start_epoch: 2}
experts: {count: 3, epochs: 9}
distill: {steps: 3, lr_z: 1.0}
evaluate: {rows: []}
threads: 1
"""


def expert(index, name="convnet3@8"):
    """Two epochs of a network, as `buffer.py` keeps them: a list of lists of weights."""
    train, _ = open_splits(Data(source="digits", resolution=8))
    images = Normalization()(from_uint8(train.images))
    network = new_network(name, index, num_classes=10, resolution=8, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    epochs = [[p.detach().clone() for p in network.parameters()]]
    for epoch in range(2):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(32):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), train.labels[rows]).backward()
            optimizer.step()
        epochs.append([p.detach().clone() for p in network.parameters()])
    return epochs


@pytest.fixture(scope="module")
def trajectories():
    """Three experts."""
    return [expert(index) for index in range(3)]


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    Path("toy.yaml").write_text(RECIPE)
    Path("theirs").mkdir()


def refused(capsys, *overrides, command=distill) -> str:
    with pytest.raises(SystemExit) as stop:
        command(["toy.yaml", *overrides])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("latentdc: error") == 1, told
    assert "Traceback" not in told and not Path("runs").exists()
    return told.splitlines()[-1]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_run_follows_the_experts_of_several_files_in_the_order_of_their_numbers(
    trajectories, legacy
):
    how = {"_use_new_zipfile_serialization": not legacy}
    torch.save(trajectories[:2], "theirs/replay_buffer_2.pt", **how)
    torch.save(trajectories[2:], "theirs/replay_buffer_10.pt", **how)
    distill(["toy.yaml", "output=run"])
    losses = [
        json.loads(line)["loss"] for line in Path("run/metrics.jsonl").read_text().split("\n")[:3]
    ]
    torch.save(trajectories, "theirs/replay_buffer_0.pt")
    for name in ("2", "10"):
        Path(f"theirs/replay_buffer_{name}.pt").unlink()
    distill(["toy.yaml", "output=again"])
    again = [
        json.loads(line)["loss"] for line in Path("again/metrics.jsonl").read_text().split("\n")[:3]
    ]
    assert losses == again and all(0 < loss < 2 for loss in losses)


def test_a_finished_run_goes_on_beside_buffers_that_it_does_not_follow(trajectories, capsys):
    torch.save(trajectories, "theirs/replay_buffer_0.pt")
    distill(["toy.yaml", "output=run"])
    torch.save(trajectories[:2], "theirs/replay_buffer_1.pt")
    distill(["toy.yaml", "output=run"])
    torch.save(trajectories + deepcopy(trajectories), "theirs/replay_buffer_0.pt")
    with pytest.raises(SystemExit):
        distill(["toy.yaml", "output=run"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert "objective.trajectory.experts names other contents" in told


@pytest.mark.parametrize("legacy", [False, True])
def test_buffers_of_other_trainings_in_files_of_the_same_size_are_told_apart(
    trajectories, legacy, capsys
):
    how = {"_use_new_zipfile_serialization": not legacy}
    path = Path("theirs/replay_buffer_0.pt")
    torch.save(trajectories, path, **how)
    size = path.stat().st_size
    distill(["toy.yaml", "output=run"])
    torch.save([*trajectories[1:], trajectories[0]], path, **how)
    assert path.stat().st_size == size
    with pytest.raises(SystemExit):
        distill(["toy.yaml", "output=run"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert "objective.trajectory.experts names other contents" in told


def test_experts_with_batch_norms_are_tried_without_the_statistics_that_no_file_holds(capsys):
    """Asked as in evaluation, they saw features that were not normalised, and were at chance."""
    epochs = expert(0, "convnet3-bn@8")
    torch.save([epochs], "theirs/replay_buffer_0.pt")
    followed = ["objective.network=convnet3-bn@8", "experts.count=1", "distill.steps=1"]
    distill(["toy.yaml", *followed, "output=run"])
    *_, head, bias = epochs[-1]
    head[:], bias[:] = head.roll(1, 0), bias.roll(1)
    torch.save([epochs], "theirs/replay_buffer_0.pt")
    assert "in another class order" in refused(capsys, *followed)


def test_what_does_not_fit_is_refused_in_one_line(trajectories, capsys):
    path = Path("theirs/replay_buffer_0.pt")
    torch.save(trajectories, path)
    assert "holds 3 experts in 1 replay buffer, and experts.count is 4" in refused(
        capsys, "experts.count=4"
    )
    line = refused(capsys, "objective.network=convnet3@4")
    assert "of shape (8, 3, 3, 3) for trunk.0.weight (4, 3, 3, 3), which do not fit" in line
    assert "experts of 14 weights" in refused(capsys, "data.classes=[0,1,2]")
    line = refused(capsys, "objective.trajectory.expert_epochs=2")
    assert "an expert of 2 epochs, and objective.trajectory wants weights after up to 3" in line
    line = refused(capsys, "data.classes=[1,2,3,4,5,6,7,8,9,0]")
    assert "is right on" in line and "another data.mean, data.std" in line
    assert "holds replay buffers of MTT" in refused(capsys, command=experts)


def broken(trajectories, kind):
    first = trajectories[0]
    if kind == "alike":
        return [[first[0]] * 3] * 3
    if kind == "nan":
        return [[*first[:2], [weight * torch.nan for weight in first[2]]]] * 3
    if kind == "classes swapped":
        swap = [[*w[:-2], w[-2].roll(1, 0), w[-1].roll(1, 0)] for w in first]
        return [swap] * 3
    if kind == "integers":
        return [[[weight.long() for weight in weights] for weights in first]] * 3
    return {
        "dict": {"a": first},
        "tensor": first[0][0],
        "flat": first[0],
        "empty": [],
        "text": ["a"],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("alike", "weights are the same in all epochs"),
        ("nan", "an expert that diverged"),
        ("classes swapped", "another class order"),
        ("integers", "which do not fit convnet3@8"),
        *((kind, "is no replay buffer") for kind in ("dict", "tensor", "flat", "empty", "text")),
    ],
)
def test_files_that_hold_something_else_are_refused(trajectories, capsys, kind, message):
    torch.save(broken(trajectories, kind), "theirs/replay_buffer_0.pt")
    assert message in refused(capsys)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"PK\x03\x04",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02t.",
        b"(",
        b"\x80\x02]q\x00",
    ],
)
def test_files_that_cannot_be_read_or_would_run_code_are_refused(capsys, content):
    Path("theirs/replay_buffer_0.pt").write_bytes(content)
    assert "cannot read the experts theirs/replay_buffer_0.pt" in refused(capsys)


def test_code_in_a_buffer_is_not_run(capsys):
    torch.save([Path("theirs")], "theirs/replay_buffer_0.pt")  # not a tensor: weights_only refuses
    told = refused(capsys)
    assert "cannot read the experts" in told and "which is not run; save lists of tensors" in told
    assert "weights_only" not in told
