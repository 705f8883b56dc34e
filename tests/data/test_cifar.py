"""The binary files of CIFAR-10 and CIFAR-100, written as their authors describe them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdc import open_dataset, open_splits
from latentdc.errors import InputError
from latentdc.recipe import Data
from tests.shared import shared_data

TEN = "airplane automobile bird cat deer dog frog horse ship truck".split()
FINE = [f"fine {number}" for number in range(100)]
COARSE = [f"coarse {number}" for number in range(20)]


def draw(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def write(path: Path, labels: list[list[int]], pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.hstack([np.array(labels, np.uint8), pixels]).tobytes())


def ten(root: Path) -> Path:
    """Two rows a file, so that train has every class once and so has test."""
    folder = root / "cifar-10-batches-bin"
    for number in range(5):
        labels = [[2 * number], [2 * number + 1]]
        write(folder / f"data_batch_{number + 1}.bin", labels, draw(2, number))
    write(folder / "test_batch.bin", [[label] for label in range(9, -1, -1)], draw(10, 9))
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    return folder


def hundred(root: Path) -> Path:
    folder = root / "cifar-100-binary"
    for seed, name in enumerate(("train", "test")):
        write(
            folder / f"{name}.bin", [[label // 5, label] for label in range(100)], draw(100, seed)
        )
    (folder / "fine_label_names.txt").write_text("\n".join(FINE))
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE))
    return folder


def data(source: Path, **keys) -> Data:
    return Data(source=str(source), resolution=32, **keys)


def test_rows_are_images_in_the_order_of_the_files(tmp_path):
    train, test = open_splits(data(ten(tmp_path)))
    assert train.class_names == test.class_names == tuple(TEN)
    assert train.labels.tolist() == list(range(10))
    assert test.labels.tolist() == list(range(9, -1, -1))
    pixels = np.concatenate([draw(2, number) for number in range(5)])
    assert torch.equal(train.images, torch.from_numpy(pixels.reshape(10, 3, 32, 32)))


def test_the_mark_that_windows_puts_before_names_is_no_part_of_the_first(tmp_path):
    folder = ten(tmp_path)
    names = (folder / "batches.meta.txt").read_bytes()
    (folder / "batches.meta.txt").write_bytes(b"\xef\xbb\xbf" + names)
    assert open_dataset(data(folder), "test").class_names == tuple(TEN)


def test_an_image_has_the_hash_of_its_png_in_a_folder(tmp_path):
    binary = open_dataset(data(ten(tmp_path)), "test")
    for label, row in zip(range(9, -1, -1), draw(10, 9), strict=True):
        folder = tmp_path / "tree/train" / TEN[label]
        folder.mkdir(parents=True)
        Image.fromarray(row.reshape(3, 32, 32).transpose(1, 2, 0)).save(folder / "0.png")
    tree = open_dataset(data(tmp_path / "tree"), "train")
    assert tree.hashes.tolist() == binary.hashes.tolist()[::-1]


def test_the_folder_around_it_is_a_source_too_and_classes_can_be_chosen(tmp_path):
    ten(tmp_path)
    chosen = open_dataset(data(tmp_path, classes=["frog", "cat"]), "test")
    whole = open_dataset(data(tmp_path), "test")
    assert chosen.labels.tolist() == [0, 1]  # rows 3 (label 6) and 6 (label 3)
    assert torch.equal(chosen.hashes, whole.hashes[[3, 6]])


def test_cifar_100_has_fine_labels_or_coarse_ones(tmp_path):
    train = open_dataset(data(hundred(tmp_path)), "train")
    assert train.class_names == tuple(FINE) and train.labels.tolist() == list(range(100))
    coarse = open_dataset(data(tmp_path, label="coarse_label"), "test")
    assert coarse.class_names == tuple(COARSE) and coarse.labels[37] == 7
    assert torch.equal(train.images[99].flatten(), torch.from_numpy(draw(100, 0)[99]))
    with pytest.raises(InputError, match="label columns coarse_label, fine_label"):
        open_dataset(data(tmp_path, label="label"), "train")


def test_pickles_are_not_opened_and_the_file_to_take_is_named(tmp_path):
    class Trap:
        def __reduce__(self) -> object:
            return (pytest.fail, ("a pickle was opened",))

    for name, file, meta, archive in (
        ("cifar-10-batches-py", "data_batch_1", "batches.meta", r"cifar-10-binary\.tar\.gz"),
        ("cifar-100-python", "train", "meta", r"cifar-100-binary\.tar\.gz"),
    ):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        for path in (folder / file, folder / meta):
            path.write_bytes(pickle.dumps(Trap()))
        for source in (folder, folder.parent):
            with pytest.raises(InputError, match=f"Python pickles.*take {archive}"):
                open_dataset(data(source), "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "data_batch_3.bin").unlink(), r"data_batch_3\.bin: No such file"),
        (lambda f: (f / "data_batch_3.bin").write_bytes(bytes(3074)), "3074 bytes, no multiple of"),
        (lambda f: (f / "data_batch_3.bin").write_bytes(b""), "0 bytes, no multiple of 3073"),
        (lambda f: (f / "data_batch_3.bin").write_bytes(bytes([10]) * 3073), "1 of 9 rows have"),
        (lambda f: (f / "batches.meta.txt").unlink(), r"class names .*batches\.meta\.txt"),
        (lambda f: (f / "batches.meta.txt").write_bytes(b"\xff\n"), "cannot read the class names"),
        (lambda f: hundred(f.parent), "cifar-10-batches-bin and cifar-100-binary; make one"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, damage, message):
    damage(ten(tmp_path))
    with pytest.raises(InputError, match=message):
        open_dataset(data(tmp_path), "train")


@pytest.mark.parametrize("keys", [{"test": "val"}, {"train": "training"}])
def test_other_splits_are_refused(tmp_path, keys):
    with pytest.raises(InputError, match="has the splits train and test"):
        open_dataset(data(ten(tmp_path), **keys), "train")


@pytest.mark.slow
def test_the_real_test_images_have_the_hashes_of_the_hub_s_copy(tmp_path):
    hub = open_dataset(data(shared_data("cifar10"), config="plain_text"), "test")
    ten(tmp_path)
    labels = hub.labels.unsqueeze(1).tolist()
    write(tmp_path / "cifar-10-batches-bin/test_batch.bin", labels, hub.images.flatten(1).numpy())
    binary = open_dataset(data(tmp_path), "test")
    assert torch.equal(binary.hashes, hub.hashes) and binary.class_names == hub.class_names


def test_numbers_of_imagenet_are_refused_where_classes_have_names(tmp_path):
    message = r"class_names=imagenet names labels .*'\w+'.*leave it out"
    with pytest.raises(InputError, match=message):
        open_dataset(data(ten(tmp_path), class_names="imagenet"), "train")
