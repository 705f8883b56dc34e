"""Effects of single real images, against leaving each of them out."""

import warnings

import pytest
import torch

from latentdc import draws
from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.networks.build import new_network
from latentdc.objectives import base, effects
from latentdc.objectives.build import build_objective
from latentdc.objectives.distribution import distribution_matching
from latentdc.objectives.effects import distribution_effects, gradient_effects
from latentdc.objectives.gradient import DISTANCES, gradient_matching
from latentdc.recipe import Loops, ObjectiveSettings

COUNT, IPC, LABEL = 24, 2, 1
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def images(count, seed, size=8):
    source = draws.generator(0, "images", seed)
    return torch.rand(count, 3, size, size, generator=source, dtype=torch.float64) * 2 - 1


def student(name="convnet3@8"):
    return new_network(name, 3, num_classes=3, resolution=8, seed=0).double().eval()


def treat(pixels):
    """A normalisation and an augmentation, of which effects are to know."""
    return augment(pixels * 1.7 - 0.2, draw_augmentation("scale", draws.generator(3)))


def real(count=COUNT):
    """A class with some members that differ from the others more and more."""
    spread = torch.linspace(0.2, 1.5, count, dtype=torch.float64)[:, None, None, None]
    return treat((images(1, 1) + spread * images(count, 2)).clamp(-1, 1))


def left_out(loss, made):
    """The naive lengths: the whole gradient minus the one without x, image by image."""

    def gradient(rows):
        leaf = made.clone().requires_grad_()
        return torch.autograd.grad(loss(real()[rows], treat(leaf)), leaf)[0]

    rows = torch.arange(COUNT)
    whole = gradient(rows)
    return torch.stack([(whole - gradient(rows[rows != x])).norm() for x in range(COUNT)])


def spearman(a, b):
    ranks = torch.stack([values.argsort().argsort().double() for values in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def test_effects_under_distribution_matching_are_the_naive_difference_exactly():
    network, made = student(), images(IPC, 5)
    naive = left_out(lambda r, s: distribution_matching(network.features, [r], [s]), made)
    found = distribution_effects(network, real(), made, treat, LABEL)
    torch.testing.assert_close(found, naive, rtol=1e-5, atol=0)


class Pixels(torch.nn.Module):
    """A student whose features are the pixels themselves."""

    def features(self, pixels):
        return pixels.flatten(1)


def test_effects_on_pixels_by_hand():
    values = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1)  # mean 2, so -2, -1 and 3 beside it
    found = distribution_effects(Pixels(), values, torch.zeros(4, 1, 1, 1), lambda x: x, 0)
    # dL/ds_j = -2 (r - mean s) / 4, and r moves by (x - 2) / 2: 4 images get (x - 2) / 4 each.
    torch.testing.assert_close(found, torch.tensor([2.0, 1.0, 3.0]) / 4 * 4**0.5)
    bound = distribution_effects(Pixels(), values, torch.zeros(4, 1, 1, 1), lambda x: x, 0, "bound")
    torch.testing.assert_close(bound, torch.tensor([1.0, 0.5, 1.5]))


@pytest.mark.parametrize(("distance", "error"), [("mse", 1e-6), ("rowwise", 0.3), ("cosine", 0.3)])
def test_effects_under_gradient_matching_rank_images_as_the_naive_difference(distance, error):
    network, made = student(), images(IPC, 5)
    naive = left_out(lambda r, s: gradient_matching(network, r, s, LABEL, distance=distance), made)
    found = gradient_effects(network, real(), made, treat, LABEL, distance=distance)
    assert spearman(found, naive) > 0.97
    assert ((found - naive) / naive).abs().max() < error


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_an_effect_is_the_slope_of_the_gradient_along_the_image(distance):
    network, made, genuine = student(), images(IPC, 5), real(5)
    weights = list(network.parameters())

    def gradient_of(rows):
        targets = torch.full((len(rows),), LABEL)
        loss = torch.nn.functional.cross_entropy(network(rows), targets)
        return torch.autograd.grad(loss, weights)

    mean, own = gradient_of(genuine), gradient_of(genuine[:1])

    def slope(along):
        wanted = [m + along * (g - m) / 4 for m, g in zip(mean, own, strict=True)]
        leaf = made.clone().requires_grad_()
        targets = torch.full((IPC,), LABEL)
        loss = torch.nn.functional.cross_entropy(network(treat(leaf)), targets)
        given = torch.autograd.grad(loss, weights, create_graph=True)
        return torch.autograd.grad(DISTANCES[distance](given, wanted), leaf)[0]

    expected = (slope(1e-5) - slope(-1e-5)) / 2e-5
    found = gradient_effects(network, genuine, made, treat, LABEL, distance=distance)
    torch.testing.assert_close(found[0], expected.norm(), rtol=1e-5, atol=1e-12)


def test_the_bound_holds_up_to_the_gain_of_the_student_and_ranks_somewhat_alike():
    network, made = student(), images(IPC, 5)
    found, bound = (
        distribution_effects(network, real(), made, treat, LABEL, form)
        for form in ("taylor", "bound")
    )
    jacobian = torch.autograd.functional.jacobian(
        lambda s: network.features(treat(s)).mean(0), made
    ).flatten(1)
    gain = 2 * torch.linalg.matrix_norm(jacobian, 2)
    assert (found <= gain * bound * 1.001).all() and (found > 0).all()
    assert spearman(found, bound) > 0.6


def test_the_bound_of_gradient_matching_is_the_distance_of_gradients_that_it_compares():
    network, genuine = student(), real(4)
    seen = [p for p in network.parameters() if p.ndim > 1]  # rowwise: no biases, no norms

    def gradient_of(rows):
        loss = torch.nn.functional.cross_entropy(network(rows), torch.full((len(rows),), LABEL))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, seen)])

    mean = gradient_of(genuine)
    expected = torch.stack([(gradient_of(x[None]) - mean).norm() / 3 for x in genuine])
    found = gradient_effects(network, genuine, images(IPC, 5), treat, LABEL, "bound")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["dm", "dc"])
