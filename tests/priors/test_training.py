import json
from math import cos, pi

import pytest
import torch
import yaml
from diffusers import DDIMScheduler
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from latentdc.config import shipped_folder
from latentdc.data.open import open_splits
from latentdc.draws import generator
from latentdc.errors import InputError, RunError
from latentdc.images import from_uint8
from latentdc.priors import training
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.small import (
    ClassMemory,
    autoencoder_loss,
    build_autoencoder,
    build_scheduler,
    build_unet,
    clean_and_noise_at,
    denoising_loss,
    inversion_term,
    minimax_terms,
)
from latentdc.priors.train.__main__ import main
from latentdc.priors.training import (
    prior_card,
    reconstruction_psnr,
    standardise,
    train_network,
    train_unet,
)
from latentdc.recipe import Data
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, Terms, UNetTraining
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


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_denoising_loss_is_the_error_of_the_predicted_noise(prediction):
    unet, embedding, scheduler = small.unet().eval(), small.embedding(), build_scheduler()
    scheduler.register_to_config(prediction_type=prediction)
    latents, noise = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    labels, timesteps = torch.tensor([0, 3]), torch.tensor([10, 900])
    abar = scheduler.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
    with torch.no_grad():
        predicted = unet(noisy, timesteps, encoder_hidden_states=embedding(labels)).sample
        given = unet, embedding, scheduler, latents, labels, noise, timesteps
        (loss, *_), (weighted, *_) = denoising_loss(*given), denoising_loss(*given, min_snr=5.0)
    v = abar.sqrt() * noise - (1 - abar).sqrt() * latents
    errors = (predicted - (noise if prediction == "epsilon" else v)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss, errors.mean())
    snr = [float(a / (1 - a)) for a in abar.flatten()]
    assert snr[0] > 5 > snr[1]
    divisor = [ratio if prediction == "epsilon" else ratio + 1 for ratio in snr]
    expected = (5 / divisor[0] * errors[0] + snr[1] / divisor[1] * errors[1]) / 2
    torch.testing.assert_close(weighted, expected)


def test_minimax_compares_with_the_latest_latents_of_a_class():
    """1 - min_j cos(z, real_j) and max_j cos(z, predicted_j), over first-in-first-out memories."""
    source = torch.Generator().manual_seed(0)
    memory, kept = ClassMemory(3, 2, 18), {0: [], 1: []}
    z = torch.randn(3, 2, 3, 3, generator=source, requires_grad=True)
    assert all(term == 0 for term in minimax_terms(memory, z, torch.tensor([0, 1, 2])))
    for label in (0, 1, 0, 0):
        pair = torch.randn(2, 1, 2, 3, 3, generator=source)
        memory.keep(torch.tensor([label]), *pair)
        kept[label].append(pair.flatten(2))
    near, apart = minimax_terms(memory, z, torch.tensor([0, 1, 2]))  # nothing of class 2 is known
    expected = torch.zeros(2)
    for label in (0, 1):
        cosines = [
            torch.cosine_similarity(z[label].flatten()[None, None], pair, dim=2)
            for pair in kept[label][-2:]
        ]
        expected[0] += (1 - min(one[0] for one in cosines)).squeeze() / 2
        expected[1] += max(one[1] for one in cosines).squeeze() / 2
    torch.testing.assert_close(torch.stack([near, apart]), expected)
    [gradient] = torch.autograd.grad(near + apart, z)
    assert gradient[:2].abs().sum() > 0 and gradient[2].abs().sum() == 0


