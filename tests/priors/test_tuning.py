import shutil

import pytest
import torch

from latentdc.errors import InputError
from latentdc.priors import load as loading
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.load import tune
from latentdc.priors.memory import Plan
from tests.priors import small

CPU = torch.device("cpu")
PLAIN = {"precision": "no", "channels_last": False, "compile": False}


def test_channels_last_changes_the_layout_and_not_the_images():
    prior, z = small.prior(steps=2), torch.randn(2, 2, 4, 4)
    c, noise = prior.condition(torch.arange(2)), torch.randn(2, 2, 4, 4)
    wanted = prior.decode(z, c, noise)
    networks = [prior.denoiser.network, prior.autoencoder.autoencoder.decoder]
    tune(networks, CPU, **PLAIN | {"channels_last": True})
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
        tune([], CPU, **PLAIN | {"compile": True})


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
        tune([prior.autoencoder.decoder], CPU, **PLAIN | {"compile": compile})
        images = prior.decode(z)
        found.append((images, *torch.autograd.grad(images.square().sum(), z)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