@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_how_many_images_are_taken_at_once_changes_nothing(kind, at_once, monkeypatch):
    network, made = student(), images(IPC, 5)
    effect = {"dm": distribution_effects, "dc": gradient_effects}[kind]
    expected = effect(network, real(), made, treat, LABEL)
    monkeypatch.setattr(base, "PIXELS_CPU", 64 * at_once)
    monkeypatch.setattr(effects, "NUMBERS", 64 * at_once)
    torch.testing.assert_close(effect(network, real(), made, treat, LABEL), expected)


def objective(kind, augmentation=STRATEGY, network="convnet3@8", distance="rowwise"):
    outer = 2 if kind == "dc loops" else 1
    return build_objective(
        ObjectiveSettings(
            kind=kind.split()[0],
            network=network,
            augment=augmentation,
            distance=distance,
            loops=Loops(outer=outer, inner=1),
        ),
        num_classes=3,
        resolution=8,
    )


def batch(step, label):
    return images(6, 10 + 3 * step + label).float()


LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def told(made, step, classes=(2, 0), form="taylor"):
    start = images(6, 4).float()
    return list(made.effects(step, start, LABELS, batch, classes=classes, form=form))


@pytest.mark.parametrize("network", ["convnet3@8", "convnet3-bn@8"])
@pytest.mark.parametrize("kind", ["dm", "dc", "dc loops"])
def test_an_objective_tells_the_effects_on_its_own_gradient(kind, network):
    made = objective(kind, network=network, distance="mse")  # with which the first order is all
    if kind == "dc loops":  # the student is trained before its second step
        made.accumulate(0, images(6, 4).float().requires_grad_(), LABELS, batch)
    step = 1 if kind == "dc loops" else 0
    found = told(made, step)

    def gradient(real):
        leaf = images(6, 4).float().requires_grad_()
        made.current = (step, student_of_the_step)
        made.accumulate(step, leaf, LABELS, real)
        return leaf.grad

    student_of_the_step = made.current[1]
    for label, lengths in zip((2, 0), found, strict=True):

        def without(x, label=label):
            def real(step, asked):
                whole = batch(step, asked)
                return whole[torch.arange(6) != x] if asked == label else whole

            return real

        whole = gradient(batch)
        naive = torch.stack([(whole - gradient(without(x))).norm() for x in range(6)])
        torch.testing.assert_close(lengths, naive, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("kind", ["dm", "dc", "dc loops"])
def test_looking_at_effects_does_not_change_the_step(kind):
    gradients = []
    for look in (False, True):
        made = objective(kind)
        for step in range(2):
            leaf = images(6, 4).float().requires_grad_()
            if look:
                told(made, step)
            made.accumulate(step, leaf, LABELS, batch)
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("kind", ["dm", "dc"])
@pytest.mark.parametrize("augmentation", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_every_augmentation_has_effects_without_a_slow_fallback(kind, augmentation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for lengths in told(objective(kind, augmentation), 0):
            assert lengths.shape == (6,) and lengths.isfinite().all()


@pytest.mark.smoke
@pytest.mark.parametrize("network", ["alexnet@8", "vgg11@4", "resnet18@4", "vit@16"])
def test_other_students_have_effects(network):
    for kind in ("dm", "dc"):
        settings = ObjectiveSettings(kind=kind, network=network, loops=Loops(outer=1, inner=1))
        made = build_objective(settings, num_classes=3, resolution=16)

        def real(step, label):
            return images(4, label, size=16).float()

        start, labels = images(3, 4, size=16).float(), torch.arange(3)
        for lengths in made.effects(0, start, labels, real, classes=[1], form="taylor"):
            assert lengths.shape == (4,) and (lengths > 0).all()
