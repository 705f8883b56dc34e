"""Every place where images enter a network gives it contiguous ones, however they were read."""

import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.experts.training import ExpertTraining
from latentdc.images import contiguous, from_uint8
from latentdc.metrics.diversity import lpips_diversity
from latentdc.metrics.kid import _Levels
from latentdc.metrics.measure import seen_by
from latentdc.networks import new_network
from latentdc.networks.build import NETWORKS
from latentdc.objectives.build import build_objective
from latentdc.preprocessing import Normalization
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.small import autoencoder_loss
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Experts, Loops, ObjectiveSettings, Trajectory
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.recipe.networks import LIMITS
from tests.evaluate.toys import pictures, protocol
from tests.experts.toys import Wanderers
from tests.priors import small

PLAIN = Normalization()


def is_canonical(images):
    return images.stride() == torch.empty(images.shape, device="meta").stride()


@pytest.fixture
def layouts():
    """Whether the input of each convolution that ran was contiguous."""
    seen = []

    def note(module, inputs):
        if isinstance(module, nn.Conv2d):
            seen.append(is_canonical(inputs[0]))

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


@pytest.mark.parametrize(
    "images",
    [
        torch.randn(2, 8, 8, 3).permute(0, 3, 1, 2),
        torch.randn(2, 8, 8, 1).permute(0, 3, 1, 2),  # is_contiguous() says yes
        torch.randn(2, 1, 1, 3).permute(0, 3, 1, 2),
        torch.randn(1, 8, 8, 3).permute(0, 3, 1, 2),
        torch.randn(2, 3, 1, 8).transpose(2, 3),
        torch.randn(2, 3, 1, 1).expand(2, 3, 8, 8),
        torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),
        torch.randn(4, 3, 8, 8)[::2],
        torch.randn(0, 8, 8, 3).permute(0, 3, 1, 2),
        torch.randn(2, 6),
        torch.randn(6, 2).T,
    ],
)
def test_contiguous_images_have_the_same_values_and_canonical_strides(images):
    made = contiguous(images)
    assert torch.equal(made, images)
    assert is_canonical(made)


def test_gradients_pass_through_contiguous():
    images = torch.randn(2, 4, 4, 1, dtype=torch.double, requires_grad=True)
    function = lambda x: contiguous(x.permute(0, 3, 1, 2)).sin()  # noqa: E731
    assert torch.autograd.gradcheck(function, images)
    assert torch.autograd.gradgradcheck(function, images)


@pytest.mark.parametrize("name", [n for n in NETWORKS if LIMITS[n].kind == "images"])
def test_a_network_runs_on_contiguous_images_and_gives_the_same_answer(layouts, name):
    side = max(16, LIMITS[name].smallest)
    network = new_network(f"{name}@8", num_classes=3, resolution=side, seed=0).eval()
    read = torch.randn(2, side, side, 3).permute(0, 3, 1, 2).requires_grad_()
    plain = contiguous(read.detach()).requires_grad_()
    for call in (network, network.features):
        made, wanted = call(read), call(plain)
        assert torch.equal(made, wanted)
        gradients = [
            torch.autograd.grad(out.square().sum(), x)[0]
            for out, x in ((made, read), (wanted, plain))
        ]
        assert torch.equal(*gradients)
    assert layouts and all(layouts)


@pytest.mark.parametrize(
    "views",
    [
        {},
        {"views": Views(pad=2, flip=True)},
        {"views": Views(pad=2, pad_mode="reflect")},
        {"views": Views(shuffle=2, crop=(0.5, 1.0), mix="cutmix", jitter=0.2)},
        {"views": Views(randaugment=(2, 9), cutout=True)},
        {"augment": "color_crop_cutout_flip_scale_rotate", "steps": 12},
        {"test_crop": 0.875},
    ],
)
def test_students_and_their_test_see_contiguous_images(layouts, views):
    some = protocol(students=["resnet18-bn@4"], seeds=1, batch=4, **views)
    evaluate_sets(pictures(resolution=16), pictures(resolution=16), some, normalization=PLAIN)
    assert layouts and all(layouts)


def test_teachers_see_contiguous_images(layouts):
    teacher = Teacher(network="convnet3@8", epochs=20, batch=10)
    labels = Labels(source="online", loss="kl", teachers=[teacher])
    some = protocol(students=["convnet3@4"], seeds=1, labels=labels, views=Views(flip=True))
    data = pictures(60)
    evaluate_sets(pictures(), data, some, normalization=PLAIN, train=data)
    assert layouts and all(layouts)


