"""DiT with a learnable condition, against diffusers' own transformer and its class labels."""

import json

import pytest
import torch
from diffusers import DDIMScheduler

from latentdc.errors import InputError
from latentdc.priors.denoisers import ClassDenoiser, place_patches
from tests.priors import small

NULL = 3  # the label after those of the three classes
NAMES = {"0": "tench, Tinca tinca", "1": "goldfish, Carassius auratus", "2": "crane"}


@pytest.fixture
def folder(tmp_path):
    """As facebook/DiT-XL-2-256 is."""
    small.autoencoder().save_pretrained(tmp_path / "vae")
    small.dit().save_pretrained(tmp_path / "transformer")
    DDIMScheduler(clip_sample=False).save_pretrained(tmp_path / "scheduler")
    index = {"_class_name": "DiTPipeline", "id2label": NAMES}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


def load(folder, resolution=8, **options):
    return small.load(folder, resolution=resolution, **options)


@pytest.mark.parametrize("size", [2, 4, 8])
@torch.no_grad()
def test_a_row_of_the_table_does_what_its_label_does_at_any_size(folder, size):
    denoiser = load(folder, resolution=2 * size).denoiser
    x, labels = torch.randn(4, 2, size, size), torch.tensor([0, 2, 1, NULL])
    wanted = small.dit().eval()(x, torch.full((4,), 401), class_labels=labels).sample
    rows = torch.cat([denoiser.condition(labels[:3]), denoiser.null])
    torch.testing.assert_close(denoiser(x, torch.tensor(401), rows), wanted, rtol=1e-4, atol=1e-4)
    if size == 4:  # the condition makes a difference, and in each block one of its own
        assert not torch.allclose(denoiser(x, torch.tensor(401), rows.flip(0)), wanted)


@pytest.mark.smoke
@torch.no_grad()
def test_a_dit_decodes_as_diffusers_own_loop_does(folder):
    prior = load(folder, steps=3, guidance=4.0, skip="none")
    source = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 2, *prior.latent_shape, generator=source)
    transformer, vae = small.dit().eval(), small.autoencoder()
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(3)
    start = scheduler.alphas_cumprod[scheduler.timesteps[0]]
    x, labels = start.sqrt() * z + (1 - start).sqrt() * noise, torch.tensor([2, 0, NULL, NULL])
    for t in scheduler.timesteps:
        made = transformer(torch.cat([x, x]), t.expand(4), class_labels=labels).sample
        under, without = made[:, :2].chunk(2)
        x = scheduler.step(without + 4 * (under - without), t, x).prev_sample
    wanted = vae.decode(x / 0.5 + 0.1).sample.clamp(-1, 1)
    images = prior.decode(z, prior.condition(torch.tensor([2, 0])), noise)
    torch.testing.assert_close(images, wanted, rtol=1e-4, atol=1e-4)


def test_positions_are_spread_over_latents_of_another_size():
    patches = small.dit().pos_embed  # made for a grid of 2 x 2
    own = patches.pos_embed.clone().view(2, 2, -1)
    place_patches(patches, 8)  # 0, 1/2, 1, 3/2 in place of 0, 1
    torch.testing.assert_close(patches.pos_embed.view(4, 4, -1)[::2, ::2], own)
    finer = patches.pos_embed.view(4, 4, -1)
    assert not finer[1, 1].allclose(own[0, 0]) and not finer[1, 1].allclose(own[1, 1])
    place_patches(patches, 2)
    torch.testing.assert_close(patches.pos_embed.view(1, 1, -1), own[:1, :1])


def test_another_resolution_is_said_loudly_and_its_own_is_not(folder, capsys):
    load(folder, resolution=8)
    assert "warning" not in capsys.readouterr().err
    load(folder, resolution=16)
    told = capsys.readouterr().err
    assert "made for images of 8 pixels and runs at 16" in told
    assert told.count("\n") == 1 and told.startswith("latentdc: warning: ")


def test_a_resolution_that_cannot_be_cut_into_patches_is_refused(folder):
    with pytest.raises(InputError, match=r"steps of 4 pixels, got data\.resolution=10"):
        load(folder, resolution=10)


def test_blocks_with_embeddings_of_their_own_are_refused(folder):
    transformer = small.dit()
    torch.nn.init.ones_(
        transformer.transformer_blocks[1].norm1.emb.class_embedder.embedding_table.weight
    )
    transformer.save_pretrained(folder / "transformer")
    with pytest.raises(InputError, match="class embeddings that differ"):
        load(folder)
    assert isinstance(load(folder, denoiser="random").denoiser, ClassDenoiser)


@pytest.mark.parametrize("names", [None, {"0": "a"}, {"0": "a", "1": "b", "3": "c"}])
def test_classes_without_names_are_refused(folder, names):
    (folder / "model_index.json").write_text(json.dumps({"id2label": names}))
    with pytest.raises(InputError, match=r"knows 3 classes, and model_index\.json names"):
        load(folder)
