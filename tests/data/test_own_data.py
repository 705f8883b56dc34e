"""Data of one's own: arrays, torch's and Hugging Face's data sets, folders without splits."""

import re
import shutil
from copy import deepcopy

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset

import latentdc
from latentdc.data.open import kept_size, open_dataset, open_splits, whole_pictures
from latentdc.errors import InputError
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Data, MethodSettings, Recipe
from latentdc.run_folder import CORESET, claim_folder
from latentdc.synthetic import SyntheticSet
from tests.data.conftest import picture

LEVELS = np.stack([np.asarray(picture(seed)) for seed in range(6)])  # (6, 8, 8, 3)
LABELS = [0, 1, 0, 1, 0, 1]
from_arrays = latentdc.Dataset.from_arrays


def test_arrays_with_channels_first_or_last_are_the_same_data_set():
    last = from_arrays(LEVELS, LABELS, ["cat", "dog"])
    first = from_arrays(torch.from_numpy(LEVELS).permute(0, 3, 1, 2), torch.tensor(LABELS))
    assert torch.equal(last.images, torch.from_numpy(LEVELS).permute(0, 3, 1, 2))
    assert torch.equal(last.images, first.images) and torch.equal(last.hashes, first.hashes)
    assert last.class_names == ("cat", "dog") and first.class_names == ("0", "1")


def test_floats_of_a_stated_range_are_the_levels_that_they_were():
    for low, high in ((0, 1), (-1, 1), (0, 255)):
        floats = (LEVELS / 255 * (high - low) + low).astype(np.float32)
        made = from_arrays(floats, LABELS, value_range=(low, high))
        assert np.array_equal(made.images.permute(0, 2, 3, 1).numpy(), LEVELS)


def test_arrays_of_any_layout_in_memory_and_type_of_number_are_the_same_data_set():
    wanted = from_arrays(LEVELS, LABELS)
    frozen = LEVELS.copy()
    frozen.setflags(write=False)
    backwards = LEVELS[::-1].copy()[::-1]
    for images in (np.asfortranarray(LEVELS), frozen, backwards):
        made = from_arrays(images, np.array(LABELS, np.int8)[::-1].copy()[::-1])
        assert torch.equal(made.images, wanted.images) and torch.equal(made.hashes, wanted.hashes)
    shades = torch.from_numpy(LEVELS) // 64 * 64  # which half precision holds
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int16):
        made = from_arrays(shades.to(dtype), LABELS, value_range=(0, 255))
        assert torch.equal(made.images, shades.permute(0, 3, 1, 2))


