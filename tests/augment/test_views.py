import pytest
import torch

from latentdc.augment.views import draw_views, view
from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.recipe.labels import Views
from tests.evaluate.toys import stripes

CPU = torch.device("cpu")
DATA = stripes(40)
RICH = Views(
    randaugment=(2, 9),
    shuffle=2,
    pad=1,
    crop=(0.3, 1.0),
    flip=True,
    jitter=0.4,
    lighting=0.1,
    cutout=True,
    mix="cutmix",
)


def draws(views=RICH, seed=0, epoch=0, count=40):
    return draw_views(views, count=count, size=8, seed=seed, epoch=epoch)


def views_of(rows, drawn):
    return view(DATA.images, rows, drawn, CPU)


@pytest.mark.parametrize("mix", [None, "cutmix", "mixup"])
def test_a_view_follows_from_image_and_epoch_whatever_the_batch(mix):
    drawn = draws(Views(**{**vars(RICH), "mix": mix}))
    together = views_of(torch.arange(40), drawn)
    for rows in torch.randperm(40).split(7):
        torch.testing.assert_close(views_of(rows, drawn), together[rows], atol=1e-5, rtol=0)


def test_views_follow_from_seed_and_epoch_and_differ_between_them():
    rows = torch.arange(40)
    first = views_of(rows, draws())
    assert torch.equal(first, views_of(rows, draws()))
    for other in (draws(seed=1), draws(epoch=1)):
        same = (views_of(rows, other) - first).flatten(1).abs().amax(1) < 1e-3
        assert same.float().mean() < 0.1


def test_another_step_leaves_the_draws_of_the_others_alone():
    plain, more = draws(Views(flip=True)), draws(Views(flip=True, crop=(0.5, 1.0), pad=2))
    assert torch.equal(plain["flip"], more["flip"])


def test_without_steps_images_are_as_they_are():
    assert draws(Views()) == {} and not Views(mix_alpha=0.5).change
    rows = torch.tensor([3, 1])
    assert torch.equal(views_of(rows, {}), from_uint8(DATA.images[rows]))


def test_a_mixed_view_is_made_of_two_views():
    drawn = draws(Views(flip=True, mix="mixup"))
    alone = draws(Views(flip=True))
    rows, partners = torch.arange(40), drawn["partner"]
    kept = drawn["kept"][:, None, None, None]
    expected = kept * views_of(rows, alone) + (1 - kept) * views_of(partners, alone)
    torch.testing.assert_close(views_of(rows, drawn), expected)


def test_a_window_moves_by_up_to_the_padding_either_way():
    offsets = draws(Views(pad=2), count=200)["pad"]
    assert offsets.shape == (200, 2) and offsets.unique().tolist() == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": (0.5, 0.2)}, r"views.crop is a range of shares in \(0, 1\], got \[0.5, 0.2\]"),
        ({"cells": 2}, "views.cells says where views.crop cuts; give both"),
        ({"shuffle": 1}, "views.shuffle is at least 2, or null for none, got 1"),
        ({"randaugment": (2, 40)}, "magnitude from 0 to 30"),
        ({"jitter": 2.0}, r"views.jitter is in \[0, 1\]"),
        ({"mix_alpha": 0.0}, "views.mix_alpha is positive"),
    ],
)
def test_wrong_views_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Views(**settings)
