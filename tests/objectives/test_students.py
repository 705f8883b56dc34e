"""Students that live through DC's two loops, and those with batch norm."""

import pytest
import torch
from torch.nn import functional as F

from latentdc import draws
from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.errors import InputError
from latentdc.networks.build import new_network
from latentdc.objectives.build import build_objective
from latentdc.objectives.gradient import gradient_matching
from latentdc.preprocessing import Normalization
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Loops, ObjectiveSettings
from latentdc.training import epoch_batches
from tests.methods import setup

STRATEGY, NORMALIZATION = "color_flip", Normalization()
LOOPS = Loops(outer=3, inner=2, lr_student=0.3, batch_syn=4)
ONE = Loops(outer=1, inner=1)
LABELS = torch.arange(3).repeat_interleave(2)


def real(step, label):
    return torch.rand(5, 3, 8, 8, generator=draws.generator(9, step, label)) * 2 - 1


def objective(kind="dc", network="convnet3@4", loops=LOOPS):
    return build_objective(
        ObjectiveSettings(kind=kind, network=network, loops=loops, augment=STRATEGY),
        num_classes=3,
        resolution=8,
        seed=4,
    )


def start():
    return torch.rand(6, 3, 8, 8, generator=draws.generator(1)) * 2 - 1


def moved(images, steps, made, rate=0.2):
    """Images after plain SGD under an objective."""
    for step in steps:
        leaf = images.clone().requires_grad_()
        made.accumulate(step, leaf, LABELS, real)
        images = images - rate * leaf.grad
    return images


def algorithm(images, outer, inner, runs, rate=0.2):
    """Algorithm 1 of Zhao et al. (2021), as its code orders it, with plain SGD for the images."""
    step = 0
    for run in range(runs):
        student = new_network("convnet3@4", run, num_classes=3, resolution=8, seed=4)
        for place in range(outer):
            leaf = images.clone().requires_grad_()
            for label in range(3):
                draw = draw_augmentation(STRATEGY, draws.generator(4, "augment", step, label))
                genuine = augment(NORMALIZATION(real(step, label)), draw)
                made = augment(NORMALIZATION(leaf[2 * label : 2 * label + 2]), draw)
                gradient_matching(student, genuine, made, label).backward(inputs=[leaf])
            images = images - rate * leaf.grad
            step += 1
            if place == outer - 1:
                break
            for epoch in range(inner):
                for rows, draw, _ in epoch_batches(6, 4, STRATEGY, 4, "student", step, epoch):
                    logits = student(augment(NORMALIZATION(images[rows]), draw))
                    weights = list(student.parameters())
                    loss = F.cross_entropy(logits, LABELS[rows])
                    for weight, slope in zip(
                        weights, torch.autograd.grad(loss, weights), strict=True
                    ):
                        weight.data -= 0.3 * slope
    return images


def test_match_then_train_then_match_until_a_new_student_is_drawn():
    expected = algorithm(start(), outer=3, inner=2, runs=2)
    made = moved(start(), range(6), objective())
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
    fresh = moved(start(), range(6), objective(loops=Loops(outer=1, inner=1)))
    assert (fresh - expected).abs().max() > 1e-2, "the training makes a difference"


@pytest.mark.parametrize("done", [1, 2, 3, 5])
def test_a_run_that_was_stopped_goes_on_bitwise(done):
    whole = moved(start(), range(6), objective())
    first = objective()
    images = moved(start(), range(done), first)
    kept = {name: tensor.clone() for name, tensor in first.state().items()}
    assert bool(kept) == (done % 3 > 0), "only a student that lives on is kept"
    second = objective()
    second.restore(kept)
    assert torch.equal(moved(images, range(done, 6), second), whole)


def test_a_checkpoint_holds_the_student(tmp_path):
    whole = setup.run(tmp_path / "whole", kind="dc loops", prior=PixelPrior(8))
    setup.run(tmp_path / "parts", kind="dc loops", prior=PixelPrior(8), steps=5)
    parts = setup.run(tmp_path / "parts", kind="dc loops", prior=PixelPrior(8))
    assert torch.equal(whole.z, parts.z)


def test_a_checkpoint_without_the_student_is_refused(tmp_path):
    setup.run(tmp_path, kind="dc", prior=PixelPrior(8), steps=5)
    with pytest.raises(InputError, match=r"step-0+5 was made with objective .* of its own"):
        setup.run(tmp_path, kind="dc loops", prior=PixelPrior(8))


@pytest.mark.parametrize(
    ("kind", "network", "loops", "scope"),
    [
        ("dc", "convnet3@4", ONE, "class"),
        ("dc", "convnet3@4", LOOPS, "set"),
        ("dm", "convnet3@4", LOOPS, "class"),
        ("dm", "convnet3-bn@4", ONE, "set"),
        ("dc", "convnet3-bn@4", ONE, "set"),
    ],
)
def test_all_images_are_asked_for_only_where_the_student_sees_them(kind, network, loops, scope):
    assert objective(kind, network, loops).scope == scope


@pytest.mark.parametrize("loops", [ONE, LOOPS])
def test_batch_norms_use_statistics_of_real_images_of_all_classes(loops):
    made = objective("dc", "convnet3-bn@4", loops)
    steps = 1 if loops.outer == 1 else 2
    moved(start(), range(steps), made)
    student = made.students.of(steps, start(), LABELS, real)
    images = torch.cat([NORMALIZATION(real(steps, label)) for label in range(3)])
    for layer in student.trunk:
        if isinstance(layer, torch.nn.BatchNorm2d):
            rows = images.transpose(0, 1).flatten(1)
            torch.testing.assert_close(layer.running_mean, rows.mean(1))
            torch.testing.assert_close(layer.running_var, rows.var(1))
            assert not layer.training
            images = F.batch_norm(images, None, None, layer.weight, layer.bias, training=True)
        else:
            images = layer(images)


def trained(steps, **precision):
    """Weights of the student after so many epochs, and before them."""
    students = objective(loops=Loops(outer=2, inner=steps, lr_student=0.1, batch_syn=6)).students
    before = students.of(0, start(), LABELS, real).state_dict()["linear.weight"].clone()
    with torch.autocast("cpu", torch.bfloat16, **precision):
        student = students.of(1, start(), LABELS, real)
    return student.linear.weight.detach(), before


def test_a_student_learns_in_half_precision_as_in_full():
    (half, before), (full, _) = trained(20), trained(20, enabled=False)
    assert (half - full).norm() < 0.4 * (full - before).norm()


@pytest.mark.smoke
def test_batch_norms_and_half_precision_go_together():
    gradients = []
    for enabled in (True, False):
        leaf = start().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            objective("dc", "convnet3-bn@8", ONE).accumulate(0, leaf, LABELS, real)
        gradients.append(leaf.grad.flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9


@pytest.mark.parametrize("kind", ["dm", "dc"])
def test_dropout_does_not_make_a_step_depend_on_the_global_stream(kind):
    made = objective(kind, "vit@8", ONE)
    gradients = []
    for seed in range(2):
        leaf = start().requires_grad_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made.accumulate(0, leaf, LABELS, real)
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)
