import pytest
import torch

from latentdc.data.dataset import Dataset
from latentdc.data.open import preprocessing
from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.preprocessing import Normalization, fit_whitening, load_whitening, save_whitening
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Data

NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def levels(count: int = 200) -> torch.Tensor:
    """Images whose neighbouring pixels are alike."""
    coarse = torch.randint(0, 256, (count, 3, 2, 2), generator=generator(0)).float()
    fine = torch.randint(-20, 20, (count, 3, 4, 4), generator=generator(1))
    big = torch.nn.functional.interpolate(coarse, size=4, mode="bilinear")
    return (big + fine).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def whitening():
    return fit_whitening(levels(), NORMALIZATION, name="these", eps=0.1)


def flat(images: torch.Tensor) -> torch.Tensor:
    return NORMALIZATION(from_uint8(images).double()).flatten(1)


def test_images_are_whitened_as_zca_is_written(whitening):
    x = flat(levels())
    u, s, _ = torch.linalg.svd(torch.cov(x.T))
    expected = (x - x.mean(0)) @ u @ torch.diag((s + 0.1) ** -0.5) @ u.T
    found = whitening(from_uint8(levels()))
    assert found.shape == (200, 3, 4, 4) and found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(1).double(), expected, rtol=1e-4, atol=1e-4)


def test_whitened_training_images_have_the_variances_s_over_s_plus_eps(whitening):
    covariance = torch.cov(whitening(from_uint8(levels())).flatten(1).double().T)
    s = torch.linalg.eigvalsh(torch.cov(flat(levels()).T))
    expected = (s / (s + 0.1)).sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(covariance), expected, rtol=1e-3, atol=1e-4)
    plain = fit_whitening(levels(), NORMALIZATION, name="these", eps=1e-9)
    covariance = torch.cov(plain(from_uint8(levels())).flatten(1).double().T)
    torch.testing.assert_close(covariance, torch.eye(48).double(), rtol=0, atol=1e-3)


def test_whitened_images_come_back(whitening):
    images = from_uint8(levels(5)).double()
    torch.testing.assert_close(whitening.inverse(whitening(images)), images, rtol=0, atol=1e-5)
    assert torch.autograd.gradcheck(whitening.inverse, whitening(images).requires_grad_())
    assert (whitening.inverse(whitening(images.float())) - images).abs().max() < 1e-4


def test_an_update_of_whitened_pixels_is_one_of_whitened_space(whitening):
    """As MTT has it: x' = x - lr dL/dx for the whitened x, at which the loss is taken."""
    prior, target = PixelPrior(4, clamp=False, whitening=whitening), torch.randn(2, 3, 4, 4)
    z = prior.encode(from_uint8(levels(2))).requires_grad_()
    seen = whitening(prior.decode(z, None, None))
    (seen - target).square().sum().backward()
    torch.testing.assert_close(seen.detach(), z.detach(), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.grad, 2 * (z.detach() - target), rtol=1e-3, atol=1e-3)


def test_a_clamped_whitened_image_stays_an_image_and_passes_gradients_on(whitening):
    prior = PixelPrior(4, whitening=whitening)
    z = (3 * prior.encode(from_uint8(levels(2)))).requires_grad_()
    images, free = prior.decode(z, None, None), PixelPrior(4, clamp=False, whitening=whitening)
    assert free.decode(z, None, None).abs().max() > 1 >= images.abs().max()
    (clamped,) = torch.autograd.grad(images.sum(), z)
    (unclamped,) = torch.autograd.grad(free.decode(z, None, None).sum(), z)
    assert torch.equal(clamped, unclamped)


def test_gradients_pass_through_the_matrix(whitening):
    images = from_uint8(levels(3)).double().requires_grad_()
    assert torch.autograd.gradcheck(whitening, images)


def test_half_precision_around_it_does_not_reach_it(whitening):
    images = from_uint8(levels(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(whitening(images), whitening(images.clone()))
        assert whitening(images).dtype == torch.float32
    torch.testing.assert_close(
        whitening(images).double(), whitening(images.double()), rtol=1e-4, atol=1e-4
    )


def test_a_whitening_survives_its_file_bit_by_bit(whitening, tmp_path):
    path = tmp_path / "zca.safetensors"
    save_whitening(path, whitening)
    again = load_whitening(path)
    assert again.facts() == whitening.facts() and again.normalization == NORMALIZATION
    assert torch.equal(again.matrix, whitening.matrix) and torch.equal(again.mean, whitening.mean)


def dataset(order: torch.Tensor) -> Dataset:
    images, labels = levels()[order], (torch.arange(200) % 2)[order]
    return Dataset(images, labels, ("a", "b"), order.clone(), "toy")


def test_a_recipe_s_whitening_is_fitted_once_and_depends_on_the_images_alone(tmp_path):
    data = Data(resolution=8, zca=True, cache=str(tmp_path))
    first = preprocessing(data, dataset(torch.arange(200)))
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    again = preprocessing(data, dataset(torch.arange(200).flip(0)))
    assert kept.stat().st_mtime_ns == written and torch.equal(again.matrix, first.matrix)
    assert again.facts() == first.facts()
    other = preprocessing(data, dataset(torch.arange(199)))
    darker = preprocessing(Data(resolution=8, zca=True, cache=str(tmp_path), mean=(0.1,) * 3),
                           dataset(torch.arange(200)))  # fmt: skip
    assert len({str(one.facts()) for one in (first, other, darker)}) == 3
    assert isinstance(preprocessing(Data(resolution=8), dataset(torch.arange(9))), Normalization)


def test_a_damaged_file_of_the_cache_is_made_again(tmp_path, capsys):
    data = Data(resolution=8, zca=True, cache=str(tmp_path))
    first = preprocessing(data, dataset(torch.arange(200)))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"nothing")
    assert torch.equal(preprocessing(data, dataset(torch.arange(200))).matrix, first.matrix)
    assert f"{kept.name} is damaged" in capsys.readouterr().err


def test_large_images_are_not_whitened():
    with pytest.raises(InputError, match=r"up to 64 px; at 128 px .* 49,152 x 49,152"):
        Data(resolution=128, zca=True)
