import json
import re
import shutil

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
)
from safetensors.torch import load_file, save_file

from latentdc.draws import global_draws
from latentdc.errors import InputError
from latentdc.priors import load_latent as loading
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.classes import match_classes
from latentdc.priors.load_latent import tune
from latentdc.priors.memory import Plan
from latentdc.priors.small import build_scheduler
from tests.priors import small


@pytest.mark.smoke
def test_a_folder_in_diffusers_layout_loads_and_decodes(tmp_path):
    small.save(tmp_path)
    prior = small.load(tmp_path, steps=2)
    z = prior.encode(torch.zeros(2, 3, 8, 8))
    images = prior.decode(z, prior.condition(torch.tensor([0, 1])), torch.zeros_like(z))
    assert images.shape == (2, 3, 8, 8) and prior.class_names == small.CLASSES
    assert all(not p.requires_grad for p in prior.denoiser.network.parameters())
    assert prior.denoiser.network.dtype == torch.float32


def test_the_identity_follows_the_weights(tmp_path):
    small.save(tmp_path / "a")
    small.save(tmp_path / "b")
    names = [small.load(tmp_path / x).identity for x in "ab"]
    assert names[0] == names[1]
    small.unet(seed=1).half().save_pretrained(tmp_path / "b/unet")
    assert small.load(tmp_path / "b").identity != names[0]


def test_a_dit_folder_loads_with_its_class_names(tmp_path):
    small.autoencoder().save_pretrained(tmp_path / "vae")
    small.dit().save_pretrained(tmp_path / "transformer")
    small.build_scheduler().save_pretrained(tmp_path / "scheduler")
    names = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    (tmp_path / "model_index.json").write_text(json.dumps(names))
    prior = small.load(tmp_path, steps=2)
    assert prior.class_names == ("a", "b", "c")
    assert match_classes(("c", "a"), prior).tolist() == [2, 0]


def test_classes_that_the_prior_does_not_know_are_named(tmp_path):
    small.save(tmp_path)
    prior = small.load(tmp_path)
    with pytest.raises(InputError, match=r"not \['nine'\] of the data set"):
        match_classes(("one", "nine"), prior)


def test_a_resolution_that_the_latents_cannot_have_is_refused(tmp_path):
    small.save(tmp_path)
    with pytest.raises(InputError, match="steps of 2 pixels"):
        small.load(tmp_path, resolution=9)


@pytest.mark.parametrize("part", ["unet", "class_embedding", "vae"])
def test_a_missing_part_is_named(tmp_path, part):
    small.save(tmp_path)
    (tmp_path / part / "config.json").unlink()
    with pytest.raises(InputError, match=part):
        small.load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "\N{SNOWMAN}"])
@pytest.mark.parametrize(
    "name", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"]
)
def test_a_config_that_is_cut_off_or_something_else_is_named(tmp_path, name, content):
    small.save(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"the prior's .*{name}"):
        small.load(tmp_path)


def test_a_missing_schedule_is_named(tmp_path):
    small.save(tmp_path)
    (tmp_path / "scheduler/scheduler_config.json").unlink()
    (tmp_path / "scheduler").rmdir()
    with pytest.raises(InputError, match=r"lacks scheduler/scheduler_config\.json"):
        small.load(tmp_path)


def write_schedule(folder, **values):
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "DDPMScheduler"} | values))


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
    write_schedule(tmp_path, _class_name=own.__name__, **values)
    prior = small.load(tmp_path, steps=7)
    cumulated = own(**values).alphas_cumprod
    wanted = [float(cumulated[t]) for t in prior.schedule.timesteps]
    assert prior.schedule.alphas == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"beta_schedule": "cosine_v9"},
        {"num_train_timesteps": "many"},
        {"num_train_timesteps": 0},
        {"trained_betas": "abc"},
        {"timestep_spacing": "sparse"},
        {"trained_betas": []},
        {"steps_offset": -1},
        {"num_train_timesteps": 10**9},
        {"beta_start": float("nan")},
        {"beta_start": 1.5},
        {"beta_start": 0, "beta_end": 0},
        {"trained_betas": [0.01] * 50},
        {"trained_betas": [0.0] * 1000},
        {"trained_betas": [-0.1] * 1000},
    ],
)
def test_a_schedule_of_nonsense_is_one_line(tmp_path, values):
    small.save(tmp_path)
    write_schedule(tmp_path, **{"beta_start": 0.0005, "beta_end": 0.03, **values})
    with pytest.raises(InputError, match=r"scheduler_config\.json has no schedule") as error:
        small.load(tmp_path, steps=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("own", "left_out"),
    [
        (HeunDiscreteScheduler, ("beta_end",)),
        (HeunDiscreteScheduler, ("beta_start", "beta_end", "beta_schedule")),
        (LCMScheduler, ("beta_schedule",)),
        (DDPMScheduler, ("beta_schedule", "num_train_timesteps")),
    ],
)
def test_what_a_config_leaves_out_is_what_its_own_scheduler_takes(tmp_path, own, left_out):
    small.save(tmp_path)
    values = {"beta_start": 0.0005, "beta_end": 0.03, "beta_schedule": "scaled_linear"}
    values = {key: value for key, value in values.items() if key not in left_out}
    write_schedule(tmp_path, **{"_class_name": own.__name__, **values})
    prior = small.load(tmp_path, steps=7)
    cumulated = own(**values).alphas_cumprod
    wanted = [float(cumulated[t]) for t in prior.schedule.timesteps]
    assert prior.schedule.alphas == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("end", [{}, {"set_alpha_to_one": True}, {"rescale_betas_zero_snr": True}])