def test_a_batch_is_remembered_as_its_latents_one_by_one_are():
    """Of a class with more than are remembered, too."""
    source = torch.Generator().manual_seed(0)
    whole, single = ClassMemory(3, 2, 4), ClassMemory(3, 2, 4)
    for labels in ([0, 1, 0, 0, 2, 0], [2], [], [1, 1, 0, 1]):
        pair = torch.randn(2, len(labels), 1, 2, 2, generator=source)
        whole.keep(torch.tensor(labels, dtype=torch.long), *pair)
        for at, label in enumerate(labels):
            single.keep(torch.tensor([label]), *pair[:, at : at + 1])
    assert whole.seen.tolist() == [5, 4, 2]
    for name, tensor in single.state_dict().items():
        assert torch.equal(whole.state_dict()[name], tensor), name


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_predictions_stand_for_clean_latents_and_noise(prediction):
    scheduler = DDIMScheduler.from_config(build_scheduler().config, prediction_type=prediction)
    z, noise, timesteps = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4), torch.tensor([10, 700])
    x = scheduler.add_noise(z, noise, timesteps)
    exact = noise if prediction == "epsilon" else scheduler.get_velocity(z, noise, timesteps)
    clean, eps = clean_and_noise_at(scheduler, x, exact, timesteps)
    torch.testing.assert_close(clean, z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(eps, noise, atol=1e-4, rtol=1e-4)


def test_the_inversion_term_compares_noised_with_inverted_latents():
    scheduler, t = build_scheduler(), torch.tensor([100, 800])
    z, noise, predicted = (torch.randn(2, 2, 4, 4) for _ in range(3))
    a = scheduler.alphas_cumprod[t].view(2, 1, 1, 1)
    noisy = a.sqrt() * z + (1 - a).sqrt() * noise
    inverted = a.sqrt() * z + (1 - a).sqrt() * predicted
    expected = 1 - torch.cosine_similarity(noisy.flatten(1), inverted.flatten(1)).mean()
    torch.testing.assert_close(inversion_term(scheduler, z, noisy, predicted, t), expected)
    assert float(inversion_term(scheduler, z, noisy, noise, t)) < 1e-6


def test_what_is_added_to_the_denoising_loss_is_weighed_as_the_recipe_says(tmp_path):
    """Three steps at hardly any rate, written out: a label that is dropped enters no memory."""
    terms = {"representativeness": 0.3, "diversity": 0.7, "magnitude": 0.2, "inversion": 0.5}
    spec = UNetTraining(steps=3, batch=6, lr=1e-12, drop=0.4, terms=Terms(memory=2, **terms))
    latents = torch.randn(10, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, scheduler, told = 2 * (torch.arange(10) % 2), build_scheduler(), []
    pair = nn.ModuleDict({"unet": small.unet(), "embedding": small.embedding()})
    train_unet(
        PriorRecipe(unet=spec, seed=3),
        latents,
        labels,
        pair.requires_grad_(True),
        scheduler,
        tmp_path / "unet.safetensors",
        lambda facts, loss, *_, **__: told.append(loss.detach()),
    )
    unet, embedding, memory = small.unet().eval(), small.embedding(), {0: [], 2: []}
    cosine, expected = torch.nn.functional.cosine_similarity, []
    for step in range(3):
        source = generator(3, "unet", step)
        chosen = torch.randint(10, (6,), generator=source)
        noise = torch.randn(6, 2, 4, 4, generator=source)
        t = torch.randint(1000, (6,), generator=source)
        dropped = torch.rand(6, generator=source) < 0.4
        z, a = latents[chosen], scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        c = embedding(labels[chosen].masked_fill(dropped, 3))
        x = a.sqrt() * z + (1 - a).sqrt() * noise
        with torch.no_grad():
            e, at_clean = (unet(one, t, encoder_hidden_states=c).sample for one in (x, z))
        x0 = (x - (1 - a).sqrt() * e) / a.sqrt()
        inverted = a.sqrt() * z + (1 - a).sqrt() * at_clean
        kept = (~dropped).nonzero().flatten().tolist()
        known = [(x0[k].flatten(), memory[int(labels[chosen[k]])][-2:]) for k in kept]
        known = [(one, torch.stack(past, dim=1)) for one, past in known if past]  # real, predicted
        near = [1 - cosine(one[None], real).min() for one, (real, _) in known]
        apart = [cosine(one[None], predicted).max() for one, (_, predicted) in known]
        count = max(1, len(known))
        expected.append(
            (e - noise).square().mean()
            + 0.3 * sum(near) / count
            + 0.7 * sum(apart) / count
            + 0.2 * x0.abs().mean()
            + 0.5 * (1 - cosine(x.flatten(1), inverted.flatten(1)).mean())
        )
        for k in kept:
            memory[int(labels[chosen[k]])].append(torch.stack([z[k], x0[k]]).flatten(1))
    assert max(map(len, memory.values())) > 2  # the first ones are forgotten
    torch.testing.assert_close(torch.stack(told), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_an_autoencoder_sees_other_images_half_of_them_mirrored_in_each_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []

    def look(network, loss, *_, **__):
        [loss(step) for step in range(3)]
        stop()

    monkeypatch.setattr(training, "train_network", look)
    monkeypatch.setattr(
        training.small, "autoencoder_loss", lambda vae, *given, **_: seen.append(given)
    )
    with pytest.raises(SystemExit):
        main(["priors/digits", "seed=3", "flip=true", *TINY])
    images = from_uint8(open_splits(Data(resolution=16))[0].images)
    for step, (shown, noise) in enumerate(seen):
        source = generator(3, "autoencoder", step)
        chosen = images[torch.randint(len(images), (8,), generator=source)]
        mirrored = torch.rand(8, generator=source) < 0.5
        assert mirrored.any() and not mirrored.all()
        wanted = torch.where(mirrored.view(8, 1, 1, 1), chosen.flip(-1), chosen)
        torch.testing.assert_close(shown, wanted)
        normal = torch.randn(noise.shape, generator=generator(3, "posterior", step))
        torch.testing.assert_close(noise, normal)
    assert len(seen) == 3


def test_a_prior_goes_on_with_mirrored_images_under_its_own_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = []
    monkeypatch.setattr(training, "train_unet", lambda *a: given.append(a) or stop())
    with pytest.raises(SystemExit):
        main(["priors/digits", "--from", "digits", "data.classes=['7', '0']", "flip=true"])
    (_, latents, labels, *_), train = given[0], open_splits(Data(classes=["7", "0"]))[0]
    assert labels.tolist() == 2 * [{0: 7, 1: 0}[label] for label in train.labels.tolist()]
    images, (one, mirrored) = from_uint8(train.images[:9]), latents.chunk(2)
    space = small.load("digits", resolution=16, steps=2)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(one[:9], space.encode(images), **close)
    torch.testing.assert_close(mirrored[:9], space.encode(images.flip(-1)), **close)


def test_a_denoiser_learns_latents_of_mean_zero_and_deviation_one():
    autoencoder = build_autoencoder(AutoencoderTraining(channels=[16, 16]), 16)
    latents = 5 + 3 * torch.randn(20, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    found, kept = standardise(latents, autoencoder), autoencoder.config
    torch.testing.assert_close(torch.stack([found.mean(), found.std()]), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(found / kept.scaling_factor + kept.shift_factor, latents)


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
    network, memory = nn.Linear(4, 2), ClassMemory(1, 2, 2)

    def loss(step):
        if step == stop:
            raise KeyboardInterrupt
        made = network(torch.full((1, 4), 0.1 * step))
        near, apart = minimax_terms(memory, made, torch.tensor([0]))
        memory.keep(torch.tensor([0]), torch.ones_like(made), made)
        return made.square().sum() + near + apart

    train_network(network, loss, SETTINGS, path, every=2, title="test", memory=memory)
    return network.weight.detach()


def test_a_network_ends_as_the_average_of_clipped_steps_of_adamw(tmp_path):
    """Rates rise over a twentieth of the steps and fall as a cosine does."""
    inputs = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * torch.logspace(
        -2, 2, 40
    ).view(40, 1)
    network = nn.Linear(5, 1, bias=False)
    weight = network.weight.detach().clone().requires_grad_()
    theirs = torch.optim.AdamW([weight], lr=0.0, weight_decay=0.01)
    settings = UNetTraining(steps=40, lr=0.05, ema=0.8)
    path = tmp_path / "unet.safetensors"
    train_network(
        network, lambda step: network(inputs[step]).sum(), settings, path, every=10, title="unet"
    )
    average, norms = None, []
    for step in range(40):
        norms.append(float(inputs[step].norm()))  # of the gradient, which is the input
        weight.grad = inputs[step : step + 1] * min(1.0, 1 / norms[-1])
        theirs.param_groups[0]["lr"] = 0.05 * min((step + 1) / 2, (1 + cos(pi * step / 40)) / 2)
        theirs.step()
        kept = 0.0 if average is None else min(0.8, 1 - (1 + step) ** -0.75)
        last = weight.detach().clone()
        average = last if average is None else kept * average + (1 - kept) * last
    assert min(norms) < 1 < max(norms) and not torch.allclose(average, last, rtol=1e-3)
    torch.testing.assert_close(network.weight, average, rtol=1e-4, atol=1e-5)
    assert not network.training and not network.weight.requires_grad


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
    with pytest.raises(RunError, match=r"is -?(inf|nan) at step 2; lower test\.lr"):
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
    monkeypatch.setattr(training, "document_prior", stop)
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


def test_the_digits_prior_is_fine_tuned(tmp_path, monkeypatch):
    """With all terms of the loss; the autoencoder stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "GRID_STEPS", 1)
    monkeypatch.setattr(training, "PER_CLASS", 1)
    monkeypatch.setattr(training, "reconstruction_psnr", lambda *_: 50.0)
    weights = {"representativeness": 0.002, "diversity": 0.008, "magnitude": 0.1, "inversion": 0.1}
    terms = [f"unet.terms.{name}={weight}" for name, weight in weights.items()]
    options = ["unet.steps=3", "unet.lr=0.0001", "unet.terms.memory=4", "output=run"]
    main(["priors/digits", "--from", "digits", *TINY, *terms, *options])
    for network, far in (("unet", 0.01), ("vae", 0.0)):
        file = f"{network}/diffusion_pytorch_model.safetensors"
        tuned = load_file(tmp_path / "run/prior" / file)
        start = load_file(shipped_folder("assets/priors") / "digits" / file)
        moved = max(
            float((tuned[name].float() - start[name].float()).abs().max()) for name in start
        )
        assert far / 1000 <= moved <= far
    facts = json.loads((tmp_path / "run/prior/training.json").read_text())
    assert facts["steps"] == [0, 3] and facts["start"]["prior"] == "digits"
    assert "| started from | `digits` (" in (tmp_path / "run/prior/README.md").read_text()
    for config in (tmp_path / "run/prior").glob("*/config.json"):
        assert "_name_or_path" not in json.loads(config.read_text())  # a folder of this machine


def test_a_prior_that_is_fine_tuned_at_another_resolution_is_made_for_that_one(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "GRID_STEPS", 1)
    monkeypatch.setattr(training, "PER_CLASS", 1)
    sizes = ["data.resolution=8", "unet.steps=1", "output=run"]
    main(["priors/digits", "--from", "digits", *TINY, *sizes])
    told = capsys.readouterr().err
    assert "the prior digits was made for images of 16 pixels and runs at 8" in told
    assert ".part" not in told
    small.load("run/prior", resolution=8)
    assert "warning" not in capsys.readouterr().err


def test_whose_classes_a_prior_does_not_know_is_not_sent_to_an_autoencoder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures" / "train")
    write_pictures(tmp_path / "pictures" / "test", seed=1)
    told = refused(["priors/digits", "--from", "digits", "data.source=pictures"], capsys)
    assert "but not ['cat', 'dog'] of the data set; go on from a prior of these classes" in told
    assert "prior.kind" not in told


def test_a_prior_of_another_kind_is_not_fine_tuned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small.autoencoder().save_pretrained(tmp_path / "own/vae")
    small.dit(classes=10).save_pretrained(tmp_path / "own/transformer")
    build_scheduler().save_pretrained(tmp_path / "own/scheduler")
    index = {"id2label": {str(label): str(label) for label in range(10)}}
    (tmp_path / "own/model_index.json").write_text(json.dumps(index))
    with pytest.raises(SystemExit) as stop:
        main(["priors/digits", "--from", "own", "output=run"])
    assert stop.value.code == 2 and not (tmp_path / "run/recipe.yaml").exists()
    told = capsys.readouterr().err
    assert "start=own is a DiTTransformer2DModel; fine-tuned is a UNet2DConditionModel" in told


def write_pictures(folder, seed=0):
    """Four pictures of 16 px of each of two classes."""
    levels = torch.randint(256, (8, 16, 16, 3), generator=generator(seed, "pictures"))
    for place, picture in enumerate(levels.to(torch.uint8).numpy()):
        path = folder / ("cat", "dog")[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_prior_does_not_go_on_with_other_images(tmp_path, monkeypatch, capsys):
    """Nor is a finished one written anew, with another scale of latents than its UNet's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "document_prior", lambda *_: None)
    write_pictures(tmp_path / "pets")
    recipe = [f"data: {{source: pets, resolution: 16, test_share: 0.5, cache: {tmp_path}/cache}}"]
    recipe += ["autoencoder: {steps: 2}", "unet: {steps: 2}", "output: run"]
    (tmp_path / "pets.yaml").write_text("\n".join(recipe))
    arguments = ["pets.yaml", *TINY]
    main(arguments)
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    write_pictures(tmp_path / "pets", seed=1)
    assert "autoencoder.safetensors is of another training split (hash" in refused(
        arguments, capsys
    )
    states = tmp_path / "run/checkpoints"
    (states / "autoencoder.safetensors").rename(tmp_path / "kept")
    assert "unet.safetensors is of another training split" in refused(arguments, capsys)
    named = (tmp_path / "run/recipe.yaml").read_text()
    write_pictures(tmp_path / "others", seed=1)
    refused([*arguments, "data.source=others"], capsys)
    assert (tmp_path / "run/recipe.yaml").read_text() == named
    (tmp_path / "kept").rename(states / "autoencoder.safetensors")
    assert kept == {path: path.read_bytes() for path in kept} and len(kept) == 5
    write_pictures(tmp_path / "pets")
    (tmp_path / "pets").rename(tmp_path / "moved")
    main([*arguments, "data.source=moved"])
    assert kept == {path: path.read_bytes() for path in kept}


@pytest.mark.slow
def test_a_unet_does_not_go_on_with_another_autoencoder(tmp_path, monkeypatch, capsys):
    """Neither where the prior to start from was exchanged, nor where its state was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "document_prior", lambda *_: None)
    small_ones = [word for word in TINY if word != "unet.batch=8"]
    run = ["priors/digits", *small_ones, "unet.batch=2", "autoencoder.steps=2", "unet.steps=2"]
    main([*run, "output=one"])
    main([*run, "output=other", "seed=1"])
    main([*run, "--from", "one/prior", "output=tuned"])
    for kind in ("vae", "unet"):
        file = f"prior/{kind}/diffusion_pytorch_model.safetensors"
        own = (tmp_path / "one" / file).read_bytes()
        (tmp_path / "one" / file).write_bytes((tmp_path / "other" / file).read_bytes())
        told = refused([*run, "--from", "one/prior", "output=tuned"], capsys)
        assert "unet.safetensors is of another start (hash" in told
        (tmp_path / "one" / file).write_bytes(own)
    main([*run, "--from", "one/prior", "output=tuned"])
    state = "checkpoints/autoencoder.safetensors"
    (tmp_path / "one" / state).write_bytes((tmp_path / "other" / state).read_bytes())
    assert "unet.safetensors is of another autoencoder" in refused([*run, "output=one"], capsys)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_precision_that_training_does_not_take_up_is_told(
    tmp_path, monkeypatch, capsys, precision
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setattr(training, "train_prior", lambda *_: None)
    main(["priors/digits", "output=run"])
    told = "warning: priors are trained in float32; mixed_precision=bf16 is left out."
    assert (told in capsys.readouterr().err) == (precision == "bf16")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.resolution=17"], "autoencoder.channels has 2 levels, after which"),
        (["data.resolution=18"], "unet.channels has 2 levels, after which images are halved 2"),
        (
            ["unet.channels=[32,32,32,32,32]", "unet.attention=[true,true,true,true,true]"],
            "halved 5 times, and data.resolution=16 is no multiple of 32; take fewer levels",
        ),
        (["autoencoder.channels=[16,16,16,16,16]"], "its last level, of 1 pixel"),
        (["data.resolution=8", "unet.channels=[16,16,16]", "unet.heads=16",
          "unet.attention=[true,true,true]"], "in 16 groups of 1 value"),
    ],
)  # fmt: skip
def test_levels_that_the_images_do_not_allow_are_refused_with_the_recipe(capsys, overrides, told):
    overrides = ["autoencoder.channels=[16,16]", *overrides]
    for dry in ([], ["--dry-run"]):
        assert told in refused(["priors/digits", *overrides, *dry], capsys)


def test_two_priors_to_start_from_are_refused(capsys):
    said = refused(["priors/digits", "start=digits", "--from", "cifar10"], capsys)
    assert "--from and start=... say the same; give one." in said


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
