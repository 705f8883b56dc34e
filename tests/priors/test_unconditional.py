"""Priors of a UNet2DModel, without classes or with them, and denoisers that were never trained."""

import json

import pytest
import torch
from diffusers import UNet2DModel

from latentdc.draws import generator, global_draws
from latentdc.errors import InputError
from latentdc.priors.diffusion import DiffusionPrior
from tests.priors import small


def unet(channels: int = 2, **more: object) -> UNet2DModel:
    with global_draws(0, "unconditional"):
        return UNet2DModel(
            sample_size=4,
            in_channels=2,
            out_channels=channels,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=8,
            norm_num_groups=4,
            **more,
        )


@pytest.fixture
def folder(tmp_path):
    """As `latentdc convert-prior` leaves a model such as FFHQ's."""
    small.autoencoder().save_pretrained(tmp_path / "vae")
    unet().save_pretrained(tmp_path / "unet")
    small.build_scheduler().save_pretrained(tmp_path / "scheduler")
    return tmp_path


def load(folder, **options) -> DiffusionPrior:
    prior = small.load(folder, steps=3, guidance=1, **options)
    assert isinstance(prior, DiffusionPrior)
    return prior


def draw(seed: int) -> torch.Tensor:
    return torch.randn(3, 2, 4, 4, generator=generator(seed, "z"))


@pytest.mark.smoke
@pytest.mark.parametrize("memory", ["fast", "low"])
def test_a_prior_without_classes_decodes_z_alone(folder, memory):
    prior = load(folder, memory=memory, chunk=2)
    assert prior.class_names is None and prior.condition(torch.tensor([0, 4])) is None
    z, noise = draw(0).requires_grad_(), draw(1)
    images = prior.decode(z, None, noise)
    images.square().sum().backward()
    assert images.shape == (3, 3, 8, 8) and z.grad is not None and z.grad.isfinite().all()

    alphas, before = prior.schedule.alphas, prior.schedule.previous
    x = alphas[0] ** 0.5 * z + (1 - alphas[0]) ** 0.5 * noise
    for index, t in enumerate(prior.schedule.timesteps):
        noise_in_x = unet().eval()(x, t).sample
        x0 = (x - (1 - alphas[index]) ** 0.5 * noise_in_x) / alphas[index] ** 0.5
        x0 = (index * x0 + (2 - index) * z) / 2
        x = before[index] ** 0.5 * x0 + (1 - before[index]) ** 0.5 * noise_in_x
    torch.testing.assert_close(images, prior.autoencoder.decode(x), rtol=1e-4, atol=1e-5)


def test_guidance_on_an_unconditional_prior_is_refused_before_its_weights_are_read(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"guidance on an unconditional prior: .* prior.guidance=1"
    ):
        small.load(folder, guidance=3.0)