def test_grey_images_become_colour_and_others_take_a_resolution():
    grey = from_arrays(LEVELS[..., :1], LABELS)
    assert torch.equal(grey.images[:, 0], grey.images[:, 2])
    wide = np.concatenate([LEVELS, LEVELS], axis=2)
    assert from_arrays(wide, LABELS, resolution=4).images.shape == (6, 3, 4, 4)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (LEVELS[:, :3, :, :], "could be either"),
        (LEVELS[0], r"images\[None\]"),
        (LEVELS.reshape(6, -1), "data.kind=vectors"),
        (np.zeros((6, 8, 8, 4), np.uint8), "channel of transparency"),
        (LEVELS / 255, r"pass value_range=\(0, 1\)"),
        (LEVELS.astype(np.int64), r"uint8, got int64.*value_range"),
        (LEVELS[:, :, :4], "are square, got 4 x 8 px; pass resolution"),
        (LEVELS[:5], "5 images and 6 labels"),
        (LEVELS[:0], "0 images and 6 labels"),
        ([[1, 2], [3]], "images are"),
        (LEVELS // 200, r"all its images are black; .* value_range=\(0, 1\)"),
        (np.ma.masked_greater(LEVELS, 250), "a masked array has .* values that are none"),
        (LEVELS[:, 8:], r"images are .*got uint8 of \(6, 0, 8, 3\)"),
        (np.array(5), r"images are .*got \(\)"),
        (torch.empty(6, 8, 8, 3, device="meta"), "images are .*; Cannot copy out of meta tensor"),
    ],
)
def test_ambiguous_or_unfit_arrays_are_refused_in_one_line(images, told):
    with pytest.raises(InputError, match=told) as refused:
        from_arrays(images, LABELS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bad", ["01", (1, 0), (0, 1, 2), (0, np.nan), 3])
def test_what_is_no_range_is_refused(bad):
    with pytest.raises(InputError, match="value_range is the values of black and white"):
        from_arrays(LEVELS / 255, LABELS, value_range=bad)


def test_floats_in_a_far_smaller_range_than_the_stated_one_are_refused():
    with pytest.raises(InputError, match=r"black; give the range .* value_range=\[0, 255\]"):
        from_arrays(LEVELS / 255, LABELS, value_range=(0, 255))


def test_truly_black_images_are_taken_and_told(caplog):
    black = np.zeros_like(LEVELS)
    pairs = [(torch.zeros(3, 8, 8), int(label)) for label in LABELS]
    makes = (
        lambda **keys: from_arrays(black, LABELS, **keys),
        lambda **keys: from_arrays(black / 255, LABELS, value_range=(0, 1), **keys),
        lambda **keys: latentdc.Dataset.from_torch(pairs, value_range=(0, 1), **keys),
    )
    for number, make in enumerate(makes):
        assert not make(name=f"night {number}").images.any()
        assert f"night {number}: all its images are black" in caplog.text


@pytest.mark.parametrize("bad", [LEVELS / 100, LEVELS / 255 * np.nan])
def test_floats_beyond_the_stated_range_are_refused(bad):
    with pytest.raises(InputError, match=r"values lie from .* and value_range is \(0, 1\)"):
        from_arrays(bad, LABELS, value_range=(0, 1))


@pytest.mark.parametrize(
    ("labels", "names", "told"),
    [
        (np.eye(6), None, r"labels.argmax\(1\)"),
        (np.array(LABELS)[:, None], None, r"take labels\[:, 0\]"),
        (["cat", "dog"] * 3, None, r"class_names, labels = numpy.unique\(labels"),
        (np.array(["cat", "dog"] * 3, dtype=object), ["cat", "dog"], "numbers them"),
        ([[0], [1, 2]], None, "labels are whole numbers"),
        ([0, 1, 0, 1, 0, 10**12], None, "labels up to 1000000000000 and 6 images; every class"),
        (np.full(6, 2**63, np.uint64), None, "got 9223372036854775808; number the classes from 0"),
        ([0.0] * 6, None, "whole numbers"),
        ([0, 1, 0, 1, 0, -1], None, "Leave out rows without a label"),
        ([0, 2, 0, 2, 0, 2], None, "no images of 1 of its 3 classes: 1; every class has"),
        ([0, 1, 0, 1, 0, 2], ["a", "b"], "indices of its 2 class names"),
        (np.ma.masked_equal(LABELS, 1), ["a", "b"], "masked array has 3 values that are none"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, names, told):
    with pytest.raises(InputError, match=told):
        from_arrays(LEVELS, labels, names)


class Pets(torch.utils.data.Dataset):
    classes = ("cat", "dog")

    def __len__(self):
        return 6

    def __getitem__(self, row):
        return Image.fromarray(LEVELS[row]), LABELS[row]


def test_a_torch_data_set_is_that_of_its_arrays():
    arrays = from_arrays(LEVELS, LABELS, ["cat", "dog"])
    for made in (Pets(), Subset(Pets(), range(6))):
        found = latentdc.Dataset.from_torch(made)
        assert found.class_names == ("cat", "dog")
        assert torch.equal(found.images, arrays.images)
        assert torch.equal(found.hashes, arrays.hashes)
    floats = TensorDataset(arrays.images / 255, arrays.labels)
    with pytest.raises(InputError, match="value_range"):
        latentdc.Dataset.from_torch(floats)
    found = latentdc.Dataset.from_torch(floats, value_range=(0, 1))
    assert torch.equal(found.hashes, arrays.hashes)


@pytest.mark.parametrize("deep", [LEVELS[..., 0].astype("u2") * 257, LEVELS[..., 0] / 255])
def test_images_of_pillow_with_more_than_8_bits_are_refused(deep):
    images = [Image.fromarray(one if one.dtype == "u2" else one.astype("f4")) for one in deep]
    pairs = [*zip(images, LABELS, strict=True)]
    with pytest.raises(InputError, match=r"an image of Pillow has mode (I;16|F); .* convert it"):
        latentdc.Dataset.from_torch(pairs)


def test_a_torch_data_set_of_random_transforms_is_refused():
    class Augmented(Pets):
        def __getitem__(self, row):
            return torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), LABELS[row]

    with pytest.raises(InputError, match="random transforms"):
        latentdc.Dataset.from_torch(Augmented())


def test_a_data_set_without_rows_is_refused():
    class Stream(IterableDataset):
        def __len__(self):  # which loaders ask for
            return 6

        def __iter__(self):
            return iter([])

    for wrong, got in ((iter([]), "list_iterator"), (Stream(), "Stream"), (Pets, "Pets")):
        with pytest.raises(InputError, match=f"map-style data set of torch, .* got a {got};"):
            latentdc.Dataset.from_torch(wrong)


def test_a_random_flip_is_seen_though_the_first_image_stays_as_it_is():
    class Flipped(Pets):
        asked = 0

        def __getitem__(self, row):
            self.asked += 1
            flip = row > 0 and self.asked % 2
            return Image.fromarray(LEVELS[row][:, ::-1] if flip else LEVELS[row]), LABELS[row]

    with pytest.raises(InputError, match="row 1 is asked for; take its random transforms out"):
        latentdc.Dataset.from_torch(Flipped())


@pytest.mark.parametrize(("count", "twice"), [(6, 6), (20, 20), (39, 20), (41, 14)])
def test_at_most_twenty_images_are_asked_for_twice(count, twice):
    class Many:
        asked = 0

        def __len__(self):
            return count

        def __getitem__(self, row):
            self.asked += 1
            return torch.full((3, 8, 8), 2 + row, dtype=torch.uint8), row % 2

    many = Many()
    latentdc.Dataset.from_torch(many)
    assert many.asked == count + twice


def test_classes_of_torchvision_with_several_names_each_are_called_by_wordnet_id():
    class Nette(Pets):
        classes = (("tench", "Tinca tinca"), ("crane",))
        wnids = ("n01440764", "n02012849")

    assert latentdc.Dataset.from_torch(Nette()).class_names == Nette.wnids


def test_classes_of_a_folder_that_are_numbered_otherwise_are_called_by_their_numbers():
    class Folder(Pets):
        classes = ("cat", "dog")

    Folder.class_to_idx = {"cat": 1, "dog": 0}
    assert latentdc.Dataset.from_torch(Folder()).class_names == ("dog", "cat")
    Folder.class_to_idx = {"cat": 0, "dog": 1, "hound": 1}  # says nothing of its own
    assert latentdc.Dataset.from_torch(Folder()).class_names == ("cat", "dog")
    Folder.class_to_idx = {"cat": [0], "dog": [1]}
    assert latentdc.Dataset.from_torch(Folder()).class_names == ("cat", "dog")
    Folder.class_to_idx = {"cat": torch.tensor(1), "dog": torch.tensor(0)}
    assert latentdc.Dataset.from_torch(Folder()).class_names == ("dog", "cat")


def test_data_sets_core_sets_and_comparisons_are_equal_to_themselves_alone():
    one = from_arrays(LEVELS, LABELS, ["cat", "dog"])
    coreset = latentdc.prune_dataset(one, latentdc.Prune(score="random", keep=0.5))
    for each in (one, coreset):
        assert each == each and each != deepcopy(each) and {each: 1}[each] == 1


def pets_table(mode: str = "RGB") -> datasets.Dataset:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {"image": [Image.fromarray(one).convert(mode) for one in LEVELS], "label": LABELS}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize(
    "choose",
    [
        lambda table: table.shuffle(seed=1),
        lambda table: table.select([5, 0, 3]),
        lambda table: table.sort("label", reverse=True),
        lambda table: table.filter(lambda row: row["label"] == 1).select([2, 0]),
        lambda table: table.train_test_split(0.5, seed=1)["train"].with_format("torch"),
        lambda table: datasets.concatenate_datasets([table.select([4, 1]), table]),
    ],
)
def test_rows_of_a_table_that_were_chosen_or_moved_keep_their_labels(choose):
    cats_and_dogs = pets_table().add_column("row", range(6))
    table = choose(cats_and_dogs)
    rows = [int(row) for row in table["row"]]
    if len({LABELS[row] for row in rows}) == 1:  # of one class
        table, rows = datasets.concatenate_datasets([table, cats_and_dogs]), [*rows, *range(6)]
    assert rows != [*range(6)]
    found = latentdc.Dataset.from_datasets(table)
    assert found.labels.tolist() == [LABELS[row] for row in rows]
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), LEVELS[rows])


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB", "CMYK", "P", "I", "F", "YCbCr"])
@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_a_column_with_a_mode_of_images_is_read_in_it(tmp_path, kind, mode):
    table = pets_table(kind).cast_column("image", datasets.Image(mode=mode))
    expected = np.stack([np.asarray(row["image"].convert("RGB")) for row in table])
    table.to_parquet(tmp_path / "train.parquet")
    data = Data(source=str(tmp_path), resolution=8, cache=str(tmp_path / "cache"))
    for found in (latentdc.Dataset.from_datasets(table), open_dataset(data, "train")):
        apart = found.images.permute(0, 2, 3, 1).numpy().astype(int) - expected
        assert np.abs(apart).max() <= (mode == "F")  # Pillow cuts off what these have of a level


