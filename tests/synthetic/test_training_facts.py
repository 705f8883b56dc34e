"""What students of a set need beside its images: a learned learning rate, and a whitening."""

import pytest
import torch

from latentdc.errors import InputError
from latentdc.images import Normalization, Whitening
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.card import dataset_card
from latentdc.synthetic.folder import FILES, WHITENING
from tests.synthetic.sets import random_set


def whitening(values: int = 3 * 8 * 8) -> Whitening:
    return Whitening(Normalization(), torch.rand(values), torch.rand(values, values), 0.1, "noise")


def test_both_come_back_bit_by_bit(tmp_path):
    saved = random_set(learned_lr=0.1 / 3, whitening=whitening())
    saved.save_pretrained(tmp_path / "set")
    found = SyntheticSet.from_pretrained(tmp_path / "set")
    assert found.learned_lr == 0.1 / 3
    images = saved.floats()
    assert torch.equal(found.whitening(images), saved.whitening(images))
    assert found.whitening.facts() == saved.whitening.facts()


def test_a_set_without_them_has_none(tmp_path):
    random_set().save_pretrained(tmp_path / "set")
    found = SyntheticSet.from_pretrained(tmp_path / "set")
    assert found.learned_lr is None and found.whitening is None
    assert not (tmp_path / "set" / WHITENING).exists()


def test_the_whitening_is_pushed_and_counted(tmp_path):
    made = random_set(learned_lr=0.5, whitening=whitening())
    made.save_pretrained(tmp_path / "set")
    assert (tmp_path / "set" / WHITENING).is_file() and WHITENING in FILES
    sizes = made.storage()
    assert sizes["zca/float32"] == 4 * (192 + 192**2) and sizes["learned_lr/float64"] == 8


def test_the_card_says_how_students_are_to_be_trained():
    card = dataset_card(random_set(learned_lr=0.0123, whitening=whitening()))
    assert "learning rate of 0.0123 for students trained by SGD" in card
    assert "mean [0.485, 0.456, 0.406]" in card and "`zca.safetensors`" in card
    assert "zca" not in dataset_card(random_set()) and "SGD" not in dataset_card(random_set())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"learned_lr": 0.0}, "learned_lr is a positive number, got 0.0"),
        ({"learned_lr": float("nan")}, "got nan"),
        ({"soft_labels": torch.zeros(8, 3)}, r"soft_labels is float32 with a shape of \(8, 4\)"),
        ({"weights": torch.zeros(8)}, "weights are what .* all above 0"),
        ({"images": torch.rand(8, 3, 8, 8) * 255}, "look like levels 0 to 255; make them uint8"),
        ({"whitening": whitening(12)}, "images of 192 values, got one of 12"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        random_set(**changes)


def test_soft_labels_and_weights_come_back_and_are_counted(tmp_path):
    parts = {"soft_labels": torch.randn(8, 4), "weights": torch.rand(8) + 0.1}
    made = random_set(**parts)
    made.save_pretrained(tmp_path / "set")
    found = SyntheticSet.from_pretrained(tmp_path / "set")
    assert all(torch.equal(getattr(found, name), part) for name, part in parts.items())
    sizes = made.storage()
    assert (sizes["soft_labels/float32"], sizes["weights/float32"]) == (8 * 4 * 4, 8 * 4)
    first = made.first_of_each(1)
    rows = [made.labels.tolist().index(label) for label in first.labels.tolist()]
    assert sorted(first.labels.tolist()) == [0, 1, 2, 3] and torch.equal(first.z, made.z[rows])
    assert torch.equal(first.soft_labels, made.soft_labels[rows])
