"""Steps on a GPU that is not there: torch's fake tensors know shapes and devices, and no values.

What mixes devices fails here as it would there. What looks at a value cannot run so, nor the way
back, for which autograd asks the driver of a GPU, nor the grids of `scale` and `rotate`.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.augment.views import draw_views, view
from latentdc.draws import generator
from latentdc.evaluate.soft_labels import Fixed
from latentdc.evaluate.training import TrainingStep, label_loss
from latentdc.images import send
from latentdc.methods import guides
from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.priors.memory import Plan
from latentdc.priors.small import ClassMemory, minimax_terms
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.training import Batch
from tests.evaluate.toys import stripes
from tests.priors import small

GPU = torch.device("cuda", 0)
TEACHER = Teacher(network="convnet3@4")
TRAIN, ROWS = stripes(9), torch.tensor([4, 0, 7])


@pytest.fixture
def gpu(monkeypatch):
    """In the test every tensor is a fake one; memory that waits to be sent is not pinned."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield GPU


def moved(network: nn.Module) -> nn.Module:
    """The network on the GPU; `to` would swap tensors, which fake ones do not allow."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                there = weight.detach().to(GPU)
                module._parameters[name] = nn.Parameter(there, weight.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(GPU)
    return network


def network(name: str = "convnet3@4") -> nn.Module:
    with unset_fake_temporarily():
        made = new_network(name, num_classes=3, resolution=8, seed=0)
    return moved(made)


def prior(memory: str):
    """The small prior, all of it on the GPU."""
    with unset_fake_temporarily():  # schedules are made of values
        made = small.prior(steps=3)
    for part in (made.autoencoder.autoencoder, made.denoiser.network, made.denoiser.embedding):
        moved(part)
    made.denoiser.null = made.denoiser.null.to(GPU)
    made.timesteps = {t: at.to(GPU) for t, at in made.timesteps.items()}
    chunk = None if memory == "fast" else 2
    made.plan = Plan(memory, chunk, kept_steps=4 if memory == "mixed" else 0)
    return made


def test_devices_that_are_mixed_are_noticed(gpu):
    with pytest.raises(RuntimeError, match="same device"):
        network()(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize(
    "changes",
    [{"pad": 1, "flip": True, "jitter": 0.4, "lighting": 0.1, "cutout": True}, {"shuffle": 2}],
)
@pytest.mark.parametrize("kind", ["color", "crop", "cutout", "flip"])
def test_what_a_student_sees_and_its_loss(changes, kind, request):
    draws = draw_views(Views(**changes), count=9, size=8, seed=0, epoch=0)
    batch = Batch(ROWS, draw_augmentation(kind, generator(0), samples=3))
    weights, table = torch.rand(9), torch.rand(9, 3)
    gpu = request.getfixturevalue("gpu")  # the draws above have values
    images, labels, student = TRAIN.images.to(gpu), TRAIN.labels.to(gpu), network()
    step = TrainingStep(0, batch, draws)
    fixed = Labels(source="fixed", loss="kl", hard_weight=0.5, teachers=[TEACHER])
    for settings in (Labels(smoothing=0.1), fixed):
        views = view(images, batch.rows, draws, gpu)
        logits = student(augment(Normalization()(views), batch.draw))
        soft = None if settings.source == "hard" else Fixed(table.to(gpu), settings)
        targets = None if soft is None else soft.logits(batch.rows, draws, views)
        each = send(step.mixed(weights), gpu)
        assert label_loss(logits, labels, step, settings, targets, each).device == gpu


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("skip", ["x0", "mean", "none"])
def test_decoding(gpu, memory, skip):
    made = prior(memory)
    made.skip = skip
    shapes = made.latent_shape, (1, 6), made.latent_shape
    with torch.no_grad():
        images = made.decode(*(torch.randn(4, *shape).to(gpu) for shape in shapes))
    assert images.device == gpu and images.shape == (4, 3, 8, 8)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", ["none", "mode", "text_mode"])
def test_sampling_under_a_guide(gpu, name, eta):
    made, some = prior("low"), torch.randn(2, 2, 4, 4).to(gpu)
    acting = {
        "none": [],
        "mode": [guides.mode(some, 0.1, ancestral=eta > 0)],
        "text_mode": [guides.text_mode(some, 0.1)],
    }
    images = [("one", 0), ("one", 1)]
    windowed = [replace(guide, steps=range(1, 2)) for guide in acting[name]]
    z = made.sample(
        torch.ones(2, dtype=torch.int64, device=gpu), images, seed=0, eta=eta, guides=windowed
    )
    assert z.device == gpu and made.render(z).device == gpu


def test_latents_of_a_batch_are_remembered_and_compared(gpu):
    memory = moved(ClassMemory(3, 2, 8))
    labels, z = torch.tensor([0, 2, 0]).to(gpu), torch.randn(3, 2, 2, 2).to(gpu)
    memory.keep(labels, z, z)
    near, apart = minimax_terms(memory, z, labels)
    assert near.device == apart.device == memory.real.device == gpu
