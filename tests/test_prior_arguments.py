"""Nonsense as arguments of priors and classifiers: one line, before anything is made."""

import numpy as np
import pytest
import torch

import latentdc
from latentdc import draws
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.evaluate import EvalProtocol
from latentdc.preprocessing import Normalization, Standardization
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.pixel import PixelPrior, VectorPrior
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
    for wrong, told in (
        (
            (z[:1], c, z),
            r"noise holds floats of the shape \(1, 2, 4, 4\), got .* of \(2, 2",
        ),
        ((z, c[:1], z), r"c holds floats of the shape \(2, 1, 6\), got torch.float32 of \(1, 1, 6"),
        ((z, None, z), r"decode takes c \(B, T, D\), of prior.condition\(labels\), got None"),
        ((z, torch.tensor([0, 1]), z), r"c holds floats of the shape .* got torch.int64 of \(2,\)"),
        ((z, c, None), r"noise holds floats of the shape \(2, 2, 4, 4\), got null"),
        ((z, c, z[:, :1]), "noise holds floats"),
        ((z[:0], c, z[:0]), r"c holds floats of the shape \(0, 1, 6\), got .* of \(2, 1, 6\)"),
    ):
        with pytest.raises(InputError, match=told):
            prior.decode(*wrong)


def test_of_no_images_there_are_none():
    prior, none = small.prior(steps=2), torch.zeros(0, dtype=torch.long)
    c = prior.condition(none)
    z = prior.encode(torch.zeros(0, 3, 8, 8))
    assert prior.decode(z, c, z).shape == prior.render(z).shape == (0, 3, 8, 8)
    assert prior.invert(z, none).shape == z.shape == (0, *prior.latent_shape) and len(c) == 0


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
        ({"labels": torch.tensor(0)}, r"labels are a tensor \(B,\)"),
        ({"x": [0, 1]}, r"x holds floats of the shape \(2, 2, 4, 4\), got \[0, 1\]"),
        ({"x": Z[:1]}, r"floats of the shape \(2, 2, 4, 4\), got torch.float32 of \(1, 2, 4, 4\)"),
        ({"x": Z.long()}, "x holds floats of the shape .* got torch.int64"),
        ({"x": Z / 0}, "x holds values that are not finite; take finite ones"),
        ({"condition": 3}, "condition is a function of a step's index, got 3"),
        ({"condition": lambda index: None}, r"c holds floats of the shape \(2, 1, 6\), got null"),
        ({"condition": lambda index: torch.zeros(1, 1, 6)}, "c holds floats .* got .* of .1, 1, 6"),
        ({"guides": [latentdc.Guide(lambda s: s.with_mean(s.x[:1]))]}, "as many latents, .2, 2, 4"),
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
    with pytest.raises(InputError, match="z holds values that are not finite"):
        prior.invert(Z / 0, labels)
    with pytest.raises(InputError, match=r"x holds floats .* B being 1 or more, got"):
        prior.noise_in(Z[:0], 0, None)


@pytest.mark.parametrize(
    "wrong", [{"correct": 3}, {"through": "unet"}, {"steps": 3}, {"through": None}]
)
def test_a_guide_is_a_function_that_says_what_it_goes_through(wrong):
    with pytest.raises(InputError, match="a Guide has a function of the state, through one of"):
        latentdc.Guide(**{"correct": lambda state: state} | wrong)


SPACES = (AutoencoderPrior(small.autoencoder(), resolution=8), PixelPrior(8), small.prior())
VQ = AutoencoderPrior(small.vq(), resolution=8)
VECTORS = VectorPrior(Standardization(mean=torch.zeros(5), std=torch.ones(5), samples="none"))


@pytest.mark.parametrize("levels", [torch.zeros(2, 3, 8, 8).byte(), torch.zeros(3, 8, 8), None])
def test_a_prior_encodes_batches_of_floats(levels):
    for prior in SPACES:
        with pytest.raises(InputError, match=r"images are floats \(B, 3, H, W\) in \[-1, 1\], got"):
            prior.encode(levels)


