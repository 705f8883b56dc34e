import pytest
import torch

from latentdc.data.open import open_dataset, open_splits
from latentdc.errors import InputError
from latentdc.recipe import Data


def open_tree(tree, split="train", **keys):
    return open_dataset(Data(source=str(tree), resolution=8, **keys), split)


def test_classes_are_the_sorted_folders_and_val_is_found_as_the_test_split(tree):
    train, test = open_splits(Data(source=str(tree), resolution=8))
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    assert train.hashes.shape == (6,)


def test_a_moved_and_renamed_image_keeps_its_hash(tree):
    before = open_tree(tree)
    (tree / "train/cat/0.png").rename(tree / "train/cat/9.png")
    after = open_tree(tree)
    assert after.hashes.tolist() == before.hashes[[1, 2, 0, 3, 4, 5]].tolist()
    assert torch.equal(after.images, before.images[[1, 2, 0, 3, 4, 5]])


def test_left_out_classes_are_not_decoded(tree):
    (tree / "train/bird").mkdir()
    (tree / "train/bird/0.png").write_bytes(b"damaged")
    assert open_tree(tree, classes=["dog", "cat"]).labels.tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(InputError, match="cannot decode"):
        open_tree(tree)


def test_an_unreadable_image_is_named(tree):
    (tree / "train/dog/1.png").write_bytes((tree / "train/dog/1.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"dog/1\.png.*data\.unreadable=skip"):
        open_tree(tree)


def test_skipped_images_are_counted_every_time(tree, capsys):
    (tree / "train/dog/1.png").write_bytes(b"not an image")
    for _ in range(2):
        assert open_tree(tree, unreadable="skip").labels.tolist() == [0, 0, 0, 1, 1]
        assert "left out 1 of 6 images" in capsys.readouterr().out


def test_a_class_whose_images_were_all_skipped_is_refused(tree):
    for path in (tree / "train/dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no images of 1 of its 2 classes: dog"):
        open_tree(tree, unreadable="skip")


def test_an_empty_class_is_refused(tree):
    (tree / "train/bird").mkdir()
    (tree / "train/bird/notes.txt").write_text("none yet")
    with pytest.raises(InputError, match="no images of 1 of its 3 classes: bird"):
        open_tree(tree)


def test_splits_with_other_classes_are_refused_before_anything_is_decoded(tree, tmp_path):
    (tree / "val/dog").rename(tree / "val/wolf")
    with pytest.raises(InputError, match="only one of them has dog, wolf"):
        open_splits(Data(source=str(tree), resolution=8))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("keys", "split", "message"),
    [
        ({"train": "trian"}, "train", "neither parquet files nor a folder trian/<class>/"),
        ({"test": "test"}, "test", r"no folder .*test/<class>/; .*holds \['train', 'val'\]"),
        ({"classes": ["cat", "dgo"]}, "train", "no class 'dgo'; did you mean 'dog'"),
        ({"classes": ["cat"]}, "train", "single class"),
        ({"classes": ["cat", "cat", "dog"]}, "train", "names a class twice"),
    ],
)
def test_what_does_not_exist_is_named(tree, keys, split, message):
    with pytest.raises(InputError, match=message):
        open_tree(tree, split, **keys)


def test_a_tree_without_test_split_lists_what_it_has(tree):
    (tree / "val").rename(tree / "holdout")
    with pytest.raises(InputError, match=r"none of the test splits.*\['holdout', 'train'\]"):
        open_tree(tree, "test")
