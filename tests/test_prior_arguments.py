"""Nonsense as arguments of priors and classifiers: one line, before anything is made."""

import numpy as np
import pytest
import torch

import latentdc
from latentdc import draws
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


Z, IMAGES = torch.zeros(2, 2, 4, 4), [("zero", 0), ("one", 0)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": [0, 1]}, r"labels is a Tensor, got a list"),
        ({"labels": torch.tensor([0, 3])}, r"labels are a tensor \(B,\) of whole numbers below 3"),
        ({"images": [0, 1]}, "pairs of a class's name and a number"),
        ({"images": None}, "pairs of a class's name and a number"),
        ({"images": [], "labels": torch.tensor([]).long()}, "one or more pairs"),
        ({"images": ["zero", "one"]}, "pairs of a class's name and a number"),
        ({"images": ["ab", "cd"]}, "pairs of a class's name and a number"),
        ({"images": torch.tensor(0)}, "pairs of a class's name and a number"),
        ({"images": [("zero", 0.5), ("one", 1)]}, "pairs of a class's name and a number"),
        ({"seed": None}, "seed takes a whole number, got null"),
        ({"start": 1.0, "x": Z}, "start is the index of a step, 0 to 2, got 1.0"),
        ({"start": True, "x": Z}, "start is the index of a step, 0 to 2, got True"),
        ({"start": 3, "x": Z}, "start is the index of a step, 0 to 2, got 3"),
        ({"x": [0, 1]}, r"floats of the shape \(2, 2, 4, 4\), got \[0, 1\]"),
        ({"x": Z[:1]}, r"floats of the shape \(2, 2, 4, 4\), got torch.Size"),
        ({"x": Z.long()}, "floats of the shape .* got torch.int64"),
        ({"eta": "1"}, r"eta is a share of ancestral noise in \[0, 1\], got '1'"),
        ({"eta": float("nan")}, "eta is a share of ancestral noise"),
        ({"guides": latentdc.Guide(lambda state: state)}, "guides are a list of latentdc.Guide"),
        ({"guides": [lambda state: state]}, "a guide is a latentdc.Guide, got a function"),
        ({"guides": [latentdc.Guide(lambda state: state.mean)]}, "a guide returns the state, with"),
        ({"guides": [latentdc.Guide(lambda state: None)]}, "a guide returns the state, with"),
    ],
)
def test_a_prior_samples_named_images_of_its_classes(options, told):
    with pytest.raises(InputError, match=told):
        small.prior(steps=3).sample(**{"labels": torch.tensor([0, 1]), "images": IMAGES} | options)


NAMES = np.array(["zero", "one"])
PLAIN = [(0, 0), (1, 0)]


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({"images": [(NAMES[0], np.int64(0)), (NAMES[1], torch.tensor(0))]}, {}),
        ({"images": np.array(PLAIN)}, {"images": PLAIN}),
        ({"images": torch.tensor(PLAIN)}, {"images": PLAIN}),
        ({"images": dict.fromkeys(IMAGES).keys()}, {}),
        ({"seed": np.int64(-1)}, {"seed": -1}),
        ({"start": np.int64(1), "x": Z}, {"start": 1, "x": Z}),
        ({"start": torch.tensor(1), "x": Z}, {"start": 1, "x": Z}),
        ({"x": Z.double()}, {"x": Z}),
    ],
)
def test_numbers_and_texts_of_numpy_and_torch_draw_the_same_images(options, plain):
    prior, usual = small.prior(steps=3), {"labels": torch.tensor([0, 1]), "images": IMAGES}
    assert torch.equal(prior.sample(**usual | options), prior.sample(**usual | plain))


def test_keys_of_draws_that_were_made_before_stay_what_they_are():
    assert draws.key_seed(-1, "sample", 0, np.int64(0), 1) == 3284297289186613591
    assert draws.key_seed(0, "sample", NAMES[0], 0) == 8297000272584400416


def test_guides_of_a_generator_act_in_every_step():
    prior, acted = small.prior(steps=3), []
    guide = latentdc.Guide(lambda state: acted.append(state.index) or state)
    prior.sample(torch.tensor([0, 1]), IMAGES, guides=(one for one in [guide]))
    assert acted == [0, 1, 2]


def test_steps_of_inversion_are_numbers_of_numpy_too():
    prior, labels = small.prior(steps=3), torch.tensor([0, 1])
    same = prior.invert(Z.double(), labels, stop=np.int64(1)), prior.invert(Z, labels, stop=1)
    assert torch.equal(*same)
    with pytest.raises(InputError, match="stop is the index of a step, 0 to 2, got 3"):
        prior.invert(Z, labels, stop=3)


@pytest.mark.parametrize(
    "wrong", [{"correct": 3}, {"through": "unet"}, {"steps": 3}, {"through": None}]
)
def test_a_guide_is_a_function_that_says_what_it_goes_through(wrong):
    with pytest.raises(InputError, match="a Guide has a function of the state, through one of"):
        latentdc.Guide(**{"correct": lambda state: state} | wrong)


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
