import pytest
import torch

from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.methods.latents import initial_latents, leaves, own_classes, require_enough_images
from latentdc.priors.pixel import PixelPrior
from tests.methods import setup
from tests.priors import small


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 10])
def test_every_class_has_one_owner_and_shares_differ_by_one(processes):
    shares = [own_classes(10, process, processes) for process in range(processes)]
    assert [label for share in shares for label in share] == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_latents_start_from_encoded_images_of_their_class_without_repeats():
    data = setup.dataset(per_class=4)
    latents = initial_latents(data, PixelPrior(8), range(3), ipc=4, seed=0)
    assert latents.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for label in range(3):
        mine = latents.z[label].detach()
        real = from_uint8(data.images[data.members(label)])
        assert sorted(x.sum().item() for x in mine) == sorted(x.sum().item() for x in real)


def test_a_class_starts_alike_whoever_owns_it():
    prior, data = small.prior(), setup.dataset()
    everything = initial_latents(data, prior, range(3), ipc=2, seed=5)
    alone = initial_latents(data, prior, range(2, 3), ipc=2, seed=5)
    for name in ("z", "c", "noise"):
        torch.testing.assert_close(
            getattr(everything, name)[2], getattr(alone, name)[0], rtol=1e-4, atol=1e-4
        )


def test_conditions_start_from_the_class_embedding_by_name():
    prior = small.prior()
    latents = initial_latents(setup.dataset(), prior, range(3), ipc=2, seed=0)
    torch.testing.assert_close(
        torch.cat(latents.c), prior.condition(torch.tensor([0, 0, 1, 1, 2, 2]))
    )


def test_ipc_above_the_smallest_class_is_refused():
    with pytest.raises(InputError, match="'zero' has 6 images"):
        require_enough_images(dict(zip(small.CLASSES, [6, 7, 7], strict=True)), ipc=7)


def test_latents_are_dense_whatever_layout_an_encoder_gives():
    (leaf,) = leaves([torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)])
    assert leaf.is_contiguous() and leaf.is_leaf and leaf.requires_grad


@pytest.mark.parametrize("part", ["z", "noise"])
def test_random_latents_and_noise_differ_by_class_image_and_seed_and_are_standard_normal(part):
    prior, data = small.prior(), setup.dataset(per_class=8)
    drawn = torch.cat(
        [
            value
            for seed in range(4)
            for value in getattr(
                initial_latents(data, prior, range(3), ipc=8, seed=seed, from_noise=True), part
            )
        ]
    ).detach()  # (seeds * classes * ipc, C, h, w)
    pairs = torch.corrcoef(drawn.flatten(1)) - torch.eye(len(drawn))
    assert len(drawn) == 96 and float(pairs.abs().max()) < 0.9, "two were drawn alike"
    assert float(pairs.mean().abs()) < 0.02
    assert abs(float(drawn.mean())) < 0.05 and abs(float(drawn.std()) - 1) < 0.05


def test_random_latents_are_not_the_noise_and_a_set_keeps_what_it_started_from():
    made = setup.run(steps=0, init="noise")
    parts = torch.cat([made.z.flatten(1), made.noise.flatten(1)])
    assert len(parts.unique(dim=0)) == len(parts) == 12
