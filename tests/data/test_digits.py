import hashlib

import pytest
import torch
from sklearn.datasets import load_digits

from latentdc.data.digits import split_rows
from latentdc.data.open import open_dataset, open_splits
from latentdc.errors import InputError
from latentdc.recipe import Data


@pytest.mark.smoke
def test_the_split_is_part_of_the_definition_and_never_changes():
    rows = split_rows(load_digits().target)
    assert (len(rows["train"]), len(rows["test"])) == (1437, 360)
    assert not set(rows["train"].tolist()) & set(rows["test"].tolist())
    digest = hashlib.sha256(repr(rows["test"].tolist()).encode()).hexdigest()
    assert digest.startswith("9f682b80f7670c11")


def test_the_split_is_stratified():
    train, test = open_splits(Data())
    tested = torch.tensor(test.counts)
    share = tested / (torch.tensor(train.counts) + tested)
    torch.testing.assert_close(share, torch.full((10,), 360 / 1797), atol=0.003, rtol=0)


def test_levels_span_the_range_and_match_the_scans_at_their_own_size():
    digits = load_digits()
    row = split_rows(digits.target)["train"][5]
    image = open_dataset(Data(resolution=8), "train").images[5]
    expected = torch.tensor(digits.images[row] * 255 / 16).round().to(torch.uint8)
    assert all(torch.equal(channel, expected) for channel in image)


def test_images_are_enlarged_to_the_resolution():
    assert open_dataset(Data(resolution=32), "test").images.shape == (360, 3, 32, 32)


def test_hashes_do_not_depend_on_the_resolution():
    small, large = (open_dataset(Data(resolution=r), "test") for r in (8, 16))
    assert torch.equal(small.hashes, large.hashes)
    assert len(small.hashes.unique()) == 360


def test_chosen_classes_get_the_labels_of_their_new_order():
    whole, chosen = (open_dataset(Data(classes=c), "train") for c in (None, ["7", "2"]))
    assert chosen.class_names == ("7", "2")
    assert torch.equal(chosen.hashes[chosen.labels == 0], whole.hashes[whole.labels == 7])
    assert len(chosen) == int(((whole.labels == 7) | (whole.labels == 2)).sum())


def test_another_split_name_is_refused():
    with pytest.raises(InputError, match="digits has the splits train and test"):
        open_dataset(Data(test="val"), "test")
