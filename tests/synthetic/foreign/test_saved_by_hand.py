"""What people save with torch.save and numpy.savez, and what hostile or damaged files hold."""

import io
import os
import re
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from latentdc.data import files
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError
from latentdc.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from latentdc.recipe import Data
from latentdc.synthetic.open import find_set, open_set
from tests.synthetic.foreign.test_numbers import distilled, evaluate, real, refused, write

CLASSES = ["ant", "bee", "cat"]
LEVELS = np.concatenate([distilled(kind) for kind in range(3)])  # (6, 8, 8, 3), by class
FIRST = np.ascontiguousarray(LEVELS.transpose(0, 3, 1, 2))  # channels first
IMAGES, LABELS = torch.from_numpy(FIRST), torch.tensor([0, 0, 1, 1, 2, 2])
PLAIN = IMAGES.float() / 255
NORMALISED = (PLAIN - torch.tensor(IMAGENET_MEAN).view(-1, 1, 1)) / torch.tensor(IMAGENET_STD).view(
    -1, 1, 1
)
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


REAL = Dataset(IMAGES, LABELS, CLASSES, torch.arange(6), "real")  # whose classes sets are put into


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def three(desk):
    """Three classes with names, and the pictures of a distilled set in folders of these names."""
    real(Path(), CLASSES)
    folders()


def folders() -> None:
    for kind, name in enumerate(CLASSES):
        write(Path("folders", name), distilled(kind))


def opened(name, **keys):
    data = Data(source="real", resolution=8, **keys)
    return open_set(find_set(name), REAL, data)[0]


def same(name: str) -> bool:
    """Whether it is the distilled set."""
    found = opened(name)
    return torch.equal(found.images, IMAGES) and torch.equal(found.labels, LABELS)


def told(name: str) -> str:
    """The one line that refuses it."""
    with pytest.raises(InputError) as error:
        opened(name)
    assert "\n" not in str(error.value)
    return str(error.value)


