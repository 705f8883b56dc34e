"""Nonsense as arguments of priors and classifiers: one line, before anything is made."""

import pytest
import torch

import latentdc
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate import EvalProtocol
from latentdc.images import Normalization
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Prune, Scorer
from tests.methods import setup
from tests.priors import small

TRAIN = setup.dataset()


@pytest.mark.parametrize(
    "labels", [[0], torch.tensor([0.0]), torch.tensor([[0]]), torch.tensor([3]), torch.tensor([-1])]
)
def test_a_prior_has_no_condition_of_what_is_no_label(labels):
    """The row after the last class stands for none of them."""
    prior = small.prior()
    assert prior.condition(torch.tensor([0, 2], dtype=torch.int32)).shape == (2, 1, 6)
    with pytest.raises(InputError, match=r"labels are a tensor \(B,\) of whole numbers below 3"):
        prior.condition(labels)


def test_a_prior_decodes_as_many_latents_as_conditions_and_noises():
    prior = small.prior(steps=2)
    z, c = torch.zeros(2, *prior.latent_shape), prior.condition(torch.tensor([0, 1]))
    assert prior.decode(z, c, z).shape == (2, 3, 8, 8)
    for wrong in ((z[:1], c, z), (z, c[:1], z), (z, c, z[:1]), (z, c, None), (z, c, z[:, :1])):
        with pytest.raises(InputError, match=r"decodes z .* with a condition of each and noise"):
            prior.decode(*wrong)
    with pytest.raises(InputError, match="decodes z"):
        prior.decode(z[:0], c[:0], z[:0])


@pytest.mark.parametrize("levels", [torch.zeros(2, 3, 8, 8).byte(), torch.zeros(3, 8, 8), None])
def test_a_prior_encodes_batches_of_floats(levels):
    for prior in (
        AutoencoderPrior(small.autoencoder(), resolution=8),
        PixelPrior(8),
        small.prior(),
    ):
        with pytest.raises(InputError, match=r"images are floats \(B, 3, H, W\) in \[-1, 1\], got"):
            prior.encode(levels)


def test_a_single_class_has_no_classifier():
    one = Dataset.from_arrays(TRAIN.images, [0] * len(TRAIN), ["only"])
    told = r"the single class \['only'\]; a classifier needs two or more"
    scorer = Scorer(network="convnet3@8", epochs=1)
    for score in ("loss", "herding", "memorization"):
        with pytest.raises(InputError, match=told):
            latentdc.prune_dataset(one, Prune(score=score, keep=0.5, scorer=scorer))
    assert len(latentdc.prune_dataset(one, Prune(score="random", keep=0.5))) == len(one) // 2
    protocol = EvalProtocol(name="toy", students=["convnet3@8"], seeds=1, steps=1)
    with pytest.raises(InputError, match=told):
        latentdc.evaluate_sets(one, one, protocol, normalization=Normalization())