def test_a_schedule_is_walked_as_diffusers_walks_it(tmp_path, spacing, end):
    small.save(tmp_path)
    changed = {"timestep_spacing": spacing, "prediction_type": "v_prediction", **end}
    config = {**build_scheduler().config, **changed}
    del config["_use_default_values"]  # keys that diffusers would pass over
    write_schedule(tmp_path, **config)
    options = {"resolution": 8, "steps": 7, "guidance": 1, "skip": "none"}
    prior = small.load(tmp_path, **options)
    draws = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(2, 2, 4, 4, generator=draws) for _ in range(2))
    c = prior.condition(torch.tensor([0, 2]))
    scheduler = DDIMScheduler.from_config(config, clip_sample=False)
    scheduler.set_timesteps(7)
    with torch.no_grad():
        x = scheduler.add_noise(z, noise, scheduler.timesteps[:1])
        for t in scheduler.timesteps:
            x = scheduler.step(prior.denoiser(x, t, c), t, x).prev_sample
        made = prior.denoise(z, c, noise)
    torch.testing.assert_close(made, x, rtol=1e-4, atol=1e-4)


def test_weights_that_are_no_numbers_are_told_when_they_are_loaded(tmp_path):
    small.save(tmp_path)
    broken = small.unet()
    broken.conv_in.bias.data[0] = float("nan")
    broken.save_pretrained(tmp_path / "unet")
    with pytest.raises(InputError, match=r"denoiser of .* not finite .* fetch them again"):
        small.load(tmp_path)
    broken = small.autoencoder()
    broken.decoder.conv_out.bias.data[0] = float("nan")
    broken.save_pretrained(tmp_path / "vae")
    with pytest.raises(InputError, match=r"autoencoder of .* not finite .* fetch them again"):
        small.load(tmp_path, "autoencoder")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_quantised_weights_are_refused_and_not_taken_for_floats(tmp_path, ending):
    small.save(tmp_path)
    stem = tmp_path / "unet" / "diffusion_pytorch_model"
    state = load_file(f"{stem}.safetensors")
    state["conv_in.weight"] = (state["conv_in.weight"] * 127).to(torch.int8)
    if ending == "safetensors":
        save_file(state, f"{stem}.safetensors")
    else:
        stem.with_suffix(".safetensors").unlink()
        torch.save(state, f"{stem}.bin")
    with pytest.raises(InputError, match=rf"conv_in\.weight in .*\.{ending} is not of floats"):
        small.load(tmp_path)


def test_what_is_wrong_with_pickled_weights_is_told_before_their_types(tmp_path):
    small.save(tmp_path)
    stem = tmp_path / "unet" / "diffusion_pytorch_model"
    state = load_file(f"{stem}.safetensors")
    stem.with_suffix(".safetensors").unlink()
    for given, told in (
        ({"state_dict": state}, "its weights lack"),
        (state | {"epoch": 3}, "has no place for"),
        (state | {"steps": torch.tensor(3)}, "has no place for"),
    ):
        torch.save(given, f"{stem}.bin")
        with pytest.raises(InputError, match=told):
            small.load(tmp_path)


def test_channels_that_have_a_mean_and_a_deviation_are_encoded_in_these_units(tmp_path):
    own = grey(3, scaling_factor=0.5, latents_mean=[0.1, -2.0], latents_std=[2.0, 5.0]).eval()
    own.save_pretrained(tmp_path)
    prior = small.load(tmp_path, "autoencoder")
    images = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    mean, std = torch.tensor([0.1, -2.0]).view(2, 1, 1), torch.tensor([2.0, 5.0]).view(2, 1, 1)
    with torch.no_grad():
        raw = own.encode(images).latent_dist.mode()
        decoded = own.decode(raw).sample.clamp(-1, 1)
    z = prior.encode(images)
    torch.testing.assert_close(z, (raw - mean) * 0.5 / std)  # as SDXL's pipelines have it
    torch.testing.assert_close(prior.decode(z, None, None), decoded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "values",
    [
        {"scaling_factor": 0},
        {"scaling_factor": float("nan")},
        {"scaling_factor": "half"},
        {"shift_factor": [0.1]},
        {"latents_mean": [0.1, 0.2, 0.3], "latents_std": [1.0, 1.0, 1.0]},
        {"latents_mean": [0.1, 0.2], "latents_std": [1.0, 0.0]},
        {"latents_mean": "a", "latents_std": "b"},
    ],
)
def test_units_of_latents_that_are_no_numbers_are_refused(tmp_path, values):
    grey(3).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(InputError, match=r"autoencoder's config has .* finite numbers"):
        small.load(tmp_path, "autoencoder")


