import json

import pytest
import torch
import yaml
from torch import nn

from latentdc.errors import InputError, RunError
from latentdc.priors import training
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.small import (
    autoencoder_loss,
    build_autoencoder,
    build_scheduler,
    build_unet,
    denoising_loss,
)
from latentdc.priors.train import main
from latentdc.priors.training import prior_card, reconstruction_psnr, train_network
from latentdc.recipe import Data
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, UNetTraining
from tests.priors import small

TINY = [
    "threads=1",
    "autoencoder.channels=[16,16]",
    "autoencoder.batch=8",
    "unet.channels=[16,16]",
    "unet.heads=8",
    "unet.condition=8",
    "unet.batch=8",
    "checkpoint_every=2",
]


def test_the_autoencoder_loss_is_its_formula():
    vae = small.autoencoder().eval()
    images, noise = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 2, 4, 4)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
        error = vae.decode(posterior.mean + posterior.std * noise).sample - images
        loss = autoencoder_loss(vae, images, noise, kl=0.1, edges=0.5)
    edges = (error[..., 1:] - error[..., :-1]).abs().mean()
    edges = edges + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    kl = posterior.kl().mean() / (2 * 4 * 4)  # diffusers sums over the elements of a latent
    torch.testing.assert_close(loss, error.abs().mean() + 0.5 * edges + 0.1 * kl)


def test_the_denoising_loss_is_the_error_of_the_predicted_noise():
    unet, embedding, scheduler = small.unet().eval(), small.embedding(), build_scheduler()
    latents, noise = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    labels, timesteps = torch.tensor([0, 3]), torch.tensor([10, 900])
    abar = scheduler.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
    with torch.no_grad():
        predicted = unet(noisy, timesteps, encoder_hidden_states=embedding(labels)).sample
        loss = denoising_loss(unet, embedding, scheduler, latents, labels, noise, timesteps)
    torch.testing.assert_close(loss, (predicted - noise).square().mean())


def test_psnr_of_a_known_error():
    class Shifted(AutoencoderPrior):
        def __init__(self):
            self.autoencoder = small.autoencoder()

        def encode(self, images):
            return images

        def decode(self, z, c=None, noise=None):
            return z + 10 / 127.5

    images = torch.full((3, 3, 8, 8), 100, dtype=torch.uint8)
    expected = 20 * torch.log10(torch.tensor(255 / 10))
    assert reconstruction_psnr(Shifted(), images) == pytest.approx(float(expected), abs=1e-4)


SETTINGS = AutoencoderTraining(steps=6, lr=0.1, ema=0.9)


def trained(path, *, stop=None):
    """A linear layer after its training, or none where that was stopped at a step."""
    torch.manual_seed(0)
    network = nn.Linear(4, 2)

    def loss(step):
        if step == stop:
            raise KeyboardInterrupt
        return network(torch.full((1, 4), 0.1 * step)).square().sum()

    train_network(network, loss, SETTINGS, path, every=2, title="test")
    return network.weight.detach()


def test_a_continued_training_ends_bitwise_as_an_uninterrupted_one(tmp_path):
    whole = trained(tmp_path / "a.safetensors")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b.safetensors", stop=4)
    assert torch.equal(whole, trained(tmp_path / "b.safetensors", stop=3))  # it is not run again
    assert torch.equal(whole, trained(tmp_path / "b.safetensors", stop=0))


def test_no_changed_byte_of_a_state_is_gone_on_from(tmp_path):
    path = tmp_path / "unet.safetensors"
    expected, content = trained(path), path.read_bytes()
    for place in range(0, len(content), 13):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert torch.equal(trained(path, stop=0), expected)
        except InputError as error:
            assert "unet.safetensors is damaged" in str(error) and "\n" not in str(error)
    for damaged in (b"", b"text", content[:-50], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is damaged .* or remove it to train this network"):
            trained(path)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    network, path = nn.Linear(4, 2), tmp_path / "a.safetensors"
    with pytest.raises(RunError, match=r"the loss of test is -?(inf|nan) at step 2"):
        train_network(
            network,
            lambda _: network(torch.ones(1, 4)).sum() * torch.inf,
            SETTINGS,
            path,
            every=2,
            title="test",
        )
    assert not path.exists()


def test_latents_of_the_shapes_that_were_asked_for():
    unet, embedding = build_unet(
        UNetTraining(channels=[16, 32], attention=[False, True], heads=8), (4, 8, 8), "abc"
    )
    assert embedding(torch.tensor([3])).shape == (1, 1, 64)
    with pytest.raises(InputError, match="no multiple of 4"):
        build_autoencoder(AutoencoderTraining(channels=[16, 16, 16]), 18)
    assert unet.config.in_channels == 4


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.smoke
@pytest.mark.slow
def test_a_prior_is_trained_continued_and_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["priors/digits", *TINY, "autoencoder.steps=2", "unet.steps=4", "output=run"]
    main(arguments)
    weights = (tmp_path / "run/prior/unet/diffusion_pytorch_model.safetensors").read_bytes()
    ended = (tmp_path / "run/prior").stat().st_ino
    main(arguments)
    assert (tmp_path / "run/prior").stat().st_ino == ended  # the same prior is left untouched
    (tmp_path / "run/checkpoints/unet.safetensors").unlink()
    (tmp_path / "run/prior").rename(tmp_path / "run/.prior.old")  # as a kill may leave it
    small.load("run/prior", resolution=16, steps=2)
    (tmp_path / "run/prior").rename(tmp_path / "run/.prior.old")
    monkeypatch.setattr(training, "describe", stop)
    with pytest.raises(SystemExit):
        main(arguments)  # the autoencoder is kept, the UNet trained again
    assert (tmp_path / "run/prior").stat().st_ino == ended
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    main(arguments)
    assert (tmp_path / "run/prior/unet/diffusion_pytorch_model.safetensors").read_bytes() == weights
    facts = json.loads((tmp_path / "run/prior/training.json").read_text())
    assert facts["steps"] == [2, 4] and facts["held_out_images"] == 360 and facts["psnr_db"] > 0
    assert "output" not in facts["command"]
    prior = small.load("run/prior", resolution=16, steps=2)
    z = prior.encode(torch.zeros(1, 3, 16, 16))
    assert prior.decode(z, prior.condition(torch.tensor([9])), z).shape == (1, 3, 16, 16)
    assert prior.class_names == tuple("0123456789")


@pytest.mark.slow
def test_another_recipe_is_refused_in_the_same_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["priors/digits", *TINY, "autoencoder.steps=2", "unet.steps=2", "output=run"]
    main(arguments)
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "unet.lr=0.5"])
    assert stop.value.code == 2
    assert "unet.lr is 0.5 and was 0.001" in capsys.readouterr().err


FACTS = {
    "parameters": [1, 2, 3],
    "seconds": [60, 120],
    "held_out_images": 5,
    "psnr_db": 20.0,
    "steps": [4, 6],
    "machine": "cpu",
    "threads": 1,
    "torch": "2",
}


def test_what_people_write_stays_in_its_cell_of_the_card():
    recipe = PriorRecipe(
        data=Data(source="`a`|<b>"), licence="mine | yours\n---\n<script>x</script> `y`"
    )
    card = prior_card(recipe, "small", {**FACTS, "command": "train x [a|b]\n| y | z |"})
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["license"] == recipe.licence
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [3] * 7
    assert "<script>" not in body and "<b>" not in body.replace(r"\<b\>", "")
    assert r"| command | `train x [a\|b] \| y \| z \|` |" in body
