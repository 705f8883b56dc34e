from pathlib import Path

import pytest

from latentdc.data import digits
from latentdc.data import open as module
from latentdc.data.open import KNOWN, Size, class_count, kept_size, open_dataset
from latentdc.errors import InputError
from latentdc.recipe import Data


def test_the_known_size_of_digits_is_right():
    train, test = (open_dataset(Data(), split) for split in ("train", "test"))
    assert KNOWN["digits"][:3] == (len(train), len(test), train.num_classes)


def test_a_local_folder_is_counted_without_decoding(tmp_path: Path):
    for split, count in (("train", 3), ("val", 2)):
        for name in "abc":
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                (tmp_path / split / name / f"{index}.png").write_bytes(b"no image")
    assert kept_size(Data(source=str(tmp_path))) == Size(9, 6, 3, smallest=3)
    assert kept_size(Data(source=str(tmp_path), classes=["a", "c"])) == Size(6, 4, 2, smallest=3)


def test_some_classes_of_a_known_data_set_are_counted_in_proportion():
    data = Data(source="ILSVRC/imagenet-1k", resolution=64, subset="imagenette")
    assert kept_size(data) == Size(12812, 500, 10)


def test_a_data_set_to_be_downloaded_has_the_classes_that_the_recipe_names():
    named = Data(source="user/unknown", classes=["a", "b"])
    assert (kept_size(named), class_count(named)) == (None, 2)
    assert class_count(Data(source="user/unknown")) is None


def test_a_folder_that_may_not_be_looked_at_is_one_line(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(InputError, match=rf"cannot read {tmp_path}: Permission denied"):
        open_dataset(Data(source=str(tmp_path)), "train")


def test_the_first_reader_that_knows_a_source_opens_it(tmp_path, monkeypatch):
    def mine(data, split):
        if Path(data.source).suffix != ".mine":
            return None
        return digits.digits_split(Data(), split)

    (tmp_path / "a.mine").mkdir()
    monkeypatch.setattr(module, "READERS", (mine, *module.READERS))
    assert len(open_dataset(Data(source=str(tmp_path / "a.mine")), "test")) == 360
    with pytest.raises(InputError, match="has no parquet or tar files"):
        open_dataset(Data(source=str(tmp_path)), "test")
