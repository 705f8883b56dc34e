import pytest
import torch

from latentdc.draws import generator
from latentdc.priors import autoencoder
from latentdc.priors.autoencoder import AutoencoderPrior, nearest_codes, straight_through
from tests.priors import small

CODES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
Z = torch.tensor([[[[0.9, 0.1]], [[0.2, 1.8]]]])  # positions (0.9, 0.2) and (0.1, 1.8)


def test_each_position_gets_its_nearest_code():
    assert nearest_codes(Z, CODES).tolist() == [[[1, 2]]]


def test_blocks_of_positions_change_nothing(monkeypatch):
    z, codes = torch.randn(3, 4, 5, 5), torch.randn(40, 4)
    whole = nearest_codes(z, codes)
    monkeypatch.setattr(autoencoder, "ROWS", 7)
    assert torch.equal(nearest_codes(z, codes), whole)


def test_codes_under_autocast_are_those_of_float32():
    z, codes = torch.randn(2, 4, 8, 8), torch.randn(500, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_codes(z, codes), nearest_codes(z.clone(), codes))
    with torch.autocast("cpu", torch.bfloat16):
        coarse = nearest_codes(z, codes)
    assert torch.equal(coarse, nearest_codes(z, codes))


def test_the_gradient_passes_straight_through():
    z = Z.clone().requires_grad_()
    made = straight_through(z, nearest_codes(z, CODES), CODES)
    torch.testing.assert_close(made, torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]))
    made.backward(torch.full_like(made, 3.0))
    assert z.grad.eq(3.0).all()


@pytest.mark.smoke
def test_a_vq_prior_decodes_as_its_model_does():
    model, prior = small.vq(), AutoencoderPrior(small.vq(), resolution=8)
    source = generator(0)
    z = torch.randn(3, *prior.latent_shape, generator=source).requires_grad_()
    weight = torch.randn(3, 3, 8, 8, generator=source)
    (to_z,) = torch.autograd.grad((prior.decode(z) * weight).sum(), z)
    made = model.eval().decode(z).sample.clamp(-1, 1)
    near = {"rtol": 1e-4, "atol": 1e-4}  # sums of many terms, in float32
    torch.testing.assert_close(prior.decode(z), made, **near)
    torch.testing.assert_close(to_z, torch.autograd.grad((made * weight).sum(), z)[0], **near)