def test_a_table_is_the_data_set_of_its_arrays():
    table = pets_table()
    found, arrays = latentdc.Dataset.from_datasets(table), from_arrays(LEVELS, LABELS)
    assert found.class_names == ("cat", "dog")
    assert torch.equal(found.images, arrays.images) and torch.equal(found.hashes, arrays.hashes)
    with pytest.raises(InputError, match=r"one split.*data\['train'\]"):
        latentdc.Dataset.from_datasets(datasets.DatasetDict(train=table))
    with pytest.raises(InputError, match=r"no column 'y'"):
        latentdc.Dataset.from_datasets(table, label="y")
    with pytest.raises(InputError, match=r"label is a str, got 3; the name of a column"):
        latentdc.Dataset.from_datasets(table, label=3)
    with pytest.raises(InputError, match=r"transform off with table\.with_format\(None\)"):
        latentdc.Dataset.from_datasets(table.with_transform(lambda rows: rows))


def test_a_folder_is_opened_as_a_split_of_it_is(tree):
    found = latentdc.Dataset.from_folder(tree / "train")
    opened = open_dataset(Data(source=str(tree), resolution=8), "train")
    assert torch.equal(found.images, opened.images) and torch.equal(found.hashes, opened.hashes)
    with pytest.raises(InputError, match=r"splits train, val and not classes.*tree/train"):
        latentdc.Dataset.from_folder(tree)
    picture(9, (8, 9)).save(tree / "train/cat/tall.png")
    with pytest.raises(InputError, match=r"one size, got 8 x 9 and 8 x 8 px; pass resolution"):
        latentdc.Dataset.from_folder(tree / "train")