SAVED = {
    "tuple": (IMAGES, LABELS),
    "list": [IMAGES, LABELS],
    "dictionary": {"images": IMAGES, "labels": LABELS},
    "other words": {"data": IMAGES, "targets": LABELS},
    "dictionary of x and y": {"X_train": IMAGES, "y_train": LABELS.int()},
    "labels in a column": (IMAGES, LABELS[:, None]),
    "labels as floats": (IMAGES, LABELS.float()),
    "labels as a list": (IMAGES, LABELS.tolist()),
    "one-hot labels": (IMAGES, torch.eye(3)[LABELS]),
    "one-hot labels of whole numbers": (IMAGES, torch.eye(3).long()[LABELS]),
    "levels as int64": (IMAGES.long(), LABELS),
    "channels last": (torch.from_numpy(LEVELS), LABELS),
    "numpy": (FIRST, LABELS.numpy()),
    "numpy of int32": {"images": LEVELS, "labels": LABELS.numpy().astype(np.int32)},
    "big-endian labels": (FIRST, LABELS.numpy().astype(">i8")),
    "pairs of single images": list(zip(IMAGES, LABELS.tolist(), strict=True)),
    "a list of images": {"images": list(IMAGES), "labels": LABELS},
    "experiments in a list": [[IMAGES, LABELS]],
    "names of classes as labels": (IMAGES, [CLASSES[k] for k in LABELS]),
    "class names in another order": {
        "images": IMAGES,
        "labels": 2 - LABELS,
        "class_names": CLASSES[::-1],
    },
    "indices of classes": {
        "images": IMAGES,
        "labels": 2 - LABELS,
        "class_to_idx": {"ant": 2, "bee": 1, "cat": 0},
    },
    "one thing under two names": {"images": IMAGES, "data": IMAGES, "y": LABELS, "labels": LABELS},
    "classes under two names": {
        "images": IMAGES,
        "labels": 2 - LABELS,
        "classes": CLASSES[::-1],
        "class_to_idx": {"ant": 2, "bee": 1, "cat": 0},
    },
    "labels of numpy in pairs": [(one, np.int64(k)) for one, k in zip(IMAGES, LABELS, strict=True)],
    "a count of classes": {"images": IMAGES, "labels": LABELS, "classes": 3},
    "numbers of classes": {"images": IMAGES, "labels": LABELS, "classes": torch.arange(3)},
    "a count and names of classes": {"images": IMAGES, "labels": LABELS, "Classes": 3}
    | {"class_names": CLASSES},
    "numbers and names of classes": {"images": IMAGES, "labels": LABELS, "classes": torch.arange(3)}
    | {"class_names": CLASSES},
    "notes under names of images": {"images": IMAGES, "labels": LABELS, "data": "cifar10", "x": 3}
    | {"img": [8, 8], "imgs": ["a.png"], "image": {"size": 8}, "syn_images": torch.tensor(6)},
    "notes under names of labels": {"images": IMAGES, "labels": LABELS, "target": "accuracy"}
    | {"y": np.float32(0.5)},
    "one thing in two forms": {"images": IMAGES, "data": list(FIRST), "labels": LABELS}
    | {"y": LABELS.bfloat16(), "targets": torch.nn.Parameter(LABELS.float())},
    "halves under two names": {"images": IMAGES, "labels": LABELS.bfloat16()}
    | {"y": LABELS.bfloat16()},
    "a class number as a word": {"images": IMAGES, "labels": LABELS}
    | {"class_to_idx": {"ant": 0, "bee": "1", "cat": 2}},
    "words of papers' code": {"image_syn": IMAGES, "label_syn": LABELS},
    "a learned rate beside them": (IMAGES, LABELS, 0.01),
    "images of each class by name": {name: IMAGES[2 * k :][:2] for k, name in enumerate(CLASSES)},
    "images of each class by number": {k: FIRST[2 * k :][:2] for k in range(3)},
    "requires grad": (IMAGES, torch.nn.Parameter(LABELS.float())),
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_levels_and_labels_are_read_in_all_the_forms_that_people_save(desk, capsys, content):
    torch.save(content, "set.pt")
    assert same("set.pt") and "warning" not in capsys.readouterr().err


SOFT = torch.eye(3)[LABELS] * 4 + torch.arange(18.0).view(6, 3) / 10


@pytest.mark.parametrize("save", [torch.save, lambda parts, name: np.savez(name, **parts)])
def test_soft_labels_beside_hard_ones_are_read_with_them(desk, save):
    name = "set.pt" if save is torch.save else "set.npz"
    for key, soft in (("soft_labels", SOFT), ("Soft_Label", SOFT.softmax(1))):
        save({"images": IMAGES, "labels": LABELS.flip(0), key: soft}, name)
        found = opened(name)
        assert torch.equal(found.labels, LABELS.flip(0))
        torch.testing.assert_close(found.soft_labels.softmax(1), SOFT.softmax(1))
        save({"images": IMAGES, key: soft}, name)
        assert torch.equal(opened(name).labels, LABELS)


@pytest.mark.parametrize("save", [torch.save, lambda parts, name: np.savez(name, **parts)])
def test_what_else_lies_beside_images_and_labels_is_told(desk, capsys, save):
    name = "set.pt" if save is torch.save else "set.npz"
    save({"images": IMAGES, "labels": LABELS, "lr": 0.3, "mean": np.zeros(3)}, name)
    assert same(name)
    told = f"note: {name}: not read: lr, mean; beside images and labels there may be class_names, "
    assert told in capsys.readouterr().err
    save({"images": IMAGES, "labels": LABELS, "weights": LABELS + 1.0}, name)
    opened(name)
    assert "not read" not in capsys.readouterr().err


WORDS = [CLASSES[k] for k in LABELS]
SAVE = {"set.pt": torch.save, "set.npz": lambda parts, name: np.savez(name, **parts)}
NO_SOFT_LABELS = {
    "a flag": True,
    "a flag that is off": False,
    "an empty list": [],
    "an empty dictionary": {},
    "a path": "soft/labels.pt",
    "an array of no dimension": np.array(3.0),
    "texts": WORDS,
    "one number for each image": LABELS + 0.5,
    "one column": SOFT[:, :1],
    "one for each view": SOFT[:, None].repeat(1, 4, 1),
    "other rows": SOFT[:4],
    "a mask": SOFT > 3,
}


def not_read(name: str, capsys) -> bool:
    """Whether the set is as without its soft labels, and says so."""
    assert opened(name).soft_labels is None and same(name)
    found = capsys.readouterr().err
    return re.search(r"not read: .*soft_labels?;.* Soft labels are", found) is not None


@pytest.mark.parametrize("value", NO_SOFT_LABELS.values(), ids=NO_SOFT_LABELS)
@pytest.mark.parametrize("labels", [LABELS, torch.eye(3)[LABELS], WORDS])
def test_what_has_the_name_of_soft_labels_alone_is_passed_over(desk, capsys, value, labels):
    parts = {"images": IMAGES, "labels": labels, "soft_labels": value}
    torch.save(parts, "set.pt")
    assert not_read("set.pt", capsys)
    torch.save(parts | {"labels": LABELS, "soft_label": "another"}, "set.pt")
    assert not_read("set.pt", capsys)
    if not isinstance(value, dict):
        SAVE["set.npz"](parts, "set.npz")
        assert not_read("set.npz", capsys)


def test_of_two_names_the_soft_labels_are_read_and_the_note_is_told(desk, capsys):
    torch.save(
        {"images": IMAGES, "labels": LABELS, "soft_labels": True, "soft_label": SOFT}, "s.pt"
    )
    assert torch.equal(opened("s.pt").soft_labels, SOFT)
    assert "not read: soft_labels; " in capsys.readouterr().err


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("words", [WORDS, np.array(WORDS)], ids=["list", "array"])
def test_words_as_labels_are_read_beside_soft_labels(desk, capsys, name, words):
    if name == "set.pt":
        words = list(map(str, words))
    parts = {"images": IMAGES, "labels": words, "soft_labels": SOFT}
    SAVE[name](parts, name)
    assert not_read(name, capsys)
    columns = SOFT.flip(1)
    SAVE[name](parts | {"soft_labels": columns, "class_names": CLASSES[::-1]}, name)
    assert same(name) and torch.equal(opened(name).soft_labels, SOFT)
    assert "not read" not in capsys.readouterr().err
    SAVE[name](parts | {"soft_labels": SOFT[:, 0], "class_names": CLASSES[::-1]}, name)
    assert not_read(name, capsys)
    SAVE[name](parts | {"class_names": ["ant", "bee", "dog"]}, name)
    assert "words that its class names lack, such as cat; save class names" in told(name)


def test_labels_stay_what_they_were_beside_soft_labels(desk, capsys):
    one_hot, others = torch.eye(3)[LABELS.flip(0)], SOFT.roll(1, 1)
    torch.save({"images": IMAGES, "labels": LABELS, "soft_labels": one_hot}, "set.pt")
    assert not_read("set.pt", capsys)  # which would be classes, and others
    torch.save({"images": IMAGES, "labels": SOFT, "soft_labels": others}, "set.pt")
    assert torch.equal(opened("set.pt").soft_labels, SOFT) and same("set.pt")
    assert "not read: soft_labels; " in capsys.readouterr().err
    parts = {"images": IMAGES, "labels": LABELS, "hard_labels": LABELS.flip(0)}
    torch.save(parts | {"soft_labels": SOFT}, "set.pt")
    assert same("set.pt") and torch.equal(opened("set.pt").soft_labels, SOFT)


def test_soft_labels_of_other_classes_are_refused(desk):
    torch.save({"images": IMAGES, "labels": LABELS, "soft_labels": SOFT[:, :2]}, "set.pt")
    assert "its soft labels are of 2 classes, the test set has 3" in told("set.pt")


def test_unnamed_arrays_are_read_beside_soft_labels(desk):
    np.savez("set.npz", LEVELS, LABELS, soft_labels=SOFT)
    assert same("set.npz")


GREY = IMAGES[:, :1]


@pytest.mark.parametrize("images", [GREY, GREY[:, 0], GREY.movedim(1, 3)])
def test_grey_images_become_rgb_as_real_ones_do(desk, images):
    torch.save((images, LABELS), "set.pt")
    assert torch.equal(opened("set.pt").images, GREY.expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": FIRST, "labels": LABELS},
        {"x_train": LEVELS, "y_train": LABELS[:, None], "x_test": LEVELS},
        {"x": LEVELS, "y": LABELS, "classes": np.arange(3), "class_names": np.array(CLASSES)},
        {"arr_0": LEVELS, "arr_1": LABELS},
        {"images": LEVELS, "labels": np.array([CLASSES[k] for k in LABELS])},
        {name: LEVELS[2 * k :][:2] for k, name in enumerate(CLASSES)},
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_read(desk, arrays, save):
    save("set.npz", **arrays)
    assert same("set.npz")


def test_class_folders_under_train_are_the_set_and_hidden_ones_are_not(desk):
    folders()
    for kind, name in enumerate(CLASSES):
        write(Path("split", "train", name), distilled(kind))
        write(Path("split", "val", name), distilled(kind)[:1])
        Path("folders", name, f"._{name}.png").write_bytes(b"what a file system left")
        write(Path("folders", name, ".ipynb_checkpoints"), distilled(kind))
    write(Path("folders", "@eaDir"), distilled(0))
    Path("split", "train", ".ipynb_checkpoints").mkdir()
    assert same("split") and same("folders")


def test_pictures_may_lie_one_folder_below_their_class(desk):
    for kind, name in enumerate(CLASSES):
        write(Path("deep", name, "images"), distilled(kind))
        write(Path("deep_train", "train", name, "images"), distilled(kind))
        write(Path("wrapped", "ipc2", name), distilled(kind))
    assert all(map(same, ("deep", "deep_train", "wrapped/ipc2")))
    assert "1 class that the test set has not: ipc2" in told("wrapped")


@pytest.mark.parametrize("name", ["set.npy", "set.tar", "set.zip", "set.pkl", "set.pth.tar", "set"])
def test_files_of_other_kinds_and_folders_without_sets_say_what_is_one(desk, name):
    Path(name).write_bytes(b"")
    with pytest.raises(InputError, match=r"no kind that can be scored: .* \.npz of others; unpack"):
        find_set(name)
    Path("logged").mkdir()
    torch.save(IMAGES, "logged/images_5000.pt")
    with pytest.raises(InputError, match=r"images_best\.pt beside .* Name the folder, or the \.pt"):
        find_set("logged")


def test_a_class_may_be_called_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real(tmp_path, ["car", "train"])
    for kind, name in enumerate(["car", "train"]):
        write(Path("set", name), distilled(kind))
    evaluate("set")


def test_normalised_images_are_silent_and_unclamped_ones_too(desk, capsys):
    for images in (NORMALISED, 3 * NORMALISED):
        torch.save((images, LABELS), "a.pt")
        opened("a.pt")
    assert "within" not in capsys.readouterr().err


def signed() -> torch.Tensor:
    images = PLAIN * 2 - 1
    images[0, :, 0, 0], images[0, :, 0, 1] = -1, 1
    return images


HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.mark.parametrize(
    ("images", "scale", "keys"),
    [(PLAIN, "[0, 1]", RAW), (signed().half(), "[-1, 1]", HALVES)],
)
def test_images_that_nobody_normalised_are_warned_of_with_the_keys_that_help(
    desk, capsys, images, scale, keys
):
    torch.save((images, LABELS), "set.pt")
    opened("set.pt")
    said = capsys.readouterr().err
    assert f"values all lie within {scale}" in said
    assert all(f"data.{k}=[{','.join(f'{x:g}' for x in v)}]" in said for k, v in keys.items())
    opened("set.pt", **keys)
    assert "within" not in capsys.readouterr().err


def test_values_of_a_range_that_normalised_images_never_have_are_warned_of(desk, capsys):
    torch.save((PLAIN * 8, LABELS), "dark.pt")
    opened("dark.pt")
    assert "its values all lie within [0, 7." in capsys.readouterr().err
    torch.save((signed(), LABELS), "signed.pt")
    opened("signed.pt", **RAW)
    assert "its values all lie within [-1, 1]" in capsys.readouterr().err
    for images, warned in ((NORMALISED, True), (PLAIN * 1.2 - 0.1, False)):
        torch.save({"images": images, "labels": LABELS, "class_names": CLASSES}, "named.pt")
        opened("named.pt")
        said = capsys.readouterr().err
        assert ("plain pictures in [0, 1], since class names lie with them" in said) == warned


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (PLAIN * 255, "They look like levels 0 to 255: save them as uint8."),
        (NORMALISED * 1000, "Give the data.mean, data.std and data.zca"),
        (-PLAIN * 255, "Give the data.mean, data.std and data.zca"),
    ],
)
def test_values_beyond_ten_times_white_are_refused(desk, images, advice):
    for names in ({}, {"class_names": CLASSES}):
        torch.save({"images": images, "labels": LABELS} | names, "set.pt")
        error = told("set.pt")
        assert "times white" in error and advice in error


