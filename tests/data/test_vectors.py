import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentdc.data import vectors as module
from latentdc.data.open import open_dataset, open_splits, preprocessing
from latentdc.errors import InputError
from latentdc.images import MappedImages
from latentdc.preprocessing import Normalization, fit_standardization
from latentdc.recipe import Data
from tests.clusters import WIDTH, clusters, write


def data(source, **options) -> Data:
    return Data(kind="vectors", source=str(source), **options)


def same(one, other) -> bool:
    fields = ("labels", "hashes")
    alike = all(torch.equal(getattr(one, name), getattr(other, name)) for name in fields)
    every = slice(0, len(one))
    return alike and torch.equal(one.images[every].float(), other.images[every].float())


@pytest.mark.smoke
def test_all_layouts_of_the_same_vectors_are_the_same_data_set(tmp_path):
    npy = open_splits(data(write(tmp_path / "npy", per_class=5)))
    (tmp_path / "folder").mkdir()
    single = {}
    for name, part in zip(("train", "test"), npy, strict=True):
        tensors = {"features": part.images, "labels": part.labels}
        save_file(tensors, tmp_path / f"folder/{name}.safetensors")
        single |= {f"{name}.{key}": tensor.clone() for key, tensor in tensors.items()}
    save_file(single, tmp_path / "single.safetensors")
    assert npy[0].kind == "vectors" and npy[0].resolution == WIDTH
    for source in ("folder", "single.safetensors"):
        found = open_splits(data(tmp_path / source))
        assert same(npy[0], found[0]) and same(npy[1], found[1])


def test_half_precision_keeps_its_type_and_the_hashes_of_its_values(tmp_path):
    half = clusters(5, seed=1)[0].half().numpy()
    small = open_dataset(data(write(tmp_path / "half", 5, train=half)), "train")
    large = open_dataset(data(write(tmp_path / "full", 5, train=half.astype("f4"))), "train")
    assert small.images.dtype == torch.float16 and same(small, large)


@pytest.mark.parametrize("layout", ["npy", "safetensors"])
def test_large_vectors_stay_on_disk_and_are_the_same(tmp_path, monkeypatch, layout):
    folder = write(tmp_path / "npy", per_class=5)
    near = open_dataset(data(folder), "train")
    if layout == "safetensors":
        (tmp_path / "st").mkdir()
        for name in ("train", "test"):
            tensors = {"features": near.images, "labels": near.labels}
            save_file(tensors, tmp_path / f"st/{name}.safetensors")
        folder = tmp_path / "st"
    monkeypatch.setattr(module, "MEMORY_LIMIT", 0)
    far = open_dataset(data(folder), "train")
    assert isinstance(far.images, MappedImages) and same(near, far)
    some = torch.tensor([7, 2])
    assert torch.equal(far.select(some).images[torch.arange(2)], near.images[some])


def test_classes_have_the_names_of_the_file_and_can_be_chosen(tmp_path):
    folder = write(tmp_path / "named", per_class=3)
    (folder / "classes.txt").write_text("run\njump\nswim\nfly\n")
    chosen = open_dataset(data(folder, classes=["fly", "jump"]), "test")
    whole = open_dataset(data(folder), "test")
    assert whole.class_names == ("run", "jump", "swim", "fly")
    assert chosen.labels.tolist() == [1, 0] * 3
    assert torch.equal(chosen.images[chosen.labels == 0], whole.images[whole.labels == 3])


def test_the_mark_that_windows_puts_before_names_is_no_part_of_the_first(tmp_path):
    folder = write(tmp_path / "named", per_class=3)
    (folder / "classes.txt").write_bytes(b"\xef\xbb\xbfrun\r\njump\r\nswim\r\nfly\r\n")
    assert open_dataset(data(folder), "test").class_names == ("run", "jump", "swim", "fly")


def test_names_are_found_in_whichever_form_unicode_writes_them(tmp_path):
    folder = write(tmp_path / "named", per_class=3)
    (folder / "classes.txt").write_text("re\u0301ve\njump\nswim\nfly\n", encoding="utf-8")
    for form in ("r\xe9ve", "re\u0301ve"):
        chosen = open_dataset(data(folder, classes=["fly", form]), "test")
        assert chosen.class_names == ("fly", "r\xe9ve")


def broken(**changes):
    """The vectors or labels of a file, changed."""
    vectors, labels = clusters(5, seed=1)
    arrays = {"train": vectors.numpy(), "train_labels": labels.numpy(), "test": vectors.numpy()}
    arrays["test_labels"] = labels.numpy()
    return {name: change(arrays[name].copy()) for name, change in changes.items()}


def with_nan(vectors):
    vectors[13, 2] = np.nan
    return vectors


