import json

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, HeunDiscreteScheduler, PNDMScheduler

from latentdc.draws import global_draws
from latentdc.errors import InputError
from latentdc.priors.classes import match_classes
from latentdc.priors.loading import load_prior
from tests.priors import small


@pytest.mark.smoke
def test_a_folder_in_diffusers_layout_loads_and_decodes(tmp_path):
    small.save(tmp_path)
    prior = load_prior("diffusion", str(tmp_path), resolution=8, steps=2)
    z = prior.encode(torch.zeros(2, 3, 8, 8))
    images = prior.decode(z, prior.condition(torch.tensor([0, 1])), torch.zeros_like(z))
    assert images.shape == (2, 3, 8, 8) and prior.class_names == small.CLASSES
    assert all(not p.requires_grad for p in prior.denoiser.unet.parameters())
    assert prior.denoiser.unet.dtype == torch.float32


def test_the_identity_follows_the_weights(tmp_path):
    small.save(tmp_path / "a")
    small.save(tmp_path / "b")
    names = [load_prior("diffusion", str(tmp_path / x), resolution=8).identity for x in "ab"]
    assert names[0] == names[1]
    small.unet(seed=1).half().save_pretrained(tmp_path / "b/unet")
    assert load_prior("diffusion", str(tmp_path / "b"), resolution=8).identity != names[0]


def test_a_dit_folder_loads_with_its_class_names(tmp_path):
    small.autoencoder().save_pretrained(tmp_path / "vae")
    small.dit().save_pretrained(tmp_path / "transformer")
    small.build_scheduler().save_pretrained(tmp_path / "scheduler")
    names = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    (tmp_path / "model_index.json").write_text(json.dumps(names))
    prior = load_prior("diffusion", str(tmp_path), resolution=8, steps=2)
    assert prior.class_names == ("a", "b", "c")
    assert match_classes(("c", "a"), prior).tolist() == [2, 0]


def test_classes_that_the_prior_does_not_know_are_named(tmp_path):
    small.save(tmp_path)
    prior = load_prior("diffusion", str(tmp_path), resolution=8)
    with pytest.raises(InputError, match=r"not \['nine'\] of the data set"):
        match_classes(("one", "nine"), prior)


def test_a_resolution_that_the_latents_cannot_have_is_refused(tmp_path):
    small.save(tmp_path)
    with pytest.raises(InputError, match="steps of 2 pixels"):
        load_prior("diffusion", str(tmp_path), resolution=9)


@pytest.mark.parametrize("part", ["unet", "class_embedding", "vae"])
def test_a_missing_part_is_named(tmp_path, part):
    small.save(tmp_path)
    (tmp_path / part / "config.json").unlink()
    with pytest.raises(InputError, match=part):
        load_prior("diffusion", str(tmp_path), resolution=8)


@pytest.mark.parametrize("content", ["{", "[]", "\N{SNOWMAN}"])
@pytest.mark.parametrize(
    "name", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"]
)
def test_a_config_that_is_cut_off_or_something_else_is_named(tmp_path, name, content):
    small.save(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"the prior's .*{name}"):
        load_prior("diffusion", str(tmp_path), resolution=8)


def test_a_missing_schedule_is_named(tmp_path):
    small.save(tmp_path)
    (tmp_path / "scheduler/scheduler_config.json").unlink()
    (tmp_path / "scheduler").rmdir()
    with pytest.raises(InputError, match=r"lacks scheduler/scheduler_config\.json"):
        load_prior("diffusion", str(tmp_path), resolution=8)


def write_schedule(folder, **values):
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "DDPMScheduler", **values}))


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("sigmoid", DDPMScheduler),
        ("laplace", DDPMScheduler),
        ("squaredcos_cap_v2", DDPMScheduler),
        ("linear", PNDMScheduler),
        ("exp", HeunDiscreteScheduler),
    ],
)
def test_the_betas_are_those_of_diffusers_own_scheduler(tmp_path, kind, own):
    small.save(tmp_path)
    values = {"beta_schedule": kind, "beta_start": 0.0005, "beta_end": 0.03}
    values |= {"num_train_timesteps": 400}
    write_schedule(tmp_path, **values)
    prior = load_prior("diffusion", str(tmp_path), resolution=8, steps=7)
    cumulated = own(**values).alphas_cumprod
    wanted = [float(cumulated[t]) for t in prior.schedule.timesteps]
    assert prior.schedule.alphas == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"beta_schedule": "cosine_v9"},
        {"beta_schedule": ["linear"]},
        {"num_train_timesteps": "many"},
        {"num_train_timesteps": 0},
        {"beta_start": "small"},
        {"trained_betas": "abc"},
        {"trained_betas": [0.1, "b"]},
        {"timestep_spacing": "sparse"},
        {"trained_betas": []},
        {"steps_offset": None},
    ],
)
def test_a_schedule_of_nonsense_is_one_line(tmp_path, values):
    small.save(tmp_path)
    write_schedule(tmp_path, **{"beta_start": 0.0005, "beta_end": 0.03, **values})
    with pytest.raises(InputError, match=r"scheduler_config\.json has no schedule") as error:
        load_prior("diffusion", str(tmp_path), resolution=8, steps=2)
    assert "\n" not in str(error.value)


def grey(channels=1, **more):
    with global_draws(0, "grey"):
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=2,
            norm_num_groups=4,
            sample_size=8,
            **more,
        )


def test_an_autoencoder_of_grey_images_sees_and_decodes_grey(tmp_path):
    own = grey(scaling_factor=1.0).eval()
    own.save_pretrained(tmp_path)
    prior = load_prior("autoencoder", str(tmp_path), resolution=8)
    shades = torch.rand(2, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        wanted = own.encode(shades).latent_dist.mode()
        torch.testing.assert_close(prior.encode(shades.expand(-1, 3, -1, -1)), wanted)
        decoded = own.decode(wanted).sample.clamp(-1, 1)
    z = wanted.clone().requires_grad_()
    images = prior.decode(z, None, None)
    assert images.shape == (2, 3, 8, 8)
    torch.testing.assert_close(images, decoded.expand(-1, 3, -1, -1))
    images.square().sum().backward()
    assert z.grad.abs().sum() > 0
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            prior.encode(red), own.encode(torch.full((1, 1, 8, 8), -0.402)).latent_dist.mode()
        )


def test_an_autoencoder_of_other_channels_is_refused(tmp_path):
    grey(4).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is of images with 4 channels; latentdc has images of 3"):
        load_prior("autoencoder", str(tmp_path), resolution=8)


def test_a_checkpoint_in_place_of_a_folder_says_how_to_convert_it(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"is a file, .*`latentdc convert-prior`"):
        load_prior("diffusion", str(tmp_path / "model.ckpt"), resolution=8)


@pytest.mark.smoke
def test_missing_weights_say_what_to_download(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match="hf download someone/prior"):
        load_prior("diffusion", "someone/prior", resolution=8)


def test_an_unknown_shipped_name_lists_what_is_shipped():
    with pytest.raises(InputError, match="latentdc ships"):
        load_prior("diffusion", "digitz", resolution=16)
