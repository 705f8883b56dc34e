import pytest
import torch

from latentdc import draws
from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.networks.build import new_network
from latentdc.objectives.build import build_objective
from latentdc.objectives.distribution import distribution_matching
from latentdc.objectives.gradient import gradient_matching
from latentdc.preprocessing import Normalization
from latentdc.recipe import Loops, ObjectiveSettings

STRATEGY = "color_crop_cutout_flip_scale_rotate"
NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))


def batch(step, label):
    return torch.rand(5, 3, 8, 8, generator=draws.generator(9, step, label)) * 2 - 1


def objective(kind, **options):
    settings = ObjectiveSettings(
        kind=kind,
        network="convnet3@8",
        augment=STRATEGY,
        loops=Loops(outer=1, inner=1),
        **options,
    )
    return build_objective(
        settings, num_classes=3, resolution=8, normalization=NORMALIZATION, seed=4
    )


def synthetic():
    images = torch.rand(6, 3, 8, 8, generator=draws.generator(1)) * 2 - 1
    return images.requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])


def assert_near(found, expected):
    """But for the rounding of sums in float32."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["dm", "dc"])
def test_the_loss_is_a_sum_over_classes_with_one_student_and_one_draw_per_class(kind):
    images, labels = synthetic()
    loss = objective(kind).accumulate(7, images, labels, batch)
    student = new_network("convnet3@8", 7, num_classes=3, resolution=8, seed=4)
    again = images.detach().clone().requires_grad_()
    total = torch.zeros(())
    for label in range(3):
        draw = draw_augmentation(STRATEGY, draws.generator(4, "augment", 7, label))
        real = augment(NORMALIZATION(batch(7, label)), draw)
        made = augment(NORMALIZATION(again[2 * label : 2 * label + 2]), draw)
        if kind == "dm":
            total = total + distribution_matching(student.features, [real], [made])
        else:
            total = total + gradient_matching(student, real, made, label)
    total.backward(inputs=[again])
    torch.testing.assert_close(loss, total.detach(), rtol=1e-4, atol=0)
    assert_near(images.grad, again.grad)


@pytest.mark.parametrize("kind", ["dm", "dc"])
def test_a_class_has_the_same_gradient_alone_and_among_others(kind):
    images, labels = synthetic()
    objective(kind).accumulate(0, images, labels, batch)
    alone = images.detach()[2:4].clone().requires_grad_()
    objective(kind).accumulate(0, alone, labels[2:4], batch)
    assert_near(alone.grad, images.grad[2:4])
