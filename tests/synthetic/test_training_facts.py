"""What students of a set need beside its images: soft labels, a learning rate, a whitening, ..."""

from dataclasses import replace

import pytest
import torch

from latentdc.errors import InputError
from latentdc.preprocessing import Normalization, Whitening
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.folder import FILES, WHITENING
from latentdc.synthetic.synthetic_set import set_hash
from tests.evaluate.toys import stripes
from tests.synthetic.sets import card_of, random_set


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
    card = card_of(random_set(learned_lr=0.0123, whitening=whitening()))
    assert "learning rate of 0.0123 for students trained by SGD" in card
    assert "mean [0.485, 0.456, 0.406]" in card and "`zca.safetensors`" in card
    weighed = card_of(random_set(weights=torch.tensor([1.0] * 7 + [9.0])))
    assert "weigh 0.5 to 4.5 times their mean (`weights` in `latents.safetensors`)" in weighed
    plain = card_of(random_set())
    assert not any(word in plain for word in ("zca", "SGD", "weigh "))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"learned_lr": 0.0}, "learned_lr is a positive number, got 0.0"),
        ({"learned_lr": float("nan")}, "got nan"),
        ({"soft_labels": torch.zeros(8, 3)}, r"soft_labels is float32 with a shape of \(8, 4\)"),
        (
            {"soft_labels": torch.eye(4).repeat(2, 1) * 0.6 + 0.1},
            "are probabilities",
        ),
        ({"weights": torch.zeros(8)}, "weights are what .* all above 0"),
        ({"images": torch.rand(8, 3, 8, 8) * 255}, "look like levels 0 to 255; make them uint8"),
        ({"grid": 0}, "grid is the number of pictures along a side"),
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


def test_the_grid_is_saved_with_the_set(tmp_path):
    for grid in (2, None):
        random_set(grid=grid).save_pretrained(tmp_path / "set")
        assert SyntheticSet.from_pretrained(tmp_path / "set").grid == grid


def test_a_hash_follows_from_what_students_learn_from_alone():
    data = stripes(2000)
    assert len(set_hash(data)) == 16
    assert set_hash(data) == set_hash(replace(data, images=data.images.clone(), name="copy"))
    made = SyntheticSet.from_real(data)
    assert set_hash(data) == set_hash(made) == set_hash(replace(made, provenance={"seed": 1}))
    last = data.images.clone()
    last[-1, 0, 0, 0] ^= 1
    others = [
        replace(data, images=last),
        replace(made, images=data.images.float() - 1),
        replace(made, images=data.images.float().view(2000, 192)),
        replace(data, labels=data.labels.flip(0)),
        replace(data, class_names=("columns", "rows", "chessboard")),
        data.select(torch.arange(1999)),
        replace(made, soft_labels=torch.zeros(2000, 3)),
        replace(made, weights=torch.ones(2000)),
    ]
    assert len({set_hash(other) for other in [data, *others]}) == 9


def test_a_set_whose_whitening_is_lost_or_of_another_set_is_refused(tmp_path):
    random_set(whitening=whitening()).save_pretrained(tmp_path / "set")
    path = tmp_path / "set" / WHITENING
    path.unlink()
    with pytest.raises(InputError, match=rf"{WHITENING} is missing; bring back the whole folder"):
        SyntheticSet.from_pretrained(tmp_path / "set")
    other = replace(whitening(), images="others")
    random_set(whitening=other).save_pretrained(tmp_path / "other")
    path.write_bytes((tmp_path / "other" / WHITENING).read_bytes())
    with pytest.raises(InputError, match=r"damaged, or none of latentdc's \(it is of another set"):
        SyntheticSet.from_pretrained(tmp_path / "set")
