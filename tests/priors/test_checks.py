"""Priors away from the resolution that they were made for, and autoencoders of others."""

import json

import pytest
import torch
from diffusers import AutoencoderTiny

from latentdc.draws import global_draws
from latentdc.errors import InputError
from tests.priors import small


def tiny(channels: int = 2, halvings: int = 1) -> AutoencoderTiny:
    """As madebyollin/taesd is."""
    widths = (8,) * (halvings + 1)
    with global_draws(0, "tiny"):
        return AutoencoderTiny(
            latent_channels=channels,
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=(1,) * len(widths),
            num_decoder_blocks=(1,) * len(widths),
        )


def load(folder, resolution=8, **options):
    return small.load(folder, resolution=resolution, **options)


@pytest.mark.parametrize("value", [-1, {"a": 1}, "wide", []])
@pytest.mark.parametrize("key", ["block_out_channels", "in_channels"])
def test_sizes_that_are_none_end_in_one_line(tmp_path, key, value):
    small.save(tmp_path)
    path = tmp_path / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_unet_warns_away_from_its_sample_size(tmp_path, capsys):
    small.save(tmp_path)
    load(tmp_path)
    assert "warning" not in capsys.readouterr().err
    prior = load(tmp_path, resolution=16, steps=2)
    assert "made for images of 8 pixels and runs at 16" in capsys.readouterr().err
    z = prior.encode(torch.zeros(1, 3, 16, 16))
    images = prior.decode(z, prior.condition(torch.tensor([0])), torch.zeros_like(z))
    assert images.shape == (1, 3, 16, 16)


def test_latents_that_a_unet_cannot_halve_are_refused(tmp_path):
    small.save(tmp_path)
    with pytest.raises(InputError, match=r"steps of 4 pixels, got data\.resolution=10"):
        load(tmp_path, resolution=10)


def test_a_tiny_autoencoders_latents_are_in_the_units_of_the_unet(tmp_path):
    small.save(tmp_path / "prior")
    model = tiny()
    model.save_pretrained(tmp_path / "tiny")
    prior = load(tmp_path / "prior", autoencoder=str(tmp_path / "tiny"), steps=2)
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        z = model.encode(images).latents
        decoded = model.decode(z).sample.clamp(-1, 1)
    torch.testing.assert_close(prior.encode(images), z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prior.autoencoder.decode(z), decoded, rtol=1e-4, atol=1e-4)
    noise, c = torch.randn_like(z), prior.condition(torch.tensor([0, 1]))
    denoised = load(tmp_path / "prior", steps=2).denoise(z, c, noise)
    wanted = prior.autoencoder.decode(denoised)
    torch.testing.assert_close(prior.decode(z, c, noise), wanted, rtol=1e-4, atol=1e-4)


def test_an_autoencoder_with_other_channels_is_refused(tmp_path):
    small.save(tmp_path / "prior")
    tiny(channels=4).save_pretrained(tmp_path / "tiny")
    with pytest.raises(InputError, match="takes 2 channels and predicts 2, of latents of 4"):
        load(tmp_path / "prior", autoencoder=str(tmp_path / "tiny"))


def test_an_autoencoder_that_halves_more_often_warns_of_the_size(tmp_path, capsys):
    small.save(tmp_path / "prior")
    tiny(halvings=2).save_pretrained(tmp_path / "tiny")
    prior = load(tmp_path / "prior", autoencoder=str(tmp_path / "tiny"))
    assert prior.latent_shape == (2, 2, 2)
    assert "made for images of 16 pixels and runs at 8" in capsys.readouterr().err


def test_weights_that_lack_a_tensor_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    small.save(tmp_path)
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_out.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"its weights lack 1 tensors \(conv_out\.bias\)"):
        load(tmp_path)