@pytest.fixture
def flat(tmp_path):
    """20 cats and 10 dogs without splits; one cat lies there three times, one picture is both."""
    seed = 0
    for name, count in (("cats", 20), ("dogs", 10)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            picture(seed).save(tmp_path / "pets" / name / f"{number}.png")
            seed += 1
    for copy in ("cats/again", "cats/copy", "dogs/cat"):
        shutil.copy(tmp_path / "pets/cats/3.png", tmp_path / "pets" / f"{copy}.png")
    return tmp_path / "pets"


def test_a_flat_folder_is_divided_by_class_and_repeats_stay_together(flat):
    data = Data(source=str(flat), resolution=8, test_share=0.3)
    train, test = open_splits(data)
    assert train.class_names == test.class_names == ("cats", "dogs")
    assert len(train) + len(test) == 33
    different = [torch.unique(part.hashes[part.labels == 0]).numel() for part in (train, test)]
    assert different == [14, 6]
    assert not torch.isin(test.hashes, train.hashes).any()
    assert open_dataset(data, "test").hashes.tolist() == test.hashes.tolist()
    assert sum(kept_size(data)[:2]) == 33


def test_a_copy_in_another_order_is_divided_alike(flat, tmp_path):
    rng = np.random.default_rng(0)
    for number, path in zip(rng.permutation(33), sorted(flat.rglob("*.png")), strict=True):
        home = tmp_path / "copy" / path.parent.name
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, home / f"{number}.png")
    parts = [
        [sorted(part.hashes.tolist()) for part in open_splits(data)]
        for data in (
            Data(source=str(flat), resolution=8, test_share=0.3),
            Data(source=str(tmp_path / "copy"), resolution=16, test_share=0.3),
        )
    ]
    assert parts[0] == parts[1]


