import io
import os
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from latentdc import config
from latentdc.data.open import kept_size, open_dataset, open_splits
from latentdc.errors import InputError
from latentdc.recipe import Data, Recipe
from tests.data.conftest import picture


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
        assert "left out 1 of 6 images" in capsys.readouterr().err


def test_a_class_whose_images_were_all_skipped_is_refused(tree):
    for path in (tree / "train/dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no images of 1 of its 2 classes: dog"):
        open_tree(tree, unreadable="skip")


def test_a_cache_among_the_folders_of_classes_is_no_class(tree, capsys):
    inside = {"source": str(tree), "resolution": 8, "cache": str(tree / "train/deep/cache")}
    first, _ = open_splits(Data(**inside))
    assert (tree / "train/deep/cache").is_dir()
    train, _ = open_splits(Data(**inside))
    assert train.class_names == first.class_names == ("cat", "dog") and train.hash == first.hash
    assert "1 folders of the cache" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["train/a_cache", "train/deep/cache", "train/val"])
def test_the_cache_of_an_earlier_run_is_no_class_either(tree, tmp_path, place):
    (tree / place).mkdir(parents=True)
    (tree / place / "x.parquet").write_bytes(b"")  # a table of others, put there
    keys = {"source": str(tree), "resolution": 8}
    first, _ = open_splits(Data(**keys, cache=str(tree / place)))
    assert any((tree / place).glob("*/images.bin"))
    train, _ = open_splits(Data(**keys, cache=str(tmp_path / "other")))
    assert train.class_names == first.class_names == ("cat", "dog") and train.hash == first.hash
    picture(0).save(tree / place / "0.png")
    (tree / "val" / (tree / place).relative_to(tree / "train").parts[0]).mkdir()
    with pytest.raises(InputError, match="no images of 1 of its 3 classes"):
        open_splits(Data(**keys))  # a class of train, with no image in val


def test_a_cache_with_the_name_of_a_split_leaves_folders_of_classes(tree, tmp_path):
    keys = {"source": str(tree / "train"), "resolution": 8, "test_share": 0.4}
    first, _ = open_splits(Data(**keys, cache=str(tree / "train/val")))
    train, _ = open_splits(Data(**keys, cache=str(tmp_path / "other")))
    assert train.class_names == first.class_names == ("cat", "dog") and train.hash == first.hash


def test_an_empty_class_is_refused(tree):
    (tree / "train/bird").mkdir()
    (tree / "train/bird/notes.txt").write_text("none yet")
    with pytest.raises(InputError, match="no images of 1 of its 3 classes: bird"):
        open_tree(tree)


def test_splits_with_other_classes_are_refused_before_anything_is_decoded(tree, tmp_path):
    (tree / "val/dog").rename(tree / "val/wolf")
    with pytest.raises(
        InputError, match=r"1 only in .*train: dog; 1 only in .*val: wolf; name the"
    ):
        open_splits(Data(source=str(tree), resolution=8))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("keys", "split", "message"),
    [
        ({"train": "trian"}, "train", "no parquet or tar files and no folder trian/<class>/"),
        ({"test": "test"}, "test", r"no folder .*test/<class>/; .*holds \['train', 'val'\]"),
        ({"classes": ["cat", "dgo"]}, "train", "no class 'dgo'; did you mean 'dog'"),
        ({"classes": ["cat"]}, "train", "single class"),
        ({"classes": ["cat", "cat", "dog"]}, "train", "data.classes names 'cat' twice"),
    ],
)
def test_what_does_not_exist_is_named(tree, keys, split, message):
    with pytest.raises(InputError, match=message):
        open_tree(tree, split, **keys)


def test_a_tree_without_test_split_lists_what_it_has(tree):
    (tree / "val").rename(tree / "holdout")
    with pytest.raises(InputError, match=r"none of the test splits.* only holdout, train;"):
        open_tree(tree, "test")


