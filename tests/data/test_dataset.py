"""What a `Dataset` that is made in Python may hold."""

import dataclasses

import numpy as np
import pytest
import torch

import latentdc
from latentdc.errors import InputError


def made(images=None, labels=None, names=("a", "b"), hashes=None):
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8) if images is None else images
    labels = torch.tensor([0, 1, 0, 1]) if labels is None else labels
    hashes = torch.arange(4) if hashes is None else hashes
    return latentdc.Dataset(images, labels, names, hashes, "mine")


FLOATS = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "images",
    [
        *(FLOATS, FLOATS * 2 - 1, FLOATS * 255, FLOATS.half(), FLOATS.double(), FLOATS.bfloat16()),
        *(FLOATS[0], FLOATS[:, :1], FLOATS.long(), FLOATS > 0.5, FLOATS.to(torch.int16)),
    ],
)
def test_images_that_are_no_levels_are_refused_and_the_way_is_said(images):
    with pytest.raises(InputError, match=r"\[0, 1\] with \(x \* 255\)\.round\(\)"):
        made(images)


def test_the_way_that_the_message_says_gives_the_levels():
    levels = torch.arange(256).repeat(3).view(4, 3, 8, 8).to(torch.uint8)
    unit = levels.float() / 255
    for x in ((unit * 255), ((unit * 2 - 1 + 1) * 127.5)):
        assert torch.equal(made(x.round().to(torch.uint8)).images, levels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((4, 3, 8, 8), np.uint8)}, "got ndarray; make a tensor"),
        ({"images": torch.zeros(4, 8, 8, 3, dtype=torch.uint8)}, r"x\.permute\(0, 3, 1, 2\)"),
        ({"images": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)}, r"x\.expand\(-1, 3, -1, -1\)"),
        ({"images": torch.zeros(4, 3, 8, 6, dtype=torch.uint8)}, r"got shape \(4, 3, 8, 6\)"),
        ({"images": torch.zeros(4, 9, dtype=torch.float64)}, r"float64 .* convert with \.float"),
        ({"images": torch.zeros(4, 0)}, r"D at least 1, got \(4, 0\)"),
        ({"images": torch.full((4, 9), torch.inf)}, "not finite"),
        ({"images": torch.zeros(4, 9).fill_diagonal_(torch.nan)}, "not finite"),
        ({"images": torch.zeros(5, 3, 8, 8, dtype=torch.uint8)}, "5 samples and 4 labels"),
        ({"labels": torch.tensor([0, 1, 0, 1], dtype=torch.uint8)}, r"\.long\(\)"),
        ({"labels": torch.tensor([0.0, 1.0, 0.0, 1.0])}, "int64 indices"),
        ({"labels": torch.tensor([True, False, True, False])}, "int64 indices"),
        ({"labels": [0, 1, 0, 1]}, "got list"),
        ({"labels": torch.eye(4).long()}, "int64 indices"),
        ({"labels": torch.tensor([0, -1, 1, -1])}, "2 of its 4 labels lie outside of 0 to 1"),
        ({"labels": torch.tensor([0, 2, 1, 1])}, "1 of its 4 labels .* run from 0 to 2"),
        ({"hashes": torch.arange(3)}, "one hash for each of its 4 samples"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        made(**changes)


def test_vectors_are_floats():
    for dtype in (torch.float16, torch.float32):
        assert made(torch.zeros(4, 9, dtype=dtype)).kind == "vectors"


def test_samples_are_selected_by_whatever_picks_rows_of_an_array():
    dataset = made(torch.arange(768).remainder(256).view(4, 3, 8, 8).to(torch.uint8))
    for indices in (
        *(torch.tensor([3, 1]), [3, 1], (3, 1), np.array([3, 1]), torch.tensor([3, 1]).int()),
        *(range(3, 0, -2), torch.tensor([-1, -3])),
    ):
        part = dataset.select(indices)
        assert torch.equal(part.images, dataset.images[[3, 1]]) and part.hashes.tolist() == [3, 1]
    for indices in (torch.tensor([False, True, False, True]), slice(1, None, 2)):
        assert dataset.select(indices).hashes.tolist() == [1, 3]
    for nothing in ((), [], torch.tensor([], dtype=torch.int64)):
        assert len(dataset.select(nothing)) == 0


@pytest.mark.parametrize(
    "indices",
    [
        *(torch.tensor([4]), torch.tensor([0.5]), torch.tensor([[0, 1]]), torch.tensor(1), 1),
        *(None, "a", (1, 0.5), np.array([0.0]), torch.tensor([True])),
    ],
)
def test_what_picks_no_rows_is_refused_in_one_line(indices):
    with pytest.raises(InputError, match="mine: indices are whole numbers") as refused:
        made().select(indices)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("label", [-1, 2, "a", None, 1.0, True])
def test_what_is_no_label_has_no_members(label):
    assert made().members(1).tolist() == made().members(np.int64(1)).tolist() == [1, 3]
    with pytest.raises(InputError, match="label is a whole number from 0 to 1, got"):
        made().members(label)


def test_a_share_may_be_a_number_of_numpy():
    images = torch.arange(768).remainder(251).view(4, 3, 8, 8).to(torch.uint8)
    parts = [made(images).split(share) for share in (0.5, np.float32(0.5), np.float64(0.5))]
    assert {tuple(test.hashes.tolist()) for _, test in parts} == {(0, 1)}


def test_a_name_is_text():
    with pytest.raises(InputError, match="name is a str, got null"):
        dataclasses.replace(made(), name=None)