class Code:
    def __reduce__(self):
        return (print, ("run",))


NOT_SETS = {
    "a number": 3,
    "a word": "images",
    "none": None,
    "an empty list": [],
    "an empty dictionary": {},
    "numbers for keys": {0: IMAGES, 1: LABELS},
    "three parts": (IMAGES, LABELS, LABELS),
    "data that is no list": {"data": 3},
    "data of nothing": {"data": []},
    "data of one part": {"data": [[IMAGES]]},
    "code": (IMAGES, Code()),
    "an object array": (np.array([None] * 6), LABELS),
    "a sparse tensor": (IMAGES.float().to_sparse(), LABELS),
    "complex images": (IMAGES.to(torch.complex64), LABELS),
    "no pixels": (IMAGES[:, :, :0], LABELS),
    "no images": (IMAGES[:0], LABELS[:0]),
    "true and false": (IMAGES > 3, LABELS),
    "levels beyond 255": (IMAGES.long() * 2, LABELS),
    "five dimensions": (IMAGES[None], LABELS),
    "images of two sizes": ([IMAGES[0], IMAGES[0, :, :4]] * 3, LABELS),
    "not a number": (NORMALISED / 0, LABELS),
    "labels in between": (IMAGES, LABELS + 0.5),
    "labels that are not numbers": (IMAGES, LABELS / 0.0),
    "labels below zero": (IMAGES, LABELS - 1),
    "labels of true and false": (IMAGES, LABELS > 0),
    "one label": (IMAGES, torch.tensor(3)),
    "labels of three dimensions": (IMAGES, LABELS[:, None, None]),
    "half of the labels": (IMAGES, LABELS[:3]),
    "other words for labels": (IMAGES, ["wasp"] * 6),
    "class names that are none": {"images": IMAGES, "labels": LABELS, "class_names": IMAGES},
    "classes that are not numbered": {
        "images": IMAGES,
        "labels": LABELS,
        "class_to_idx": {"ant": 1, "bee": 2, "cat": 3},
    },
    "pictures in [0, 1] as whole numbers": ((IMAGES > 127).byte(), LABELS),
    "two sets of images": {"images": IMAGES, "data": 255 - IMAGES, "labels": LABELS},
    "two spellings of images": {"Images": IMAGES, "images": 255 - IMAGES, "labels": LABELS},
    "two sets of labels": {"images": IMAGES, "labels": LABELS, "targets": 2 - LABELS},
    "two orders of classes": {
        "images": IMAGES,
        "labels": LABELS,
        "class_names": CLASSES,
        "class_to_idx": {"ant": 2, "bee": 1, "cat": 0},
    },
    "classes by number": {"images": IMAGES, "labels": LABELS, "classes": dict(enumerate(CLASSES))},
    "a class without a number": {"images": IMAGES, "labels": LABELS}
    | {"class_names": {"ant": None, "bee": 1, "cat": 2}},
    "weights of a network": {"images": IMAGES, "labels": LABELS}
    | {"weights": {"conv.weight": PLAIN, "conv.bias": PLAIN}},
    "a dictionary in a dictionary": {"data": {"images": IMAGES, "labels": LABELS}, "epoch": 3},
    "labels beyond the class names": {"images": IMAGES, "labels": LABELS, "class_names": ["ant"]},
    "a picture that is repeated": (IMAGES[:1].expand(10**9, 3, 8, 8), LABELS),
}