def test_a_random_denoiser_follows_from_the_seed_and_keeps_the_autoencoder(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()  # not even looked at
    first, again, other = (load(folder, denoiser="random", seed=seed) for seed in (0, 0, 1))
    z, noise = draw(0), draw(1)
    images = [prior.decode(z, None, noise) for prior in (first, again, other)]
    assert images[0].equal(images[1]) and not images[0].allclose(images[2])
    for key, tensor in small.autoencoder().state_dict().items():
        assert first.autoencoder.autoencoder.state_dict()[key].equal(tensor)
    names = {
        first.identity,
        other.identity,
        small.load(folder, "autoencoder").identity,
    }
    assert len(names) == 3 and first.identity == again.identity


def test_the_network_of_a_class_conditional_prior_can_be_random_too(tmp_path):
    small.save(tmp_path)
    c = torch.randn(3, 1, 6, generator=generator(0, "c"))
    trained, random = (load(tmp_path, denoiser=which) for which in ("pretrained", "random"))
    assert trained.condition(torch.tensor([1])).equal(random.condition(torch.tensor([1])))
    images = [prior.decode(draw(0), c, draw(1)) for prior in (trained, random)]
    assert not images[0].allclose(images[1])


def test_a_last_layer_of_zeros_makes_an_untrained_denoiser_the_autoencoder(folder):
    """Which is how CompVis' own networks start, and so what the paper's random row is."""
    silent = unet()
    torch.nn.init.zeros_(silent.conv_out.weight)
    torch.nn.init.zeros_(silent.conv_out.bias)
    silent.save_pretrained(folder / "unet")
    prior, z = load(folder), draw(0)
    scaled = z * prior.schedule.previous[-1] ** 0.5
    images = prior.decode(z, None, draw(1))
    torch.testing.assert_close(images, prior.autoencoder.decode(scaled), rtol=1e-5, atol=1e-6)


NAMES = {"id2label": {"0": "a", "1": "b", "2": "c"}}


def with_classes(folder, rows: int, names: object = NAMES) -> UNet2DModel:
    network = unet(num_class_embeds=rows)
    network.save_pretrained(folder / "unet")
    (folder / "model_index.json").write_text(json.dumps(names))
    return network.eval()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_class_conditional_unet_decodes_as_diffusers_own_call_does(folder, guidance):
    network = with_classes(folder, rows=4)
    prior = small.load(folder, steps=3, guidance=guidance)
    assert prior.class_names == ("a", "b", "c")
    z, noise, labels = draw(0), draw(1), torch.tensor([0, 2, 1])
    c = prior.condition(labels).detach().requires_grad_()
    assert c.shape == (3, 1, 32)
    images = prior.decode(z, c, noise)
    images.square().sum().backward()
    assert (c.grad.abs().sum(dim=(1, 2)) > 0).all()

    alphas, before = prior.schedule.alphas, prior.schedule.previous
    x = alphas[0] ** 0.5 * z + (1 - alphas[0]) ** 0.5 * noise
    for index, t in enumerate(prior.schedule.timesteps):
        with torch.no_grad():
            e = network(x, t, class_labels=labels).sample
            if guidance != 1:
                null = network(x, t, class_labels=torch.full((3,), 3)).sample
                e = null + guidance * (e - null)
        x0 = (x - (1 - alphas[index]) ** 0.5 * e) / alphas[index] ** 0.5
        x0 = (index * x0 + (2 - index) * z) / 2
        x = before[index] ** 0.5 * x0 + (1 - before[index]) ** 0.5 * e
    torch.testing.assert_close(images, prior.autoencoder.decode(x), rtol=1e-4, atol=1e-4)


def test_classes_without_a_null_one_are_not_guided(folder):
    with_classes(folder, rows=3)
    with pytest.raises(InputError, match=r"all 3 rows .* got prior.guidance=3; set prior.guid"):
        small.load(folder)
    prior = load(folder)
    images = prior.decode(draw(0), prior.condition(torch.tensor([0, 1, 2])), draw(1))
    assert images.isfinite().all()
    assert load(folder, device="meta").condition(torch.zeros(2, dtype=torch.long)).shape[1:] == (
        1,
        32,
    )


@pytest.mark.parametrize(
    ("rows", "names"),
    [(3, {}), (5, NAMES), (2, NAMES), (4, {"id2label": ["a", "b", "c"]}), (4, {"id2label": 3})],
)
def test_classes_without_names_are_refused(folder, rows, names):
    with_classes(folder, rows, names)
    with pytest.raises(InputError, match=rf"has {rows} class embeddings .* \"id2label\": "):
        load(folder)


def test_a_learned_sigma_is_left_out(folder):
    network = unet(channels=4)
    network.save_pretrained(folder / "unet")
    prior, z, noise = load(folder), draw(0), draw(1)
    other = unet()
    other.load_state_dict(
        network.state_dict()
        | {f"conv_out.{key}": value[:2] for key, value in network.conv_out.state_dict().items()}
    )
    other.save_pretrained(folder / "unet")
    wanted = load(folder).decode(z, None, noise)
    torch.testing.assert_close(prior.decode(z, None, noise), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type=fourier: it divides its input"),
        (
            {"time_embedding_type": "learned", "num_train_timesteps": 100},
            "does not run as its config says: IndexError",
        ),
        ({"class_embed_type": "timestep"}, "class_embed_type=timestep"),
    ],
)
def test_a_unet_that_cannot_be_called_with_timesteps_is_refused(folder, rows, values, told):
    unet(**values).save_pretrained(folder / "unet")
    if rows:
        unet(num_class_embeds=rows, **values).save_pretrained(folder / "unet")
        (folder / "model_index.json").write_text(json.dumps(NAMES))
    with pytest.raises(InputError, match=told) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_the_gradient_of_a_class_condition_is_that_of_finite_differences(folder):
    with_classes(folder, rows=4)
    prior = small.load(folder, steps=3, guidance=3.0)
    prior.denoiser.network.double()
    prior.denoiser.null = prior.denoiser.null.double()
    prior.autoencoder.autoencoder.double()
    z, noise = draw(0).double(), draw(1).double()
    c = prior.condition(torch.tensor([0, 2, 1])).detach().double().requires_grad_()
    direction = torch.randn(c.shape, generator=generator(0, "way"), dtype=torch.float64)

    def loss(c):
        return prior.decode(z, c, noise).square().mean()

    (gradient,) = torch.autograd.grad(loss(c), c)
    with torch.no_grad():
        step = 1e-5 * direction
        difference = (loss(c + step) - loss(c - step)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-6, atol=1e-12)