CLUTTER = [".ipynb_checkpoints", "@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "#recycle"]
CLUTTER += ["FOUND.000", "~snapshot", "RECYCLED", "TheVolumeSettingsFolder", "@SynologyDrive"]


def test_clutter_is_neither_a_class_nor_an_image_and_is_counted(tree, capsys):
    before = open_tree(tree)
    for name in CLUTTER:
        for folder in (tree / "train" / name, tree / "train/cat" / name):
            folder.mkdir()
            picture(50).save(folder / "0.png")
    for name in ("._0.png", ".hidden.png", "Thumbs.db", "~$0.png", "desktop.ini", ".DS_Store"):
        picture(51).save(tree / "train/dog" / name, "PNG")
    after = open_tree(tree)
    assert after.class_names == before.class_names == ("cat", "dog")
    assert torch.equal(after.hashes, before.hashes)
    assert "left out 28 (28 hidden or system files)" in capsys.readouterr().err


def test_accents_are_the_same_however_a_system_writes_them(tree):
    for split, form in (("train", "NFD"), ("val", "NFC")):
        (tree / split / "cat").rename(tree / split / unicodedata.normalize(form, "chatte à l'été"))
    train, test = open_splits(Data(source=str(tree), resolution=8))
    assert train.class_names == test.class_names == ("chatte à l'été", "dog")
    typed = ["dog", unicodedata.normalize("NFD", "chatte à l'été")]
    assert open_tree(tree, classes=typed).class_names == ("dog", "chatte à l'été")


def test_folders_of_parquet_files_are_no_classes(tree):
    for split in ("train", "val"):
        for part in ("2023", "2024"):
            path = tree / "tables" / split / part / "0.parquet"
            path.parent.mkdir(parents=True)
            buffer = io.BytesIO()
            picture(int(part)).save(buffer, "PNG")
            pq.write_table(pa.table({"image": [buffer.getvalue()] * 2, "label": [0, 1]}), path)
    train, test = open_splits(Data(source=str(tree / "tables"), resolution=8))
    assert (len(train), len(test), train.class_names) == (4, 4, ("0", "1"))


def test_files_of_other_kinds_are_counted_by_suffix_in_one_line(tree, capsys):
    for name in ("a.txt", "b.txt", "c.npy", "Makefile", "d.h5", "e.pdf", "f.PNG"):
        (tree / "train/cat" / name).write_bytes((tree / "train/cat/0.png").read_bytes())
    (tree / "train/labels.csv").touch()
    assert len(open_tree(tree)) == 7
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "note:" in x]
    assert "left out 7 (2 .txt, " in line
    for part in ("1 .npy", "1 no suffix", "1 .h5", "1 .pdf", "1 files beside the folders"):
        assert part in line


def test_links_are_followed_and_loops_are_cut(tree, tmp_path, capsys):
    store = tmp_path / "store"
    (store / "deep").mkdir(parents=True)
    picture(60).save(store / "deep/a.png")
    picture(61).save(store / "b.png")
    (tree / "train/owl").symlink_to(store)
    (tree / "val/owl").symlink_to(store)
    (tree / "train/cat/more").symlink_to(store / "deep")
    (tree / "train/cat/one.png").symlink_to(store / "b.png")
    (tree / "train/dog/up").symlink_to(tree / "train")  # would bring in every other class
    (store / "self").symlink_to(store)
    (tree / "train/dog/gone.png").symlink_to(tmp_path / "nowhere")
    train, test = open_splits(Data(source=str(tree), resolution=8))
    assert train.class_names == ("cat", "dog", "owl")
    assert train.labels.bincount().tolist() == [5, 3, 2]
    assert test.labels.bincount().tolist() == [2, 2, 2]
    said = capsys.readouterr().err
    assert "2 links to folders that are read already" in said and "1 broken links" in said


def test_splits_that_are_called_otherwise_are_to_be_named(tree):
    (tree / "train").rename(tree / "Training")
    with pytest.raises(InputError, match=r"Name the splits, such as data\.train=Training\."):
        open_tree(tree)
    assert len(open_tree(tree, train="Training")) == 6


def test_a_class_whose_link_leads_nowhere_is_not_left_out_without_a_word(tree, tmp_path):
    for split in ("train", "val"):
        (tree / split / "owl").symlink_to(tmp_path / "unmounted")
        (tree / split / "stray.png").symlink_to(tmp_path / "gone.png")  # which is no class
    with pytest.raises(InputError, match="owl leads nowhere, and may be classes; restore"):
        open_tree(tree)
    assert open_tree(tree, classes=["cat", "dog"]).class_names == ("cat", "dog")


def test_many_links_to_each_other_take_no_time(tree):
    nest = tree / "train/cat/nest"
    for level in range(30):
        (nest / str(level)).mkdir(parents=True)
        for twin in "ab":
            (nest / str(level) / twin).symlink_to(nest / str((level + 1) % 30))
    assert len(open_tree(tree)) == 6


def test_pipes_devices_and_folders_with_the_name_of_an_image_are_not_read(tree, capsys):
    os.mkfifo(tree / "train/cat/pipe.png")
    (tree / "train/cat/zero.png").symlink_to("/dev/zero")
    (tree / "train/cat/folder.png").mkdir()
    (tree / "train/cat/circle.png").symlink_to("circle.png")
    assert len(open_tree(tree)) == 6
    assert "2 devices, pipes or sockets" in capsys.readouterr().err


def test_a_split_may_be_a_path_and_the_test_split_is_looked_for_beside_it(tree):
    deep = tree / "ILSVRC/Data/CLS-LOC"
    deep.mkdir(parents=True)
    for split in ("train", "val"):
        (tree / split).rename(deep / split)
    named = {"train": "ILSVRC/Data/CLS-LOC/train", "test": "ILSVRC/Data/CLS-LOC/val"}
    for keys in (named, {"train": named["train"]}, {"train": f"./{named['train']}/"}):
        train, test = open_splits(Data(source=str(tree), resolution=8, **keys))
        assert (len(train), len(test)) == (6, 4)


