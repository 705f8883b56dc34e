import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from datasets import ClassLabel, Features, Image, Value

from latentdc.data.open import open_dataset, open_splits
from latentdc.errors import InputError
from latentdc.estimates import in_bytes
from latentdc.recipe import Data
from tests.data.conftest import picture
from tests.hub import Repo, SmallHub
from tests.shared import shared_data

ANIMALS = ClassLabel(names=["cat", "dog"])


def write(folder: Path, label: list, kind=ANIMALS, *, split="train", first=0, **columns) -> Path:
    """A parquet file in the Hub's plain layout; the images are `picture(first)` and so on."""
    images = [picture(first + number) for number in range(len(label))]
    table = {"img": images, "label": label} | {name: v for name, (v, _) in columns.items()}
    features = {"img": Image(), "label": kind} | {name: f for name, (_, f) in columns.items()}
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(table, features=Features(features)).to_parquet(path)
    return folder


def data(folder: Path, **keys) -> Data:
    return Data(source=str(folder), resolution=8, **keys)


@pytest.mark.smoke
def test_image_and_label_columns_are_found_by_their_types(tmp_path):
    write(tmp_path, [0, 1, 1])
    train = open_dataset(data(tmp_path), "train")
    assert (train.class_names, train.labels.tolist()) == (("cat", "dog"), [0, 1, 1])
    assert torch.equal(train.images[2].permute(1, 2, 0), torch.tensor(list_of(picture(2))))


def list_of(image):
    width, height = image.size
    return [[list(image.getpixel((x, y))) for x in range(width)] for y in range(height)]


@pytest.mark.smoke
def test_a_parquet_set_and_a_folder_of_the_same_images_have_the_same_hashes(tmp_path, tree):
    write(tmp_path / "hub", [0, 0, 0, 1, 1, 1])
    parquet, folder = (
        open_dataset(data(tmp_path / "hub"), "train"),
        open_dataset(data(tree), "train"),
    )
    assert torch.equal(parquet.hashes, folder.hashes)


def test_a_changed_parquet_file_is_decoded_anew(tmp_path):
    write(tmp_path, [0, 1])
    before = open_dataset(data(tmp_path), "train")
    write(tmp_path, [0, 1], first=1)
    after = open_dataset(data(tmp_path), "train")
    assert after.hashes[0] == before.hashes[1]
    assert after.hashes[1] != before.hashes[0]


def test_integers_are_named_by_their_digits_in_numeric_order(tmp_path):
    write(tmp_path, [10, 9, 10], Value("int64"))
    train = open_dataset(data(tmp_path), "train")
    assert (train.class_names, train.labels.tolist()) == (("9", "10"), [1, 0, 1])


def test_chosen_classes_are_relabelled_and_the_others_not_decoded(tmp_path):
    write(tmp_path, [0, 1, 2, 0], ClassLabel(names=["cat", "dog", "owl"]))
    train = open_dataset(data(tmp_path, classes=["owl", "cat"]), "train")
    whole = open_dataset(data(tmp_path), "train")
    assert train.labels.tolist() == [1, 0, 1]
    assert torch.equal(train.images, whole.images[[0, 2, 3]])


def test_two_label_columns_must_be_told_apart(tmp_path):
    write(tmp_path, [0, 1], coarse=([1, 0], ANIMALS))
    with pytest.raises(InputError, match=r"2 label columns \(label, coarse\).*data\.label="):
        open_dataset(data(tmp_path), "train")
    assert open_dataset(data(tmp_path, label="coarse"), "train").labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train": "trian"}, "no split 'trian'; did you mean 'train'"),
        ({"label": "lable"}, r"no column 'lable'; did you mean 'label'.*img \(Image\)"),
        ({"image": "label"}, "column 'label' of .* holds no images"),
        ({"config": "other"}, "cannot open data.source=.*'other'"),
        ({"classes": ["cat", "cow"]}, "no class 'cow'"),
    ],
)
def test_what_does_not_exist_is_named(tmp_path, keys, message):
    write(tmp_path, [0, 1])
    with pytest.raises(InputError, match=message):
        open_dataset(data(tmp_path, **keys), "train")


def test_a_set_without_test_split_lists_its_splits(tmp_path):
    write(tmp_path, [0, 1])
    with pytest.raises(InputError, match=r"none of the test splits .* only train"):
        open_splits(data(tmp_path))


@pytest.mark.smoke
def test_a_source_that_the_hub_does_not_give_says_what_to_download(monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'nobody/nothing' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"Couldn't reach.*hf download.*data\.source=FOLDER"):
        open_dataset(Data(source="nobody/nothing"), "train")


def test_a_missing_folder_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(InputError, match="no folder"):
        open_dataset(data(tmp_path / "absent"), "train")


@pytest.mark.slow
def test_cifar10_test_split_has_ten_thousand_different_images():
    source = str(shared_data("cifar10"))
    test = open_dataset(Data(source=source, config="plain_text", resolution=32), "test")
    assert (len(test), test.class_names[3], test.labels.bincount().tolist()) == (
        (10000, "cat", [1000] * 10)
    )
    assert len(test.hashes.unique()) == 10000


@pytest.mark.slow
def test_what_a_repository_without_parquet_files_costs_is_said_once(tmp_path):
    """In processes of their own, which find the Hub by HF_ENDPOINT alone."""
    contents = {}
    for split, label in itertools.product(("train", "test"), ("cat", "dog")):
        for number in range(2):
            file = io.BytesIO()
            picture(number).save(file, "PNG")
            contents[f"{split}/{label}/{number}.png"] = file.getvalue()
    size = sum(map(len, contents.values()))
    script = (
        "from latentdc import open_splits\nfrom latentdc.recipe import Data\n"
        "train, test = open_splits(Data(source='user/pets', resolution=8, cache='cache'))\n"
        "print(len(train), len(test), train.class_names)\n"
    )
    with SmallHub().running() as hub:
        repo = hub.repos["datasets/user/pets"] = Repo(private=False)
        repo.commit("main", {**contents, "extra/notes.bin": b"no image" * 999})

        def opened() -> str:
            changed = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
            changed |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **changed},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout == "4 4 ('cat', 'dog')\n", done.stderr
            return done.stderr

        told = f"`datasets` downloads its files, {in_bytes(size)} in all, and writes tables of"
        assert opened().count(told) == 1 and told not in opened()
