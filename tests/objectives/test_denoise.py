"""CaO2's denoising loss: its formula, its draws, and a refinement by it."""

import pytest
import torch

from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.objectives.build import build_objective
from latentdc.objectives.denoise import Denoise
from latentdc.recipe import Denoising, Matching, ObjectiveSettings
from latentdc.recipe.prior import Flow
from tests.priors import small
from tests.priors.test_flow import SIT, flow_prior

PRIOR = small.prior(steps=20, guidance=2.0)
LABELS = torch.tensor([0, 0, 2, 2])


def latents(count=4, seed=0):
    return torch.randn(count, *PRIOR.latent_shape, generator=generator(seed, "latents"))


def objective(prior=PRIOR, seed=0, **settings):
    return Denoise(Denoising(**settings), prior, class_names=small.CLASSES, seed=seed)


def test_the_loss_is_written_out():
    z, noise, number = latents(), latents(seed=1), 3
    index = 20 - 1 - number
    alpha, timestep = PRIOR.schedule.alphas[index], PRIOR.schedule.timesteps[index]
    x = alpha**0.5 * z + (1 - alpha) ** 0.5 * noise
    null = PRIOR.denoiser.null.expand(4, -1, -1)
    for settings, told, c in (
        ({}, timestep, PRIOR.condition(LABELS)),
        ({"condition": "none"}, timestep, null),
        ({"timestep": "respaced"}, number, PRIOR.condition(LABELS)),
    ):
        off = (noise - PRIOR.denoiser(x, torch.tensor(told), c)).flatten(1)
        expected = (off**2).mean(dim=1) + 10 * off.abs().max(dim=1).values
        found = objective(**settings).losses(z, noise, number, LABELS)
        torch.testing.assert_close(found, expected)


def test_on_a_flow_latents_are_as_noisy_as_its_steps_expect(tmp_path):
    """x = (1 - s) z + s n."""
    prior = small.load(flow_prior(tmp_path), steps=20, flow=Flow(**SIT))
    settings = ObjectiveSettings(kind="denoise")
    sizes = {"num_classes": 3, "resolution": 8}
    made = build_objective(settings, **sizes, prior=prior, class_names=small.CLASSES)
    z, noise, number, index = latents(), latents(seed=1), 3, 16
    signal = prior.schedule.alphas[index] ** 0.5
    x = signal * z + (1 - signal) * noise
    off = (noise - prior.noise_in(x, index, prior.condition(LABELS))).flatten(1)
    expected = off.square().mean(dim=1) + 10 * off.abs().amax(dim=1)
    torch.testing.assert_close(made.losses(z, noise, number, LABELS), expected)


def test_classes_are_known_by_their_names_whatever_their_order():
    """Which keys their draws, and finds the prior's condition of each."""
    z, labels, turned = latents(), torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
    one, other = (
        Denoise(Denoising(), PRIOR, class_names=names)
        for names in (("two", "zero"), ("zero", "two"))
    )
    plain = objective().losses(z, latents(seed=1), 3, torch.tensor([2, 2, 0, 0]))
    for made, own in ((one, labels), (other, turned)):
        assert made.losses(z, latents(seed=1), 3, own).equal(plain)
        (numbers, noise), expected = made._draws(5, own), one._draws(5, labels)
        assert numbers.equal(expected[0]) and noise.equal(expected[1])


def test_losses_are_summed_over_images_whatever_is_computed_together():
    one, z = objective(), latents().requires_grad_()
    total = one.accumulate(5, z, LABELS, None)
    numbers, noise = one._draws(5, LABELS)
    parts = [one.losses(z[[k]], noise[[k]], int(numbers[k]), LABELS[[k]]).sum() for k in range(4)]
    torch.testing.assert_close(total, sum(parts).detach())
    torch.testing.assert_close(z.grad, torch.autograd.grad(sum(parts), z)[0])
    alone = latents()[2:].requires_grad_()  # of class 2, as another process has it
    one.accumulate(5, alone, LABELS[2:], None)
    torch.testing.assert_close(alone.grad, z.grad[2:])


def test_steps_are_the_cleanest_quarter_without_the_cleanest_and_noises_a_few():
    one = objective(noises=3)
    assert list(one.numbers) == [1, 2, 3, 4]  # of 20; of 50 they are 1 to 11
    drawn = [one._draws(step, LABELS) for step in range(40)]
    assert set(torch.cat([numbers for numbers, _ in drawn]).tolist()) == {1, 2, 3, 4}
    assert len({tuple(n.flatten().tolist()) for _, noise in drawn for n in noise}) == 3
    with pytest.raises(InputError, match=r"share=0.25 of prior.steps=4 leaves no step"):
        objective(small.prior(steps=4))


def test_only_a_diffusion_prior_has_it():
    settings = ObjectiveSettings(kind="denoise")
    with pytest.raises(InputError, match="denoise asks a diffusion prior"):
        build_objective(settings, num_classes=3, resolution=8)


@pytest.fixture
def real():
    images = torch.randint(256, (12, 3, 8, 8), generator=generator(0, "real"), dtype=torch.uint8)
    labels = torch.arange(12) % 3
    return Dataset(images, labels, small.CLASSES, torch.arange(12), "noise")


def refined(real, steps, optimizer="adam", context=None):
    settings = ObjectiveSettings(kind="denoise")
    made = build_objective(
        settings, num_classes=3, resolution=8, prior=PRIOR, class_names=small.CLASSES
    )
    matching = Matching(steps=steps, lr_z=0.01, optimizer=optimizer, checkpoint_every=2)
    return match(real, PRIOR, made, matching, context or Context(ipc=2))


def test_latents_are_refined_and_decoded_without_the_denoiser(real):
    before, after = refined(real, 0), refined(real, 4)
    assert before.c is None and before.noise is None
    step = (after.z - before.z).abs()
    assert 0 < float(step.max()) <= 4 * 0.011  # of Adam, about its rate at most
    expected = PRIOR.autoencoder.decode(after.z, None, None)
    torch.testing.assert_close(after.floats(), expected.clamp(-1, 1), atol=0.01, rtol=0)


def test_latents_move_to_where_the_noise_is_found_again(real):
    settings = ObjectiveSettings(kind="denoise", denoise=Denoising(noises=1, share=0.1))
    made = build_objective(
        settings, num_classes=3, resolution=8, prior=PRIOR, class_names=small.CLASSES
    )
    seen = []
    matching = Matching(steps=12, lr_z=0.05, optimizer="adam")
    match(real, PRIOR, made, matching, Context(ipc=2, on_step=lambda told: seen.append(told)))
    losses = [told["loss"] for told in seen]
    assert losses[-1] < 0.98 * losses[0]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_continued_refinement_is_bitwise_one_that_went_through(real, optimizer):
    states = []
    refined(real, 2, optimizer, Context(ipc=2, save_state=states.append))
    saved = states[-1]
    tensors = saved.tensors(saved.classes)
    kept = saved._replace(tensors=lambda classes: {label: tensors[label] for label in classes})
    again = refined(real, 4, optimizer, Context(ipc=2, load_state=lambda: kept))
    assert torch.equal(again.z, refined(real, 4, optimizer).z)