@pytest.mark.parametrize("name", ["time_embedding.cond_proj.weight", "conv_in.weight_scale"])
def test_tensors_that_the_config_has_no_place_for_are_refused(tmp_path, name):
    """Of a network that knows more than its config says, or of one in eight bits."""
    small.save(tmp_path)
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file(load_file(path) | {name: torch.ones(8, 8)}, path)
    with pytest.raises(InputError, match=rf"have 1 tensors \({name}\) that its config.json has no"):
        small.load(tmp_path)


def test_weights_of_the_old_attention_layers_of_autoencoders_are_read(tmp_path):
    own = grey(3, mid_block_add_attention=True).eval()
    own.save_pretrained(tmp_path)
    before = small.load(tmp_path, "autoencoder")
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    assert any("proj_attn" in key for key in tensors)
    save_file(tensors, path)
    after = small.load(tmp_path, "autoencoder")
    z = torch.ones(1, 2, 4, 4)
    assert after.decode(z).equal(before.decode(z))


@pytest.mark.parametrize("names", ["abc", [1, 2, 3]])
def test_names_in_a_config_are_texts(tmp_path, names):
    small.save(tmp_path)
    path = tmp_path / "class_embedding" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": names}))
    with pytest.raises(InputError, match=re.escape(f"class_names={names!r} in its config")):
        small.load(tmp_path)


def test_a_prior_of_pixels_is_told_apart(tmp_path):
    small.save(tmp_path)
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(InputError, match=r"no autoencoder: .* One that denoises pixels has none"):
        small.load(tmp_path)


def test_a_damaged_file_of_weights_is_named_where_it_lies(tmp_path):
    small.save(tmp_path)
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model\.safetensors'") as error:
        small.load(tmp_path)
    assert "latentdc-weights" not in str(error.value)


def test_an_autoencoder_that_makes_images_of_another_size_is_refused(tmp_path):
    with global_draws(0, "tiny"):
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1, 1),
            latent_channels=2,
        ).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"images of 4 pixels and makes \(8, 8\) of them"):
        small.load(tmp_path, "autoencoder")


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
    prior = small.load(tmp_path, "autoencoder")
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
        small.load(tmp_path, "autoencoder")


def test_a_checkpoint_in_place_of_a_folder_says_how_to_convert_it(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"is a file, .*`latentdc convert-prior`"):
        small.load(tmp_path / "model.ckpt")


@pytest.mark.smoke
def test_missing_weights_say_what_to_download(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match="hf download someone/prior"):
        small.load("someone/prior")


def test_an_unknown_shipped_name_lists_what_is_shipped():
    with pytest.raises(InputError, match="latentdc ships"):
        small.load("digitz", resolution=16)


CPU = torch.device("cpu")


def test_channels_last_changes_the_layout_and_not_the_images():
    prior, z = small.prior(steps=2), torch.randn(2, 2, 4, 4)
    c, noise = prior.condition(torch.arange(2)), torch.randn(2, 2, 4, 4)
    wanted = prior.decode(z, c, noise)
    networks = [prior.denoiser.network, prior.autoencoder.autoencoder.decoder]
    for network in networks:
        tune(network, small.settings(channels_last=True), CPU, "no")
    weight = networks[0].conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(prior.decode(z, c, noise), wanted, rtol=1e-4, atol=1e-5)


def test_compiling_without_a_compiler_is_one_clear_line(monkeypatch):
    def broken(function):
        def call(x):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

        return call

    monkeypatch.setattr(loading.torch, "compile", broken)
    with pytest.raises(InputError, match=r"not work on this machine's cpu \(InvalidCxx.*leave p"):
        tune(torch.nn.Identity(), small.settings(compile=True), CPU, "no")


def test_loading_tunes_denoiser_and_decoder_alike(tmp_path, monkeypatch):
    small.save(tmp_path)
    asked = []
    monkeypatch.setattr(loading, "_require_compiler", lambda device: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **k: asked.append(type(self)))
    prior = small.load(tmp_path, steps=2, precision="bf16", compile=True)
    assert [kind.__name__ for kind in asked] == ["Decoder", "UNet2DConditionModel"]
    assert prior.precision == prior.autoencoder.precision == "bf16"
    assert prior.denoiser.network.conv_in.weight.dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_decoder_gives_the_same_gradients():
    z = torch.randn(2, 2, 4, 4).requires_grad_()
    found = []
    for compile in (False, True):
        prior = AutoencoderPrior(small.autoencoder(), resolution=8, plan=Plan("low", 2))
        tune(prior.autoencoder.decoder, small.settings(compile=compile), CPU, "no")
        images = prior.decode(z)
        found.append((images, *torch.autograd.grad(images.square().sum(), z)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