@pytest.mark.parametrize("split", ["test", "validation", "val", "valid", "dev", "eval"])
def test_every_usual_name_of_a_test_split_is_found(tree, split):
    (tree / "val").rename(tree / split)
    assert len(open_splits(Data(source=str(tree), resolution=8))[1]) == 4


def test_a_test_folder_without_classes_gives_way_to_one_with_classes(tree, capsys):
    (tree / "test/images").mkdir(parents=True)  # as Tiny-ImageNet has it
    picture(70).save(tree / "test/images/0.png")
    assert len(open_splits(Data(source=str(tree), resolution=8))[1]) == 4
    assert "test has no folders of classes; the test split is val" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"1 only in .*test: images"):
        (tree / "test/cat").mkdir()
        picture(71).save(tree / "test/cat/0.png")
        open_splits(Data(source=str(tree), resolution=8, test="test"))


def test_names_that_are_not_utf8_are_images_but_no_classes(tree):
    odd = os.fsdecode(b"\xff\xfe.png")
    (tree / "train/cat" / odd).write_bytes((tree / "train/cat/0.png").read_bytes())
    assert len(open_tree(tree)) == 7
    (tree / "train/cat" / odd).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"cannot decode .*\\udcff\\udcfe\.png"):
        open_tree(tree)
    (tree / "train" / os.fsdecode(b"\xff")).mkdir()
    told = r"train/\\udcff has a name that is not UTF-8; .* set PYTHONUTF8=1"
    with pytest.raises(InputError, match=told):
        open_tree(tree)


@pytest.mark.parametrize("source", ["x" * 300, "a/" * 3000 + "b", "a::b", "s3://a/b", "a?b", "-"])
def test_sources_that_cannot_be_are_one_line(source):
    with pytest.raises(InputError) as error:
        open_dataset(Data(source=source, resolution=8), "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["a::b", "s3://a/b", "a?b"])
def test_sources_that_are_not_there_are_no_data_set_of_a_dry_run_either(source):
    assert kept_size(Data(source=source, resolution=8)) is None
    with pytest.raises(InputError, match="no folder or file"):
        open_dataset(Data(kind="vectors", source=source), "train")


@pytest.mark.parametrize("key", ["source", "train", "test", "cache"])
def test_null_bytes_and_empty_names_are_refused_by_the_recipe(key):
    for value in ("a\0b", ""):
        with pytest.raises(InputError, match=f"^(data.)?{key} ") as error:
            Data(**{key: value})
        assert "\n" not in str(error.value)


def test_a_file_and_an_empty_folder_are_no_source(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="it holds nothing"):
        open_dataset(Data(source=str(tmp_path / "empty")), "train")
    with pytest.raises(InputError, match="is a file; give the folder"):
        open_dataset(Data(source=str(tree / "train/cat/0.png")), "train")


def test_a_huge_file_is_not_read(tree):
    with (tree / "train/cat/0.png").open("r+b") as file:
        file.truncate(2**40)  # sparse: it takes no place
    with pytest.raises(InputError, match=r"cat/0\.png: it has more than 1024 MiB"):
        open_tree(tree)


def test_a_git_lfs_pointer_says_what_to_run(tree):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    (tree / "train/cat/0.png").write_text(pointer)
    with pytest.raises(InputError, match=r"cat/0\.png: it is a Git LFS pointer; run"):
        open_tree(tree)


def test_classes_that_yaml_could_read_as_flags_or_numbers_are_found(tree):
    for split in ("train", "val"):
        for old, new in (("cat", "no"), ("dog", "010")):
            (tree / split / old).rename(tree / split / new)
        for decoy in ("False", "8"):
            (tree / split / decoy).mkdir()
            picture(90).save(tree / split / decoy / "0.png")
    overrides = [f"data.source={tree}", "data.classes=[no, 010]", "data.config=null"]
    recipe = config.load(Recipe, config.find("cifar10_ipc10", "recipes"), overrides)
    assert open_dataset(recipe.data, "train").class_names == ("no", "010")


def test_a_wide_set_of_sizes_and_modes_is_one_data_set(tree):
    picture(80, (8, 8000)).save(tree / "train/cat/tall.png")
    picture(81, (3, 1)).convert("CMYK").save(tree / "train/cat/small.tiff")
    picture(82, (40, 40)).convert("P").save(tree / "train/cat/palette.gif")
    assert open_tree(tree).images.shape == (9, 3, 8, 8)


def test_a_folder_whose_name_begins_with_a_tilde_is_opened(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    tree.rename("~pets")
    assert len(open_tree("./~pets")) == 6
