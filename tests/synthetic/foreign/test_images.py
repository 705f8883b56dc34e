import pytest
import torch

from latentdc.errors import InputError
from latentdc.synthetic.foreign.pictures import folder_pictures, read_pictures
from tests.synthetic.foreign.layouts import named, picture, rded

NAMES = ("cat", "dog", "owl")


def read_images(folder, names, ipc):
    return read_pictures(folder_pictures(folder), names, ipc)


def shades(found):
    return found.images[:, 0, 0, 0].tolist()


def test_numbered_folders_are_read_in_lexicographic_order(tmp_path):
    found, _ = read_images(rded(tmp_path / "set", 3, 2), NAMES, None)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2] and shades(found) == [0, 1, 10, 11, 20, 21]
    assert found.images.dtype == torch.uint8 and found.images.shape == (6, 3, 8, 8)


def test_the_first_ipc_files_of_each_folder_are_kept(tmp_path):
    found, _ = read_images(rded(tmp_path / "set", 3, 12), NAMES, 2)  # id00010 comes after id00001
    assert shades(found) == [0, 1, 10, 11, 20, 21]


def test_sre2l_numbers_its_folders_after_a_word(tmp_path):
    found, _ = read_images(named(tmp_path, [f"new{k:03d}" for k in range(3)]), NAMES, 1)
    assert found.labels.tolist() == [0, 1, 2] and shades(found) == [0, 10, 20]


def test_named_folders_find_their_classes_in_whatever_order(tmp_path):
    found, _ = read_images(named(tmp_path, ["owl", "cat", "dog"]), NAMES, 1)
    assert found.labels.tolist() == [0, 1, 2] and shades(found) == [10, 20, 0]


def test_numbers_before_names_are_passed_over(tmp_path):
    found, _ = read_images(named(tmp_path, ["0_owl", "1_cat", "2_dog"]), NAMES, 1)
    assert shades(found) == [10, 20, 0]
    with pytest.raises(InputError, match="has 1 class that the test set has not: 2_emu"):
        read_images(named(tmp_path / "x", ["0_owl", "1_cat", "2_emu"]), NAMES, None)
    own = ("0_owl", "1_cat", "owl")  # the test set's own spelling comes first
    found, _ = read_images(named(tmp_path / "y", list(own)), own, 1)
    assert shades(found) == [0, 10, 20]


def test_wordnet_folders_fit_a_test_set_of_names_and_the_other_way_round(tmp_path):
    ids, names = ["n01440764", "n02102040"], ("English springer", "tench")
    found, _ = read_images(named(tmp_path, ids), names, 1)
    assert found.labels.tolist() == [0, 1] and shades(found) == [10, 0]
    found, _ = read_images(named(tmp_path / "names", list(names)), tuple(ids), 1)
    assert shades(found) == [10, 0]


@pytest.mark.parametrize(
    ("folders", "names", "message"),
    [
        (["cat", "dog"], NAMES, "lacks 1 of the test set's 3 classes: owl"),
        (["cat", "dog", "owl", "emu"], NAMES, "has 1 class that the test set has not: emu"),
        (["00000", "00001"], NAMES, "lacks 1 of the test set's 3 classes: owl"),
        (["00000", "00001", "00002", "00003"], NAMES, "has not: 00003; its 3 classes: cat, dog"),
        (["a", "b", "c"], NAMES, "has 3 classes that the test set has not: a, b, c"),
        (["00000", "new000", "00002"], NAMES, "lacks 1 of"),
        (["00000", "00001"], ("n02102040", "n01440764"), r"data\.classes=\[n01440764,n02102040"),
    ],
)
def test_other_classes_than_the_test_sets_are_refused(tmp_path, folders, names, message):
    with pytest.raises(InputError, match=message):
        read_images(named(tmp_path, folders), names, None)


def test_mixed_sizes_and_damaged_or_missing_files_are_refused(tmp_path):
    root = rded(tmp_path / "set", 3, 2)
    path = root / "00001" / "class00001_id00001.png"
    picture(5, (9, 8)).save(path)
    with pytest.raises(InputError, match=r"different sizes: 8x8 px in .*, 9x8 px in .*id00001"):
        read_images(root, NAMES, None)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cannot decode .*id00001"):
        read_images(root, NAMES, None)
    for file in (root / "00001").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="no images of 1 of the test set's 3 classes: dog"):
        read_images(root, NAMES, None)
