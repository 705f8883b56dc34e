import math

import pytest
import torch
from torch.nn import functional as F

from latentdc.augment.dsa import AUGMENTATIONS, Draw, augment, augment_classes, draw_augmentation
from latentdc.recipe.checks import AUGMENTATIONS as NAMES

ALL = "_".join(NAMES)


def apply(kind, images, *uniforms):
    row = [*uniforms, *[0.0] * (3 - len(uniforms))]
    return augment(images, Draw(kind, torch.tensor([row], dtype=images.dtype)))


@pytest.fixture
def images():
    source = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 8, 8, generator=source, dtype=torch.float64)


def test_recipes_name_exactly_the_augmentations_that_exist():
    assert tuple(AUGMENTATIONS) == NAMES


def test_color_is_brightness_then_saturation_then_contrast(images):
    x = images + (0.9 - 0.5)
    grey = x.sum(dim=1, keepdim=True) / 3
    x = grey + (x - grey) * (2 * 0.3)
    mean = x.sum(dim=(1, 2, 3), keepdim=True) / (3 * 8 * 8)
    x = mean + (x - mean) * (0.7 + 0.5)
    torch.testing.assert_close(apply("color", images, 0.9, 0.3, 0.7), x)


def test_crop_shifts_by_whole_pixels_and_fills_with_zeros(images):
    assert torch.equal(apply("crop", images, 0.5, 0.5), images)  # at 8 px: -1, 0 or 1
    shifted = apply("crop", images, 0.0, 0.99)
    assert torch.equal(shifted[:, :, 1:, :-1], images[:, :, :-1, 1:])
    assert not shifted[:, :, 0].any() and not shifted[:, :, :, -1].any()


def test_cutout_zeroes_a_square_of_half_the_side_that_the_border_cuts(images):
    inside = images.clone()
    inside[:, :, 2:6, 3:7] = 0  # centre (4, 5): of 9 possible ones each way
    assert torch.equal(apply("cutout", images, 4.5 / 9, 5.5 / 9), inside)
    corner = images.clone()
    corner[:, :, :2, 6:] = 0
    assert torch.equal(apply("cutout", images, 0.0, 1 - 1e-9), corner)


def test_flip_mirrors_half_of_the_time(images):
    assert torch.equal(apply("flip", images, 0.49), images.flip(3))
    assert torch.equal(apply("flip", images, 0.51), images)


def test_scale_reads_from_stretched_coordinates(images):
    neutral = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)
    torch.testing.assert_close(apply("scale", images, neutral, neutral), images)
    # width by 1.2: column j of 8 is read at 3.5 + 1.2 (j - 3.5), outside of which all is zero
    stretched = apply("scale", images, 1.0, neutral)
    for column in range(8):
        place = 3.5 + 1.2 * (column - 3.5)
        left = math.floor(place)
        share = place - left
        value = torch.zeros_like(images[..., 0])
        for source, weight in [(left, 1 - share), (left + 1, share)]:
            if 0 <= source < 8:
                value += weight * images[..., source]
        torch.testing.assert_close(stretched[..., column], value)


def test_rotate_turns_about_the_centre(images):
    torch.testing.assert_close(apply("rotate", images, 0.5), images)
    turned = apply("rotate", images, 1.0)  # by 15 degrees
    angle = math.radians(15)
    x, y = 5 - 3.5, 2 - 3.5  # of pixel row 2, column 5, from the centre
    column = 3.5 + math.cos(angle) * x - math.sin(angle) * y
    row = 3.5 + math.sin(angle) * x + math.cos(angle) * y
    top, left = math.floor(row), math.floor(column)
    expected = sum(
        (1 - abs(row - r)) * (1 - abs(column - c)) * images[:, :, r, c]
        for r in (top, top + 1)
        for c in (left, left + 1)
    )
    torch.testing.assert_close(turned[:, :, 2, 5], expected)


def test_what_comes_from_outside_the_image_is_zero():
    ones = torch.ones(1, 3, 16, 16)
    assert apply("rotate", ones, 0.0)[0, 0, 0, 0] == 0
    assert apply("scale", ones, 1.0, 1.0)[0, 0, 0, 0] == 0