NOT_SETS["classes of two sizes"] = {"ant": IMAGES, "bee": IMAGES[:, :, :4], "cat": IMAGES}
NOT_SETS["images that are no squares"] = (IMAGES[:, :, :4], LABELS)
NOT_SETS["one class many times"] = {"ant": IMAGES[:1].expand(10**9, 3, 8, 8), "bee": IMAGES}
NOT_SETS["one picture many times"] = ([torch.zeros(3, 256, 256)] * 2000, LABELS)
LAUGHS: list = [IMAGES[0]]
for _ in range(40):  # 2**40 pictures, had anybody looked at them all
    LAUGHS = [LAUGHS, LAUGHS]
NOT_SETS["lists of lists for images"] = (LAUGHS, LABELS)
NOT_SETS["lists of lists for labels"] = (IMAGES, LAUGHS)
NOT_SETS["lists of lists for pairs"] = LAUGHS
NOT_SETS["numbers without end"] = (IMAGES, [10**30] * 6)


@pytest.mark.parametrize("content", NOT_SETS.values(), ids=NOT_SETS)
def test_what_is_no_set_is_refused_in_one_line(desk, capsys, content):
    torch.save(content, "set.pt")
    assert "set.pt" in told("set.pt")
    assert "run\n" not in capsys.readouterr().out


