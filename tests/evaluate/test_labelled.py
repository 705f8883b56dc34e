from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from latentdc.errors import InputError
from latentdc.evaluate.labelled import require_comparable, set_hash
from tests.evaluate.toys import stripes


def test_a_set_hash_follows_from_images_labels_and_class_names_alone():
    data = stripes(2000)
    assert len(set_hash(data)) == 16
    assert set_hash(data) == set_hash(replace(data, images=data.images.clone(), name="copy"))
    last = data.images.clone()
    last[-1, 0, 0, 0] ^= 1
    others = [
        replace(data, images=last),
        holding(data, data.images.float()),
        holding(data, data.images.view(2000, 3, 4, 16)),
        replace(data, labels=data.labels.flip(0)),
        replace(data, class_names=("columns", "rows", "chessboard")),
        data.select(torch.arange(1999)),
    ]
    assert len({set_hash(other) for other in [data, *others]}) == 7


def holding(data, images) -> SimpleNamespace:
    """A labelled set of any images, as synthetic sets are; a `Dataset` holds square levels."""
    return SimpleNamespace(images=images, labels=data.labels, class_names=data.class_names)


def test_classes_in_another_order_are_refused_by_name():
    data = replace(stripes(6), class_names=("columns", "rows", "chessboard"))
    with pytest.raises(InputError, match="class 0 is 'columns' in the distilled set and 'rows'"):
        require_comparable(data, stripes(6), "distilled")


def test_another_number_of_classes_is_refused():
    data = replace(stripes(6), class_names=("rows", "columns", "chessboard", "dots"))
    with pytest.raises(InputError, match="the distilled set has 4 classes, the test set 3"):
        require_comparable(data, stripes(6), "distilled")


def test_another_resolution_is_refused():
    with pytest.raises(InputError, match=r"16x16 px, the test set 8x8; .*data.resolution=16"):
        require_comparable(stripes(6, resolution=16), stripes(6), "distilled")