def test_a_classifier_scores_embeds_and_measures_contiguous_images(layouts):
    network = new_network("convnet3@4", num_classes=3, resolution=8, seed=0)
    classifier = Classifier(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)), lambda images: images
    )
    for scorer in (classifier, Classifier(network, lambda images: images)):
        seen_by(scorer, pictures(), torch.device("cpu"))
    assert layouts and all(layouts)


def test_experts_see_contiguous_images(layouts):
    data = pictures(16)
    settings = Experts(count=1, epochs=2, batch=8, augment="crop_flip")
    ExpertTraining(data, settings, "convnet3@4", PLAIN, 0, Accelerator()).train(0)
    assert layouts and all(layouts)


@pytest.mark.parametrize("kind", ["dm", "dc", "mtt"])
def test_objectives_compare_contiguous_images(layouts, kind):
    objective = build_objective(
        ObjectiveSettings(
            kind=kind,
            network="convnet3@8",
            loops=Loops(outer=1, inner=1),
            trajectory=Trajectory(syn_steps=2, lr_student=0.05),
        ),
        num_classes=3,
        resolution=8,
        experts=Wanderers(),
    )
    images = from_uint8(pictures(6).images).requires_grad_()
    assert not images.is_contiguous()
    real = from_uint8(pictures(6).images)
    objective.accumulate(0, images, torch.tensor([0, 0, 1, 1, 2, 2]), lambda step, label: real)
    assert images.grad.abs().sum() > 0
    assert layouts and all(layouts)


@pytest.mark.parametrize("model", [small.autoencoder, small.vq])
def test_autoencoders_encode_and_decode_contiguous_images(model):
    autoencoder, seen = model(), []
    for entry in (autoencoder.encoder, autoencoder.post_quant_conv):  # behind them it is diffusers'
        entry.register_forward_pre_hook(lambda module, given: seen.append(is_canonical(given[0])))
    images = from_uint8(pictures(3).images)
    prior = AutoencoderPrior(autoencoder, resolution=8)
    z = prior.encode(images).to(memory_format=torch.channels_last).requires_grad_()
    prior.decode(z).square().sum().backward()
    assert z.grad.abs().sum() > 0
    if model is small.autoencoder:
        noise = torch.randn(z.shape).to(memory_format=torch.channels_last)
        autoencoder_loss(autoencoder, images, noise, kl=1.0, edges=1.0)
    assert len(seen) >= 3 and all(seen)


def test_denoisers_see_contiguous_latents():
    prior, seen = small.prior(), []
    prior.denoiser.network.register_forward_pre_hook(
        lambda unet, given: seen.append(is_canonical(given[0]))
    )
    z = torch.randn(3, 4, 4, 2).permute(0, 3, 1, 2).requires_grad_()
    noise = torch.randn(3, 4, 4, 2).permute(0, 3, 1, 2)
    prior.decode(z, prior.condition(torch.tensor([0, 1, 2])), noise).square().sum().backward()
    assert len(seen) == 4 and all(seen)


def test_measures_of_other_packages_are_given_contiguous_images():
    levels = _Levels(pictures().images)
    assert torch.stack([levels[0], levels[1]]).stride() == (192, 64, 8, 1)
    seen = []

    def distance(one, other):
        seen.extend([one, other])
        return torch.zeros(len(one))

    data = pictures()
    lpips_diversity(data.images.float(), data.labels, distance)
    assert seen


@pytest.mark.slow  # that images are contiguous in students is seen above
def test_a_student_of_eight_channels_trains_on_pictures_of_64_pixels():
    """In torch 2.14 a CPU dies of the gradient of its shortcuts where images are channels-last."""
    code = (
        "from latentdc.evaluate.evaluate import evaluate_sets\n"
        "from latentdc.recipe.labels import Views\n"
        "from latentdc.preprocessing import Normalization\n"
        "from tests.evaluate.toys import pictures, protocol\n"
        "some = protocol(students=['resnet18@8'], seeds=1, steps=1, batch=2, views=Views(pad=2))\n"
        "large = pictures(3, resolution=64)\n"
        "evaluate_sets(large, large, some, normalization=Normalization())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