@pytest.mark.parametrize("kind", NAMES)
def test_one_draw_does_the_same_to_real_and_synthetic_images(kind, images):
    draw = draw_augmentation(kind, torch.Generator().manual_seed(3))
    both = augment(torch.cat([images, images[:1]]), draw)
    torch.testing.assert_close(augment(images, draw), both[:2])
    torch.testing.assert_close(both[0], both[2])


@pytest.mark.parametrize("kind", NAMES)
def test_a_draw_of_many_samples_gives_each_its_own_parameters(kind):
    same = torch.randn(1, 3, 16, 16).expand(24, -1, -1, -1)
    draw = draw_augmentation(kind, torch.Generator().manual_seed(0), samples=24)
    batch = augment(same, draw)
    assert len({image.numpy().tobytes() for image in batch}) > 1
    for index in range(24):
        alone = augment(same[:1], Draw(kind, draw.uniforms[index : index + 1]))
        torch.testing.assert_close(batch[index : index + 1], alone)


@pytest.mark.parametrize("kind", NAMES)
def test_gradients_reach_the_images(kind, images):
    draw = draw_augmentation(kind, torch.Generator().manual_seed(1), samples=2)
    x = images[:, :, :5, :5].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, draw), (x,))


def test_gradient_matching_goes_through_an_augmentation(images):
    x = images.clone().requires_grad_()
    weight = torch.ones(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    for kind in NAMES:
        out = F.conv2d(augment(x, draw_augmentation(kind, torch.Generator())), weight)
        (gradient,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
        (onward,) = torch.autograd.grad(gradient.square().sum(), x)
        assert onward.abs().max() > 0


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_largest_draw_stays_inside_the_image(kind, dtype):
    almost_one = torch.full((1, 3), 1 - 2**-24)
    images = torch.ones(1, 3, 24, 24, dtype=dtype)
    assert augment(images, Draw(kind, almost_one)).shape == images.shape


def test_kinds_are_drawn_alike_and_the_generator_decides():
    source = torch.Generator().manual_seed(0)
    kinds = [draw_augmentation(ALL, source).kind for _ in range(600)]
    assert {kinds.count(name) for name in NAMES} <= set(range(70, 131))
    first, again = (draw_augmentation(ALL, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.kind == again.kind and torch.equal(first.uniforms, again.uniforms)


def test_no_strategy_leaves_images_as_they_are(images):
    assert augment(images, draw_augmentation(None, torch.Generator())) is images


def test_a_chain_applies_one_kind_after_another_with_draws_of_their_own(images):
    source = torch.Generator().manual_seed(2)
    draw = draw_augmentation("color+crop+flip", source, samples=2)
    x = images
    for kind, columns in [("color", slice(0, 3)), ("crop", slice(3, 6)), ("flip", slice(6, 9))]:
        x = augment(x, Draw(kind, draw.uniforms[:, columns]))
    assert draw.uniforms.shape == (2, 9) and draw.uniforms.unique().numel() == 18
    assert torch.equal(augment(images, draw), x)


def test_a_chain_is_one_kind_among_others():
    source = torch.Generator().manual_seed(0)
    kinds = [draw_augmentation("flip_color+crop", source).kind for _ in range(200)]
    assert set(kinds) == {"flip", "color+crop"} and 70 < kinds.count("flip") < 130


@pytest.mark.parametrize("strategy", [ALL, "color+crop+cutout+flip+scale+rotate"])
@pytest.mark.parametrize("samples", [1, None])
def test_classes_augmented_together_are_as_each_alone(strategy, samples):
    source, counts = torch.Generator().manual_seed(1), [3, 1, 4, 2, 2, 5, 1, 3]
    parts = [torch.randn(n, 3, 8, 8, generator=source) for n in counts]
    drawn = [draw_augmentation(strategy, source, samples=samples or n) for n in counts]
    images = torch.cat(parts).requires_grad_()
    together = augment_classes(images, drawn, counts)
    alone = torch.cat([augment(part, draw) for part, draw in zip(parts, drawn, strict=True)])
    torch.testing.assert_close(together, alone)
    together.square().sum().backward()
    assert images.grad.flatten(1).abs().sum(1).min() > 0
