import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from latentdc.augment import color
from latentdc.draws import generator
from latentdc.images import from_uint8, to_uint8

LEVELS = torch.randint(256, (28, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
NAMES = {  # ours by torchvision's
    "Identity": "identity",
    "ShearX": "shear-x",
    "ShearY": "shear-y",
    "TranslateX": "translate-x",
    "TranslateY": "translate-y",
    "Rotate": "rotate",
    "Brightness": "brightness",
    "Color": "color",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "AutoContrast": "autocontrast",
    "Equalize": "equalize",
}


def test_operations_are_torchvisions_in_its_order():
    assert [NAMES[name] for name in v2.RandAugment()._AUGMENTATION_SPACE] == [*color.OPERATIONS]


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_operation_is_that_of_torchvisions_randaugment(kind, sign):
    theirs = v2.RandAugment(magnitude=9)
    magnitudes, signed = theirs._AUGMENTATION_SPACE[kind]
    bins = magnitudes(31, 16, 16)
    magnitude = 0.0 if bins is None else float(bins[9]) * (sign if signed else 1)
    expected = theirs._apply_image_or_video_transform(
        LEVELS, kind, magnitude, interpolation=theirs.interpolation, fill=theirs._fill
    )
    ours = color.OPERATIONS[NAMES[kind]](LEVELS, sign * 9 / 30)
    assert (ours.int() - expected.int()).abs().max() <= 1  # their magnitudes are float32


def test_posterized_images_have_as_many_bits_as_torchvisions_at_every_magnitude():
    magnitudes, _ = v2.RandAugment()._AUGMENTATION_SPACE["Posterize"]
    for magnitude, bits in enumerate(magnitudes(31, 16, 16).tolist()):
        ours = color.OPERATIONS["posterize"](LEVELS, magnitude / 30)
        assert torch.equal(ours, tv.posterize(LEVELS, int(bits)))


def test_every_image_has_operations_of_its_own():
    draws = torch.stack([torch.arange(28.0) % 14, torch.full((28,), 0.3)], dim=1)[:, None]
    draws[14:, :, 1] *= -1
    seen = to_uint8(color.randaugment(from_uint8(LEVELS), draws))
    functions = list(color.OPERATIONS.values())
    for index, (view, level) in enumerate(zip(seen, LEVELS, strict=True)):
        alone = functions[index % 14](level[None], 0.3 if index < 14 else -0.3)[0]
        assert torch.equal(view, alone)


def test_operations_are_drawn_evenly_and_twice():
    draws = color.draw_operations(7000, 2, 9, generator(0))
    assert draws.shape == (7000, 2, 2)
    assert draws[..., 1].unique().tolist() == [pytest.approx(-0.3), pytest.approx(0.3)]
    counts = draws[..., 0].long().flatten().bincount(minlength=14)
    assert counts.min() > 850 and counts.max() < 1150


def test_jitter_blends_with_black_mean_grey_and_grey_in_the_drawn_order():
    unit = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    draws = torch.tensor([[2.0, 0, 1, 0.4, -0.2, 0.3], [0, 1, 2, -0.1, 0.2, -0.4]])
    seen = (color.jitter(unit * 2 - 1, draws) + 1) / 2

    def blend(image, kind, change):
        grey = tv.rgb_to_grayscale(image)
        goal = [torch.zeros_like(grey), grey.mean().expand_as(grey), grey][kind]
        return (1 - change) * image + change * goal

    first = blend(blend(blend(unit[0], 2, 0.3), 0, 0.4), 1, -0.2)
    second = blend(blend(blend(unit[1], 0, -0.1), 1, 0.2), 2, -0.4)
    torch.testing.assert_close(seen, torch.stack([first, second]))


def test_jitter_is_drawn_within_its_strength_in_all_orders():
    draws = color.draw_jitter(600, 0.4, generator(0))
    assert len({tuple(order) for order in draws[:, :3].tolist()}) == 6
    assert 0.35 < draws[:, 3:].max() <= 0.4 and -0.4 <= draws[:, 3:].min() < -0.35


def test_lighting_adds_principal_colours():
    strengths = torch.tensor([[0.1, 0.0, 0.0], [0.0, -0.2, 0.3]])
    seen = color.lighting(torch.zeros(2, 3, 2, 2), strengths)
    first = [0.1 * 0.2175 * vector[0] for vector in color.EIGENVECTORS]
    torch.testing.assert_close(seen[0, :, 0, 0] / 2, torch.tensor(first))
    red = -0.2 * 0.0188 * 0.7192 + 0.3 * 0.0045 * 0.4009
    assert math.isclose(float(seen[1, 0, 1, 1]) / 2, red, rel_tol=1e-4)
