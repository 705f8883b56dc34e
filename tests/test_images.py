import pytest
import torch

from latentdc.errors import InputError
from latentdc.images import from_uint8, to_uint8
from latentdc.preprocessing import Normalization


def test_all_levels_survive_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)


def test_levels_span_minus_one_to_one():
    ends = from_uint8(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert ends.dtype == torch.float32 and ends.tolist() == [[[-1.0, 1.0]]]


def test_floats_become_the_nearest_level_within_the_limits():
    floats = torch.tensor([-3.0, -1.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 0.99, 1.0, 7.0])
    assert to_uint8(floats).tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_the_levels_that_came_in_are_not_changed():
    levels = torch.full((1, 2, 2), 9, dtype=torch.uint8)
    from_uint8(levels)
    floats = torch.full((1, 2, 2), 9.0)
    to_uint8(floats)
    assert levels.unique().tolist() == [9] and floats.unique().tolist() == [9.0]


def test_normalization_subtracts_the_mean_and_divides_by_the_std_of_images_in_0_1():
    normalize = Normalization(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    black_grey_white = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    expected = torch.tensor([[-1.0, 0.0, 1.0], [-1.0, 1.0, 3.0], [0.0, 0.5, 1.0]])
    torch.testing.assert_close(normalize(black_grey_white)[0, :, 0], expected)


def test_gradients_pass_through_normalization_even_after_its_use_in_inference():
    normalize = Normalization(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    with torch.inference_mode():
        normalize(torch.zeros(1, 3, 2, 2))
    images = torch.zeros(1, 3, 2, 2, requires_grad=True)
    normalize(images).sum().backward()
    for channel, slope in enumerate((1.0, 2.0, 4.0)):
        assert images.grad[:, channel].unique().tolist() == [pytest.approx(slope)]


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.bool])
def test_levels_are_not_normalised_as_if_they_were_floats(kind):
    for network_input in (Normalization(), Normalization().inverse):
        with pytest.raises(InputError, match=r"got torch\..*; of levels take x.float\(\) / 127.5"):
            network_input(torch.ones(2, 3, 4, 4, dtype=kind))
