"""What a diffusion prior samples: its classes, ancestrally or by DDIM, from noise or latents."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from latentdc import draws
from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import ClassDenoiser, without_table
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.load import load_prior
from latentdc.priors.sampler import Guide
from latentdc.priors.schedule import make_schedule
from latentdc.recipe import Data, PriorSettings
from tests.priors import small

IMAGES = [("zero", 0), ("zero", 1), ("two", 0)]
LABELS = torch.tensor([0, 0, 2])


def dit_prior(**options):
    """With a learned range of the noise's variance, as the released DiTs are."""
    space = AutoencoderPrior(small.autoencoder(), resolution=8)
    denoiser = ClassDenoiser(*without_table(small.dit()))
    settings = small.settings(**options)
    schedule = make_schedule(DDIMScheduler(), settings.steps)
    return DiffusionPrior(space, denoiser, schedule, settings, class_names=small.CLASSES)


def own_draws(what, *keys):
    return torch.stack(
        [torch.randn(2, 4, 4, generator=draws.generator(0, what, *one, *keys)) for one in IMAGES]
    )


@torch.no_grad()
def test_a_dit_is_sampled_as_diffusers_ddpm_does_with_its_learned_variance(monkeypatch):
    prior, dit = dit_prior(guidance=4.0, steps=3), small.dit().eval()
    scheduler = DDPMScheduler(clip_sample=False, variance_type="learned_range")
    scheduler.set_timesteps(3)
    x, labels = own_draws("sample"), torch.cat([LABELS, torch.full((3,), 3)])
    noises = iter([own_draws("ancestral", index) for index in range(3)])
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(noises)
    )
    for t in scheduler.timesteps:
        under, without = dit(torch.cat([x, x]), t.expand(6), class_labels=labels).sample.chunk(2)
        guided = without[:, :2] + 4 * (under[:, :2] - without[:, :2])
        x = scheduler.step(torch.cat([guided, under[:, 2:]], dim=1), t, x).prev_sample
    torch.testing.assert_close(prior.sample(LABELS, IMAGES), x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_guidance_of_some_channels_leaves_the_others_to_the_condition():
    """The released DiT guides 3 of 4 channels; here 1 of 2."""
    prior, plain = dit_prior(guidance=4.0, guided_channels=1), dit_prior(guidance=4.0)
    x, c = torch.randn(3, 2, 4, 4), prior.condition(LABELS)
    some, every = (one.predict(x, 250, one.context(c)) for one in (prior, plain))
    assert some.guided[:, :1].equal(every.guided[:, :1])
    torch.testing.assert_close(some.guided[:, 1:], every.text[:, 1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(every.guided[:, 1:], every.text[:, 1:])
    assert prior.settings == {**plain.settings, "guided_channels": 1}
    assert dit_prior(guidance=1.0, guided_channels=2).predict(x, 250, c).text is None
    with pytest.raises(InputError, match=r"guided_channels is at most the 2 channels .* got 3"):
        dit_prior(guided_channels=3)


def test_an_image_does_not_depend_on_what_is_sampled_beside_it():
    together = small.prior().sample(LABELS, IMAGES)
    chunked = small.prior(memory="low", chunk=2).sample(LABELS, IMAGES)
    alone = small.prior().sample(LABELS[2:], IMAGES[2:])
    torch.testing.assert_close(together, chunked, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together[2:], alone, rtol=1e-5, atol=1e-5)
    assert not together[0].allclose(together[1])
    assert small.prior().sample(LABELS[2:], IMAGES[2:]).equal(alone)
    assert not small.prior().sample(LABELS[2:], IMAGES[2:], seed=1).allclose(alone)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_guides_that_change_nothing_leave_every_bit(eta):
    prior = small.prior()
    plain = prior.sample(LABELS, IMAGES, eta=eta)
    still = [Guide(lambda state: state), Guide(lambda state: state, "denoiser", steps=[])]
    assert prior.sample(LABELS, IMAGES, eta=eta, guides=still).equal(plain)


def test_sampling_without_ancestral_noise_is_what_decode_denoises_without_a_skip():
    prior, z = small.prior(skip="none"), torch.randn(3, 2, 4, 4)
    with torch.no_grad():
        expected = prior.denoise(z, prior.condition(LABELS), own_draws("sample"))
        images = prior.autoencoder.decode(expected)
    ours = prior.sample(LABELS, IMAGES, x=prior.noised(z, IMAGES), eta=0.0)
    assert ours.equal(expected)
    assert prior.render(ours).equal(images)


def test_part_of_the_schedule_starts_from_noised_latents():
    prior, z = small.prior(steps=4), torch.randn(3, 2, 4, 4)
    assert [prior.start_index(share) for share in (1, 0.75, 0.7, 0.5, 0.01)] == [0, 1, 2, 2, 3]
    x = prior.noised(z, IMAGES, seed=0, start=2)
    alpha = prior.schedule.alphas[2]
    expected = alpha**0.5 * z + (1 - alpha) ** 0.5 * own_draws("sample")
    torch.testing.assert_close(x, expected)
    states = []
    watch = Guide(lambda state: states.append(state) or state)
    whole = prior.sample(LABELS, IMAGES, guides=[watch])
    assert whole.equal(prior.sample(LABELS, IMAGES, x=states[2].x, start=2))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"eta": 1.5}, r"eta is a share of ancestral noise in \[0, 1\], got 1\.5"),
        ({"start": 1}, "start=1 needs x, such as clean latents by `noised`"),
        ({"start": 4, "x": torch.zeros(3, 2, 4, 4)}, "index of a step, 0 to 3, got 4"),
        ({"x": torch.zeros(2, 2, 4, 4)}, r"x holds floats of the shape \(3, 2, 4, 4\), got"),
        ({"labels": torch.tensor([0])}, "a label per image, got 1 of 3"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(options, told):
    with pytest.raises(InputError, match=told):
        small.prior().sample(**{"labels": LABELS, "images": IMAGES, **options})


def test_no_share_of_the_schedule_is_refused():
    with pytest.raises(InputError, match=r"share of the schedule in \(0, 1\], got 0"):
        small.prior().start_index(0)


@pytest.mark.parametrize("channels", [None, 1])
def test_the_conditional_branch_is_corrected_before_guidance(channels):
    """CoDA's form: e = e0 + s (e_text + d - e0), where s is 1 in channels that are not guided."""
    prior, seen = small.prior(guidance=3.0, guided_channels=channels), []

    def correct(state):
        moved = state.with_text_eps(state.text_eps + 0.1)
        seen.append((state, moved))
        return moved

    prior.sample(LABELS, IMAGES, guides=[Guide(correct)])
    for state, moved in seen:
        weight = torch.tensor([3.0, 3.0 if channels is None else 1.0]).view(2, 1, 1)
        torch.testing.assert_close(moved.eps, (state.eps + weight * 0.1))
        torch.testing.assert_close(moved.text_eps, state.text_eps + 0.1)
        rebuilt = state.alpha**0.5 * moved.text_x0 + (1 - state.alpha) ** 0.5 * moved.text_eps
        torch.testing.assert_close(rebuilt, state.x)
        rebuilt = state.alpha**0.5 * state.text_x0 + (1 - state.alpha) ** 0.5 * state.text_eps
        torch.testing.assert_close(rebuilt, state.x)
    unguided = small.prior(guidance=1.0)
    unguided.sample(LABELS, IMAGES, guides=[Guide(lambda s: seen.append(s) or s)])
    assert seen[-1].text_eps is seen[-1].text_x0 is None and seen[-1].guidance == 1


def test_conditions_by_step_take_the_place_of_those_of_labels():
    prior, asked, turned = small.prior(steps=3), [], LABELS.flip(0)

    def condition(index):
        asked.append(index)
        return prior.condition(turned)

    made = prior.sample(LABELS, IMAGES, condition=condition)
    assert asked == [0, 1, 2] and made.equal(prior.sample(turned, IMAGES))


def test_the_conditional_branch_of_each_image_is_its_own_in_chunks():
    guides = [Guide(lambda state: state.with_text_eps(0.9 * state.text_eps))]
    chunked = small.prior(memory="low", chunk=2).sample(LABELS, IMAGES, guides=guides)
    together = small.prior().sample(LABELS, IMAGES, guides=guides)
    torch.testing.assert_close(together, chunked, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_gradient_through_the_network_is_the_same_in_chunks(memory):
    def correct(state):
        return state.with_mean(state.mean - state.gradient(state.x0.square().sum()))

    guides = [Guide(correct, "denoiser")]
    ours = small.prior(memory=memory, chunk=2).sample(LABELS, IMAGES, guides=guides)
    plain = small.prior().sample(LABELS[:1], IMAGES[:1], guides=guides)
    torch.testing.assert_close(ours[:1], plain, rtol=1e-4, atol=1e-4)
    assert not ours.requires_grad


@torch.no_grad()
def test_inverted_digits_come_back_by_ddim():
    """Latents have a standard deviation of 1; the error falls about as the steps grow."""
    test = open_splits(Data())[1]
    images, labels = from_uint8(test.images[:2]), test.labels[:2]
    keys, errors = [("0", 0), ("0", 1)], []
    for steps, guidance, stop in [(10, 1.0, 0), (20, 1.0, 0), (20, 3.0, 10)]:
        settings = PriorSettings(weights="digits", steps=steps, guidance=guidance)
        prior = load_prior(settings, resolution=16)
        assert isinstance(prior, DiffusionPrior)
        z = prior.encode(images)
        x = prior.invert(z, labels, stop=stop)
        back = prior.sample(labels, keys, x=x, start=stop, eta=0.0)
        errors.append(float((back - z).square().mean().sqrt()))
    assert errors[0] < 0.15 and errors[1] < 0.7 * errors[0] and errors[2] < 0.1, errors


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_features_are_what_the_middle_block_makes(kind):
    prior = small.prior() if kind == "unet" else dit_prior()
    network, made, seen = prior.denoiser.network, [], []
    middle = network.mid_block if kind == "unet" else network.transformer_blocks[1]
    x, c = torch.randn(3, 2, 4, 4, requires_grad=True), prior.condition(LABELS)
    hook = middle.register_forward_hook(lambda *a: made.append(a[-1]))
    with torch.no_grad():
        prior.denoiser(x, prior.timesteps[prior.schedule.timesteps[1]], c)
    hook.remove()
    last = network.conv_out if kind == "unet" else network.proj_out_2
    last.register_forward_hook(lambda *a: seen.append(a))
    features = prior.features(x, 1, c)
    assert features.equal(made[0]) and len(features) == 3 and features.ndim in (3, 4)
    assert not seen  # what comes after the middle is not computed
    [gradient] = torch.autograd.grad(features.square().sum(), x)
    assert gradient.abs().sum() > 0
    unlabelled = prior.features(x, 1, None)
    assert unlabelled.equal(prior.features(x, 1, prior.denoiser.null.expand_as(c)))


def test_features_of_an_unknown_middle_are_refused():
    prior = small.prior()
    network, x = prior.denoiser.network, torch.zeros(1, 2, 4, 4)
    network._compiled_call_impl = object()  # as `network.compile` leaves it
    with pytest.raises(InputError, match=r"not compiled; set prior.compile=false"):
        prior.features(x, 0, None)
    prior.denoiser.network = torch.nn.Identity()
    with pytest.raises(InputError, match="this Identity has none; take another prior"):
        prior.features(x, 0, None)