def test_a_flat_folder_and_one_without_a_test_split_say_how_to_test(flat, tree):
    with pytest.raises(InputError, match=r"no splits; test on a share.*data\.test_share=0\.2"):
        open_splits(Data(source=str(flat), resolution=8))
    shutil.rmtree(tree / "val")
    with pytest.raises(InputError, match=r"data\.test_share=0\.2"):
        open_splits(Data(source=str(tree), resolution=8))
    train, test = open_splits(Data(source=str(tree), resolution=8, test_share=0.34))
    assert (len(train), len(test)) == (4, 2)


def test_whole_pictures_of_a_divided_folder_are_those_of_its_rows(flat):
    data = Data(source=str(flat), resolution=8, test_share=0.3)
    train, _ = open_splits(data)
    whole = whole_pictures(data, train)
    for row in (0, 7, len(train) - 1):
        assert np.array_equal(whole(row), train.images[row].permute(1, 2, 0))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"test_share": 20}, "for 20 % write 0.2"),
        ({"test_share": 0.2, "test": "val"}, "give one of them"),
    ],
)
def test_a_share_that_says_nothing_is_refused(keys, told):
    with pytest.raises(InputError, match=told):
        Data(**keys)


def test_a_class_of_one_image_cannot_be_divided():
    made = from_arrays(LEVELS, [0, 0, 0, 0, 0, 1], ["cat", "dog"])
    with pytest.raises(InputError, match="1 different samples of class 'dog'"):
        made.split(0.2)


EVIL = '</script><img src=x onerror="alert(1)">'


def test_data_sets_themselves_are_a_source():
    train, test = from_arrays(LEVELS[:4], LABELS[:4]), from_arrays(LEVELS[4:], LABELS[4:])
    data = Data(source=(train, test), resolution=8)
    assert open_splits(data) == (train, test) and open_dataset(data, "test") is test
    whole = from_arrays(LEVELS, LABELS)
    divided = open_splits(Data(source=whole, resolution=8, test_share=0.4))
    expected = whole.split(0.4)
    assert [one.hash for one in divided] == [one.hash for one in expected]


def test_data_sets_in_memory_are_known_by_their_contents(monkeypatch, capsys):
    def source(levels=LEVELS, labels=LABELS):
        train, test = from_arrays(levels[:4], labels[:4]), from_arrays(levels[4:], labels[4:])
        return Data(source=(train, test), resolution=8).source

    monkeypatch.setenv("WORLD_SIZE", "2")  # whose processes have each their own
    assert source() == source() and source().startswith("here:arrays#")
    assert source(255 - LEVELS) != source() != source(labels=LABELS[::-1])
    whole = from_arrays(LEVELS, LABELS)
    assert Data(source=whole, resolution=8, test_share=0.4).source != source()
    assert "note:" not in capsys.readouterr().err


