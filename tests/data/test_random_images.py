import pytest
import torch

from latentdc.data.dataset import random_images
from latentdc.errors import InputError
from tests.evaluate.toys import stripes


def test_random_images_are_different_ones_of_each_class_in_class_order():
    data = stripes(30)
    drawn = random_images(data, ipc=4, seed=0)
    assert drawn.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(drawn.hashes.unique()) == 12
    assert torch.equal(drawn.images, data.images[drawn.hashes])


def test_every_seed_draws_anew_and_the_same_again():
    data = stripes(300)
    hashes = [random_images(data, ipc=5, seed=seed).hashes.tolist() for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_classes_may_have_different_numbers_of_images():
    data = stripes(30)
    drawn = random_images(data, ipc=[1, 4, 2], seed=0)
    assert drawn.labels.tolist() == [0, 1, 1, 1, 1, 2, 2]
    alike = random_images(data, ipc=4, seed=0)
    assert drawn.hashes[1:5].tolist() == alike.hashes[4:8].tolist()


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(InputError, match=r"stripes has 3 images of class 'chessboard', .* ipc 4"):
        random_images(stripes(11), ipc=4, seed=0)