@pytest.mark.parametrize("rate", [float("nan"), -0.1, 0.0, torch.ones(3), "fast", None])
def test_learning_rates_that_are_none_are_refused(desk, rate):
    Path("logged").mkdir()
    torch.save(NORMALISED, "logged/images_best.pt")
    torch.save(LABELS, "logged/labels_best.pt")
    torch.save(rate, "logged/lr_best.pt")
    assert "lr_best.pt" in told("logged")


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_damaged_files_are_refused_in_one_line(desk, suffix):
    torch.save((IMAGES, LABELS), "whole.pt")
    np.savez("whole.npz", images=FIRST, labels=LABELS)
    content, path = Path(f"whole{suffix}").read_bytes(), Path(f"damaged{suffix}")
    damaged = [b"", b"PK\x03\x04", content[:100], content[: len(content) // 2], content[:-30]]
    for place in range(0, len(content), 31):
        damaged.append(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    refusals = []
    for part in damaged:
        path.write_bytes(part)
        try:
            found = opened(str(path))
            assert found.images.shape == (6, 3, 8, 8) and len(found.labels) == 6
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 5 and not any("\n" in refusal for refusal in refusals)


def npz_bomb(path: str) -> None:
    """More than 2**28 zeros in a 1000th of that, and a header that says so."""
    header = io.BytesIO()
    shape = (17 * 2**24 // 192, 3, 8, 8)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w") as member:
            member.write(header.getvalue())
            for _ in range(17):
                member.write(bytes(2**24))
        archive.writestr("labels.npy", b"")


def png_bomb(path: Path, width: int, height: int) -> None:
    """A header of this size, before what little there is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10**6))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(9, 8), (8000, 8000), (60000, 60000), (2**30, 8)])
def test_pictures_of_another_size_are_refused_by_their_headers(desk, width, height):
    folders()
    png_bomb(Path("folders", "bee", "0.png"), width, height)
    began = time.process_time()
    error = told("folders")
    assert "bee" in error and "0.png" in error and time.process_time() - began < 5
    png_bomb(Path("folders", "ant", "0.png"), width, height)
    assert "8x8 px" in (error := told("folders")) or "cannot decode" in error


def test_small_files_that_claim_gigabytes_are_refused(desk):
    npz_bomb("bomb.npz")
    assert "would unpack" in told("bomb.npz")
    Path("bomb.npz").rename("bomb.pt")
    assert "would unpack" in told("bomb.pt")
    shape = (10**7, 3, 64, 64)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile("header.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100))
        archive.writestr("labels.npy", b"")
    assert "header.npz" in told("header.npz")


def test_what_only_looks_like_a_picture_is_refused_or_passed_over(desk):
    folders()
    os.mkfifo("folders/ant/pipe.png")  # reading it would never end
    Path("folders/ant/folder.png").mkdir()
    assert same("folders")
    for content in (b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", b"GIF89a"):
        Path("folders/ant/x.png").write_bytes(content)
        assert "cannot decode" in told("folders")
    Path("folders/ant/x.png").unlink()
    with Path("folders/ant/x.png").open("wb") as file:
        file.truncate(2**40)
    assert "it has more than 1024 MiB" in told("folders")


def rows_file(path: str, images: object, labels: object, note: bytes | None = None) -> None:
    table = pa.table({"image": images, "label": labels})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"huggingface": note} if note else None), path)


def encoded() -> list[bytes]:
    found = []
    for image in LEVELS:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def test_parquet_files_with_bare_bytes_are_read(desk):
    rows_file("rows/train/0000.parquet", pa.array(encoded(), pa.binary()), LABELS.tolist())
    assert same("rows")


IMAGE, LABEL = '"image": {"_type": "Image"}', '"label": {"_type": "ClassLabel", "names": ["ant"]}'
ROWS = {
    "deep notes": (
        encoded(),
        LABELS.tolist(),
        b'{"info":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ),
    "broken notes": (encoded(), LABELS.tolist(), b'{"info":'),
    "notes of something else": (encoded(), LABELS.tolist(), b'{"info": {"features": 3}}'),
    "fewer names than labels": (
        encoded(),
        LABELS.tolist(),
        f'{{"info": {{"features": {{{IMAGE}, {LABEL}}}}}}}'.encode(),
    ),
    "a path for an image": (
        [{"bytes": None, "path": "/etc/hostname"}] * 6,
        LABELS.tolist(),
        None,
    ),
    "words for images": (["ant"] * 6, LABELS.tolist(), None),
    "no label in a row": (encoded(), [0, None, 1, 1, 2, 2], None),
    "labels below zero": (encoded(), [0, -1, 1, 1, 2, 2], None),
    "numbers without end": (encoded(), ["9" * 5000] * 6, None),
    "labels in between": (encoded(), [0.5] * 6, None),
    "no rows": ([], [], None),
}


@pytest.mark.parametrize(("images", "labels", "note"), ROWS.values(), ids=ROWS)
def test_parquet_files_that_do_not_fit_are_refused_in_one_line(desk, images, labels, note):
    rows_file("rows/train.parquet", images, labels, note)
    assert "rows" in told("rows")


def test_damaged_parquet_files_and_rows_without_end_are_refused(desk):
    rows_file("rows/train.parquet", encoded(), LABELS.tolist())
    content = Path("rows/train.parquet").read_bytes()
    for damaged in (
        b"",
        b"PAR1",
        content[:-4],
        content[:200] + content[-400:],
        content[:-1] + b"x",
    ):
        Path("rows/train.parquet").write_bytes(damaged)
        assert "rows" in told("rows")
    many = 10**7
    Path("rows/train.parquet").unlink()
    rows_file(
        "rows/train.parquet",
        pa.array([b""]).take(pa.array(np.zeros(many, int))),
        np.zeros(many, int),
    )
    began = time.process_time()
    assert "claims 10,000,000 images" in told("rows")
    assert time.process_time() - began < 5


def test_a_column_that_unpacks_to_far_more_is_refused(desk, monkeypatch):
    monkeypatch.setattr(files, "_FREE", 2**20)  # of megabytes in place of gigabytes
    Path("rows").mkdir()
    pq.write_table(
        pa.table({"image": pa.array([bytes(2**20 + 1)], pa.binary()), "label": [0]}),
        "rows/train.parquet",
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    assert "would unpack" in told("rows")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x" * 300 + ".pt", "no/such/set", "~nobody/x"])
def test_names_that_no_file_has_are_refused_in_one_line(three, capsys, name):
    assert refused(capsys, name)
