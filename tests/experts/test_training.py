import shutil

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.errors import InputError, RunError
from latentdc.experts import training
from latentdc.experts.files import ExpertFiles, expert_path
from latentdc.experts.training import (
    ExpertTraining,
    expert_bytes,
    train_experts,
    training_snapshots,
)
from latentdc.images import from_uint8
from latentdc.networks.build import new_network
from latentdc.preprocessing import Normalization
from latentdc.recipe import Experts

NETWORK, NORMALIZATION = "convnet3@4", Normalization()


def coreset() -> Dataset:
    images = torch.randint(0, 256, (10, 3, 8, 8), generator=generator(0), dtype=torch.uint8)
    return Dataset(images, torch.arange(10) % 2, ("a", "b"), torch.arange(10), "toy")


def train(folder, **settings) -> ExpertFiles:
    spec = Experts(**{"count": 2, "epochs": 2, "batch": 4, "lr": 0.1, **settings})
    train_experts(
        coreset(), folder, spec, network=NETWORK, normalization=NORMALIZATION, seed=3,
        accelerator=Accelerator(),
    )  # fmt: skip
    return ExpertFiles(folder, spec.count)


def network_by_hand(index: int, epochs: int, name: str = NETWORK) -> torch.nn.Module:
    """Plain SGD with momentum 0.5 on one augmentation per batch."""
    data = coreset()
    network = new_network(name, "expert", index, num_classes=2, resolution=8, seed=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.5)
    for epoch in range(epochs):
        source = generator(3, "expert", index, epoch)
        for rows in torch.randperm(10, generator=source).split(4):
            draw = draw_augmentation("color_flip", source, samples=len(rows))
            inputs = augment(NORMALIZATION(from_uint8(data.images[rows])), draw)
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), data.labels[rows]).backward()
            optimizer.step()
    return network


def by_hand(index: int, epochs: int) -> dict[str, torch.Tensor]:
    parameters = network_by_hand(index, epochs).named_parameters()
    return {name: weight.detach().clone() for name, weight in parameters}


def test_weights_are_kept_before_the_training_and_after_every_epoch_of_sgd(tmp_path):
    experts = train(tmp_path, momentum=0.5, augment="color_flip")
    for index in range(2):
        for epoch in range(3):
            found, expected = experts.weights(index, epoch), by_hand(index, epoch)
            assert found.keys() == expected.keys()
            for name in expected:
                torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    firsts = [experts.weights(0, epoch)["linear.weight"] for epoch in range(3)]
    assert not torch.equal(firsts[0], firsts[1]) and not torch.equal(firsts[1], firsts[2])


def test_only_missing_experts_are_trained_and_come_out_the_same(tmp_path, monkeypatch):
    train(tmp_path)
    path = expert_path(tmp_path, 1)
    before = path.read_bytes()
    path.unlink()
    trained = []
    whole = ExpertTraining.train

    def counted(self, index, *given):
        trained.append(index)
        return whole(self, index, *given)

    monkeypatch.setattr(ExpertTraining, "train", counted)
    train(tmp_path, count=3)
    assert trained == [1, 2] and path.read_bytes() == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_that_are_told_are_those_that_are_written(tmp_path, dtype):
    experts = train(tmp_path, count=1, dtype=dtype)
    told = expert_bytes(Experts(epochs=2, dtype=dtype), NETWORK, 2, 8)
    header = expert_path(tmp_path, 0).stat().st_size - told
    assert 0 < header < 2000
    weights = experts.weights(0, 2)["linear.weight"]
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, train_weights(), rtol=1e-2, atol=1e-3)
    assert torch.equal(weights, train_weights()) == (dtype == "float32")


def train_weights() -> torch.Tensor:
    settings = Experts(epochs=2, batch=4, lr=0.1)
    of = ExpertTraining(coreset(), settings, NETWORK, NORMALIZATION, 3, Accelerator())
    return of.train(0)["linear.weight"][2]


def test_a_disk_without_room_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(training.shutil, "disk_usage", lambda path: type("", (), {"free": 10}))
    with pytest.raises(InputError, match=r"2 experts take 10,608 bytes .* room for 10; lower"):
        train(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_expert_that_diverges_is_not_kept(tmp_path):
    with pytest.raises(RunError, match=r"expert 0 diverged.*Lower experts\.lr"):
        train(tmp_path, lr=1e30)
    assert list(tmp_path.iterdir()) == []


def test_a_training_is_looked_at_after_some_epochs_and_not_made_twice(tmp_path, monkeypatch):
    def look(epochs, network=NETWORK):
        spec = Experts(count=7, epochs=9, batch=4, lr=0.1, momentum=0.5, augment="color_flip")
        return training_snapshots(
            coreset(), epochs, spec, network=network, normalization=NORMALIZATION, seed=3,
            folder=tmp_path, accelerator=Accelerator(),
        )  # fmt: skip

    images = from_uint8(coreset().images)
    for epoch, seen in zip((0, 4), look([0, 4], "convnet3-bn@4"), strict=True):
        trained = network_by_hand(0, epoch, "convnet3-bn@4").eval()
        assert not seen.training  # and so asks what its batch norms have seen
        torch.testing.assert_close(
            seen(images), trained(NORMALIZATION(images)), rtol=1e-4, atol=1e-5
        )
    shutil.rmtree(next(tmp_path.iterdir()))
    for epoch, seen in zip((0, 2), look([0, 2]), strict=True):
        assert all(weight.requires_grad for weight in seen.parameters())
        for name, weight in by_hand(0, epoch).items():
            torch.testing.assert_close(
                seen.network.state_dict()[name], weight, rtol=1e-4, atol=1e-5
            )
    monkeypatch.setattr(ExpertTraining, "train", lambda *_, **__: pytest.fail("trained again"))
    look([2, 1])
    [path] = tmp_path.glob("*/expert-00000.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"is damaged .* remove it to train it again"):
        look([2])