REFUSED = {
    "fewer labels": (broken(train_labels=lambda a: a[:-1]), r"20 vectors and labels of shape \(19"),
    "nan": (broken(train=with_nan), "not finite .NaN or infinity., first in row 13"),
    "doubles": (broken(train=lambda a: a.astype("f8")), r"float64 .* \.astype\('float32'\)"),
    "whole numbers": (
        broken(train=lambda a: a.astype("i4")),
        "vectors are float16 or float32 in the machine's byte order, got <i4",
    ),
    "long doubles": (
        broken(train=lambda a: a.astype(np.longdouble)),
        r"float16 or float32 .*, got .f\d+; save them with \.astype\('float32'\)"
        if np.dtype(np.longdouble) != np.float64
        else "float64",
    ),
    "another byte order": (
        broken(train=lambda a: a.astype(">f4")),
        r"got >f4; save them with .ast",
    ),
    "pictures": (broken(train=lambda a: a.reshape(20, 4, 4)), r"float32 of shape \(20, 4, 4\)"),
    "width": (broken(test=lambda a: a[:, :9]), "vectors of 9 values and .* of 16; extract"),
    "negative": (broken(train_labels=lambda a: a - 1), "the label -1; labels count from 0"),
    "huge": (
        broken(train_labels=lambda a: a * 10**12),
        "labels up to 3000000000000 and 20",
    ),
    "flags": (broken(train_labels=lambda a: a > 1), "labels are whole numbers, got bool"),
    "unsigned": (broken(train_labels=lambda a: (a - 1).astype("u8")), "the label -1; labels count"),
    "beyond": (broken(test_labels=lambda a: a + 1), "labels up to 4.* 5 of 20 rows lie beyond"),
    "a gap": (broken(train_labels=lambda a: a + (a > 1)), "no images of 1 of its 5 classes: 2"),
    "text": (broken(train_labels=lambda a: a.astype("f4")), "labels are whole numbers, got float"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_do_not_fit_are_refused(tmp_path, case):
    arrays, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        open_splits(data(write(tmp_path / "broken", per_class=5, **arrays)))


def test_a_test_split_without_labels_gives_way_to_validation(tmp_path, capsys):
    folder = write(tmp_path / "set", per_class=5)
    for part in ("", "_labels"):
        (folder / f"test{part}.npy").rename(folder / f"validation{part}.npy")
    validation = open_dataset(data(folder), "test")
    np.save(folder / "test.npy", np.zeros((2, WIDTH), "f4"))
    np.save(folder / "test_labels.npy", np.array([-1, -1]))
    assert same(open_dataset(data(folder), "test"), validation)
    assert "test has no labels; the test split is validation" in capsys.readouterr().err
    with pytest.raises(InputError, match="the label -1; labels count from 0, and 2 of 2"):
        open_dataset(data(folder, test="test"), "test")


@pytest.mark.parametrize("name", ["train.npy", "train_labels.npy"])
def test_an_archive_in_the_name_of_an_array_is_refused(tmp_path, name):
    np.save(tmp_path / "train.npy", np.zeros((4, 2), np.float32))
    np.save(tmp_path / "train_labels.npy", np.array([0, 0, 1, 1]))
    with (tmp_path / name).open("wb") as file:
        np.savez(file, values=np.zeros((4, 2), np.float32))
    with pytest.raises(InputError, match="train"):
        open_dataset(Data(source=str(tmp_path), kind="vectors"), "train")


def test_flags_in_safetensors_are_no_labels(tmp_path):
    vectors, labels = clusters(5, seed=1)
    for name in ("train", "test"):
        save_file({"features": vectors, "labels": labels > 1}, tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="type bool; every vector has one whole number"):
        open_splits(data(tmp_path))


def test_more_labels_than_names_and_missing_splits_are_refused(tmp_path):
    folder = write(tmp_path / "named", per_class=3)
    (folder / "classes.txt").write_text("run\njump\n")
    with pytest.raises(InputError, match="labels up to 3, and there are 2 classes"):
        open_splits(data(folder))
    with pytest.raises(InputError, match=r"no split frames: there is neither frames\.safetensors"):
        open_splits(data(folder, train="frames"))
    with pytest.raises(InputError, match="no folder or file nowhere"):
        open_splits(data("nowhere"))


@pytest.mark.parametrize(
    ("key", "value"), [("zca", True), ("resolution", 32), ("subset", "imagenette"), ("image", "x")]
)
def test_keys_of_images_are_refused(key, value):
    with pytest.raises(InputError, match=rf"data\.{key}=.* is about images, and data\.kind is"):
        data("anywhere", **{key: value})


def test_networks_see_values_of_mean_zero_and_deviation_one(tmp_path):
    folder = write(tmp_path / "set", per_class=20)
    train, test = open_splits(data(folder))
    seen = preprocessing(data(folder), train)
    shown = seen(test.images)
    mean, std = train.images.double().mean(0), train.images.double().std(0, correction=0)
    torch.testing.assert_close(shown, ((test.images - mean) / std).float())
    torch.testing.assert_close(seen.inverse(shown), test.images, rtol=1e-4, atol=1e-2)
    assert isinstance(preprocessing(Data(), open_dataset(Data(), "test")), Normalization)


def test_a_value_that_never_changes_is_not_blown_up():
    vectors = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    vectors[:, 1] = 1e4 + 1e-3 * vectors[:, 1]  # rounding of float32
    shown = fit_standardization(vectors, name="x")(vectors)
    assert shown[:, 1].abs().max() < 0.01 and shown[:, 0].std() > 0.9