def test_a_run_of_data_sets_in_memory_goes_on_when_they_are_made_again(tmp_path):
    def recipe():
        whole = from_arrays(LEVELS, LABELS)
        data = Data(source=whole, resolution=8, test_share=0.4)
        return Recipe(data=data, method=MethodSettings(kind="selection"), ipc=1)

    claim_folder(recipe(), tmp_path)
    keep = Coreset.whole(open_splits(recipe().data)[0], "easy")
    keep.save(tmp_path / CORESET)
    claim_folder(recipe(), tmp_path)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"resolution": 8}, "source=here:arrays is (train, test), two latentdc.Dataset"),
        ({"resolution": 8, "test_share": 0.4, "kind": "vectors"}, "resolution"),
        ({"resolution": 16, "test_share": 0.4}, "is images of 8, and data.kind=images with"),
    ],
)
def test_a_data_set_that_is_no_whole_source_is_refused(keys, told):
    whole = from_arrays(LEVELS, LABELS)
    with pytest.raises(InputError, match=re.escape(told)):
        open_splits(Data(source=whole, **keys))


def test_an_array_in_place_of_a_name_is_told_in_one_line():
    with pytest.raises(InputError, match=r"data\.source takes text, got tensor\(") as error:
        Data(source=torch.from_numpy(LEVELS))
    assert "\n" not in str(error.value)


def test_a_set_is_shown_in_one_short_line_and_escaped():
    made = from_arrays(LEVELS, LABELS, [EVIL, "dog\x1b[2J"], name=EVIL)
    for one in (made, SyntheticSet.from_real(made)):
        assert len(repr(one)) < 250 and repr(one).isprintable()
        assert "6 images of 8 px, uint8, 2 classes" in repr(one)
        html = one._repr_html_()
        assert re.findall(r"<(\w+)", html) == ["p", "code", "img"]
        assert "data:image/png;base64," in html


def test_a_figure_has_a_line_of_images_for_each_class():
    pytest.importorskip("matplotlib")
    made = from_arrays(LEVELS, LABELS, ["$cat$", "_dog"])
    for one in (made, SyntheticSet.from_real(made)):
        figure = one.figure(columns=2)
        assert [axis.get_ylabel() for axis in figure.axes] == [r"\$cat\$", " _dog"]
        strip = figure.axes[1].images[0].get_array()
        assert np.array_equal(strip, np.concatenate([LEVELS[1], LEVELS[3]], axis=1))
        assert figure._repr_png_()[1:4] == b"PNG"  # what a notebook shows


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"columns": "a"}, {"max_classes": 1.5}])
def test_a_figure_of_no_images_is_refused(wrong):
    made = from_arrays(LEVELS, LABELS)
    with pytest.raises(InputError, match="is a whole number of at least 1, got"):
        made.figure(**wrong)
    with pytest.raises(InputError, match="there are none"):
        made.select([]).figure()


@pytest.mark.parametrize("bad", [0, -1, 2.5, "8", True])
def test_a_resolution_is_a_number_of_pixels(bad, tree):
    whole = TensorDataset(torch.from_numpy(LEVELS), torch.tensor(LABELS))
    for make in (
        lambda: from_arrays(LEVELS, LABELS, resolution=bad),
        lambda: latentdc.Dataset.from_torch(whole, resolution=bad),
        lambda: latentdc.Dataset.from_folder(tree / "train", resolution=bad),
    ):
        with pytest.raises(InputError, match="resolution is a whole number of at least 1, got"):
            make()


def test_names_may_be_an_array_as_numpy_makes_them_of_texts():
    names, labels = np.unique(["dog", "cat"] * 3, return_inverse=True)
    whole = TensorDataset(torch.from_numpy(LEVELS), torch.from_numpy(labels))
    for made in (from_arrays(LEVELS, labels, names), latentdc.Dataset.from_torch(whole, names)):
        assert made.class_names == ("cat", "dog") and made.labels.tolist() == [1, 0] * 3


def test_a_synthetic_set_feeds_a_loader_of_torch():
    synthetic = SyntheticSet.from_real(from_arrays(LEVELS, LABELS))
    loader = torch.utils.data.DataLoader(synthetic.to_torch(), batch_size=4)
    images, labels = next(iter(loader))
    torch.testing.assert_close(
        images[0], torch.from_numpy(LEVELS[0] / 255).float().permute(2, 0, 1)
    )
    assert labels.tolist() == LABELS[:4]
    seen = latentdc.Normalization()
    normalised, _ = synthetic.to_torch(seen).tensors
    torch.testing.assert_close(normalised, seen(synthetic.floats()))