def test_a_prior_encodes_finite_images_of_its_own_size():
    for prior in SPACES:
        with pytest.raises(InputError, match=r"encodes images of 8 px, got \(2, 3, 12, 12\)"):
            prior.encode(torch.zeros(2, 3, 12, 12))
        with pytest.raises(InputError, match="images holds values that are not finite"):
            prior.encode(torch.full((2, 3, 8, 8), torch.nan))
        with pytest.raises(InputError, match=r"got float64 of \(2, 3, 8, 8\) in a ndarray"):
            prior.encode(np.zeros((2, 3, 8, 8)))
    with pytest.raises(InputError, match=r"the batch holds floats of the shape \(B, 5\), got"):
        VECTORS.encode(torch.zeros(2, 4))


@pytest.mark.parametrize("prior", [*SPACES, VQ, VECTORS])
def test_what_is_no_latent_is_decoded_by_no_prior(prior):
    shape = prior.latent_shape
    c = prior.condition(torch.tensor([0, 1]))
    wrong = [torch.zeros(2, shape[0] + 1, *shape[1:]), torch.zeros(shape), None, [[0.0]]]
    for z in [*wrong, torch.zeros(2, *shape).long(), np.zeros((2, *shape))]:
        with pytest.raises(InputError, match=rf"z holds floats of the shape \(B, {shape[0]}"):
            prior.decode(z, c, z if prior.has_noise else None)


@pytest.mark.parametrize(
    "prior", [SPACES[0], SPACES[2], AutoencoderPrior(small.vq(), resolution=8)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_latents_of_another_precision_are_taken_in_that_of_the_weights(prior, dtype):
    source = torch.Generator().manual_seed(0)
    shape = (2, *prior.latent_shape)
    z, noise = (torch.randn(shape, generator=source).to(dtype) for _ in range(2))
    z.requires_grad_()
    c = prior.condition(torch.tensor([0, 1], dtype=torch.uint8))
    made = prior.decode(z, c, noise if prior.has_noise else None)
    plain = prior.decode(z.float(), c, noise.float() if prior.has_noise else None)
    assert made.equal(plain)
    assert torch.autograd.grad(made.square().sum(), z)[0].dtype == dtype
    images = torch.rand(2, 3, 8, 8, generator=source).to(dtype) * 2 - 1
    assert prior.encode(images).equal(prior.encode(images.float()))
    assert prior.encode(images[:0]).shape == (0, *prior.latent_shape)
    if c is None:
        assert prior.decode(z[:0]).shape == (0, 3, 8, 8)
    else:
        double = c.to(dtype)
        assert prior.noise_in(z, 1, double).equal(prior.noise_in(z.float(), 1, double.float()))


@pytest.mark.parametrize("prior", [SPACES[0], SPACES[2], VQ])
def test_outlines_are_no_input_of_weights(prior):
    z = torch.zeros(2, *prior.latent_shape, device="meta")
    with pytest.raises(InputError, match="this prior is on cpu, and takes tensors that"):
        prior.encode(torch.zeros(2, 3, 8, 8, device="meta"))
    with pytest.raises(InputError, match="tensors that hold values, got one on meta"):
        prior.decode(z, prior.condition(torch.tensor([0, 1])), z if prior.has_noise else None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"index": 4}, "index is the index of a step, 0 to 3, got 4"),
        ({"index": -1}, "index is the index of a step, 0 to 3, got -1"),
        ({"index": 0.5}, r"index is the index of a step, 0 to 3, got 0\.5"),
        ({"x": Z[:0]}, "x holds floats .* B being 1 or more"),
        ({"x": Z[:, :1]}, r"x holds floats of the shape \(B, 2, 4, 4\)"),
        ({"c": torch.zeros(1, 1, 6)}, r"c holds floats of the shape \(2, 1, 6\), got"),
        ({"c": torch.tensor([0, 1])}, r"c holds floats of the shape \(2, 1, 6\), got torch.int64"),
    ],
)
def test_what_a_denoiser_is_told_of_a_step(given, told):
    prior = small.prior()
    for call in (prior.features, prior.noise_in):
        with pytest.raises(InputError, match=told):
            call(**{"x": Z, "index": 0, "c": None} | given)


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
