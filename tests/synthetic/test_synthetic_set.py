import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from latentdc import io, pictures, temporaries
from latentdc.errors import InputError
from latentdc.synthetic import SyntheticSet, files, synthetic_set
from latentdc.synthetic import folder as layout
from tests.synthetic.sets import NAMES, float_images, random_set


def assert_equal(found: SyntheticSet, expected: SyntheticSet) -> None:
    for name in ("images", "labels", "z", "c", "noise"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), name
    assert found.class_names == expected.class_names
    assert found.provenance == expected.provenance


@pytest.mark.parametrize(
    "changes",
    [{}, {"z": None, "c": None, "noise": None}, {"images": float_images(), "c": None}],
    ids=["uint8 with latents", "images only", "float images"],
)
def test_a_set_comes_back_bit_by_bit_and_in_its_order(tmp_path, changes):
    saved = random_set(**changes)
    saved.save_pretrained(tmp_path / "set")
    assert_equal(SyntheticSet.from_pretrained(tmp_path / "set"), saved)


def test_more_images_than_one_row_group_keep_their_order(tmp_path):
    saved = random_set(ipc=60)
    saved.save_pretrained(tmp_path / "set")
    assert_equal(SyntheticSet.from_pretrained(tmp_path / "set"), saved)


@pytest.fixture
def small_files(monkeypatch):
    """Three parquet files where there would be one."""
    monkeypatch.setattr(files, "GROUP", 2)
    monkeypatch.setattr(files, "SHARD", 3 * 3 * 8 * 8)


def test_a_large_set_has_several_files_and_comes_back_in_its_order(tmp_path, small_files):
    made = random_set()
    made.save_pretrained(tmp_path / "set")
    names = [path.name for path in layout.shards(tmp_path / "set")]
    assert names == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    loaded = SyntheticSet.from_pretrained(tmp_path / "set")
    assert torch.equal(loaded.images, made.images) and torch.equal(loaded.labels, made.labels)
    table = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert list(table["train"]["label"]) == made.labels.tolist()
    layout.shards(tmp_path / "set")[1].unlink()
    with pytest.raises(InputError, match="2 of its 3 parquet files are there"):
        SyntheticSet.from_pretrained(tmp_path / "set")


def test_plain_load_dataset_reads_images_and_class_names(tmp_path):
    saved = random_set()
    saved.save_pretrained(tmp_path / "set", recipe="ipc: 2\n", results={"rows": [{"mean": 0.5}]})
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].features["label"].names == list(NAMES)
    assert loaded["train"]["label"][:] == saved.labels.tolist()
    images = np.stack([np.array(image) for image in loaded["train"]["image"]])
    assert torch.equal(torch.from_numpy(images).permute(0, 3, 1, 2), saved.images)


def test_load_dataset_gives_float_images_rounded_and_clamped(tmp_path):
    images = float_images()
    images[0, :, 0, 0] = torch.tensor([-3.0, 0.0, 3.0])
    random_set(images=images).save_pretrained(tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"][0]["image"].getpixel((0, 0)) == (0, 128, 255)


def test_the_folder_has_exactly_the_layout_of_a_hub_repo(tmp_path):
    folder = tmp_path / "set"
    random_set().save_pretrained(folder, recipe="ipc: 2\n", results={"rows": []})
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "grid.png",
        "latents.safetensors",
        "provenance.json",
        "recipe.yaml",
        "results.json",
    }
    assert (folder / "recipe.yaml").read_text() == "ipc: 2\n"
    assert json.loads((folder / "results.json").read_text()) == {"rows": []}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_older_set_is_replaced_with_nothing_of_it_left(tmp_path):
    random_set().save_pretrained(tmp_path / "set", recipe="old: 1\n")
    newer = random_set(ipc=1)
    newer.save_pretrained(tmp_path / "set")
    assert_equal(SyntheticSet.from_pretrained(tmp_path / "set"), newer)
    assert not (tmp_path / "set" / "recipe.yaml").exists()


def test_what_lies_beside_an_older_set_stays_as_it_is(tmp_path):
    random_set().save_pretrained(tmp_path)
    kept = {"notes/README.md": "mine", ".git/HEAD": "ref: refs/heads/main", "data/raw.csv": "1,2"}
    for name, text in kept.items():  # of a clone of the Hub's repo
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    links = {"notes/again.md": "README.md", "gone.txt": "nowhere", "here": "."}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    newer = random_set(ipc=1)
    newer.save_pretrained(tmp_path)
    newer.add_results(tmp_path, {"rows": []})
    assert_equal(SyntheticSet.from_pretrained(tmp_path), newer)
    assert {name: (tmp_path / name).read_text() for name in kept} == kept
    newer.add_results(tmp_path, {"rows": []})  # nothing to write
    newer.save_pretrained(tmp_path)
    assert {name: os.readlink(tmp_path / name) for name in links} == links


def test_a_set_whose_rows_are_linked_is_replaced_and_not_written_through(tmp_path):
    folder, elsewhere = tmp_path / "set", tmp_path / "rows"
    older, newer = random_set(), random_set(ipc=1)
    older.save_pretrained(folder)
    (folder / "data").rename(elsewhere)
    (folder / "data").symlink_to("../rows")
    kept = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    newer.save_pretrained(folder)
    assert_equal(SyntheticSet.from_pretrained(folder), newer)
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == kept


def test_results_are_added_to_a_folder_whose_files_are_links(tmp_path):
    made, folder = random_set(), tmp_path / "snapshot"
    made.save_pretrained(tmp_path / "blobs")
    (folder / "data").mkdir(parents=True)
    for path in (tmp_path / "blobs").rglob("*.*"):
        place = path.relative_to(tmp_path / "blobs")
        if path.is_file():
            up = "../" * len(place.parts)
            (folder / place).symlink_to(f"{up}blobs/{place.as_posix()}")
    made.add_results(folder, {"rows": []})
    assert_equal(SyntheticSet.from_pretrained(folder), made)
    assert (folder / "results.json").is_file() and (folder / "grid.png").is_symlink()


def test_a_set_whose_file_names_its_classes_in_another_form_is_the_same(tmp_path, monkeypatch):
    names = ("no", "01", "cre\u0300me", "b")
    monkeypatch.setattr("latentdc.arguments.one_form", str)  # as an earlier version wrote it
    random_set(class_names=names).save_pretrained(tmp_path)
    monkeypatch.undo()
    kept = SyntheticSet.from_pretrained(tmp_path)
    kept.add_results(tmp_path, {"rows": []})
    assert kept.class_names[2] == "cr\xe8me"


def test_results_are_added_to_vectors_whatever_the_default_device(tmp_path):
    made = SyntheticSet(torch.rand(4, 5), torch.tensor([0, 0, 1, 1]), ("a", "b"))
    made.save_pretrained(tmp_path)
    with torch.device("meta"):
        made.add_results(tmp_path, {"rows": []})
    assert (tmp_path / "results.json").is_file()


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="left as it is; choose a new or empty folder"):
        random_set().save_pretrained(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_link_to_nowhere_is_not_written_over(tmp_path):
    (tmp_path / "set").symlink_to("gone")
    with pytest.raises(InputError, match="left as it is; choose a new or empty folder"):
        random_set().save_pretrained(tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("place", ["set", ".set.old"], ids=["in place", "moved by a killed save"])
def test_a_full_disk_leaves_the_older_set_whole(tmp_path, monkeypatch, place):
    older = random_set()
    older.save_pretrained(tmp_path / place)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pictures, "save_grid", full)
    with pytest.raises(OSError, match="No space left"):
        random_set(ipc=1).save_pretrained(tmp_path / "set")
    assert_equal(SyntheticSet.from_pretrained(tmp_path / "set"), older)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_save_killed_between_the_renames_loses_nothing_to_the_next_one(tmp_path):
    random_set().save_pretrained(tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / ".set.old")
    (tmp_path / f".set.{temporaries._machine()}-{os.getpid()}-0123ab.part").mkdir()
    newer = random_set(ipc=1)
    newer.save_pretrained(tmp_path / "set")
    assert_equal(SyntheticSet.from_pretrained(tmp_path / "set"), newer)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_run_folder_stands_for_the_set_in_it(tmp_path):
    random_set().save_pretrained(tmp_path / "run" / "synthetic")
    assert_equal(SyntheticSet.from_pretrained(tmp_path / "run"), random_set())


def test_a_hub_id_is_downloaded_at_its_revision(tmp_path, monkeypatch):
    random_set().save_pretrained(tmp_path / "snapshot")
    asked = {}

    def snapshot_download(repo_id: str, **options: object) -> str:
        asked.update(options, repo_id=repo_id)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert_equal(SyntheticSet.from_pretrained("user/name", revision="v1"), random_set())
    assert asked["repo_id"] == "user/name"
    assert asked["repo_type"] == "dataset"
    assert asked["revision"] == "v1"


def test_a_revision_of_a_folder_that_lies_here_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_set().save_pretrained("user/name")
    with pytest.raises(InputError, match="'v1' is of a set on the Hub, and user/name is a folder"):
        SyntheticSet.from_pretrained("user/name", revision="v1")


def test_a_hub_repo_of_another_layout_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(InputError, match="'user/name' is no synthetic set: it lacks data/train"):
        SyntheticSet.from_pretrained("user/name")


@pytest.mark.parametrize("name", ["runs/digits", "no/such/folder"])
def test_a_missing_set_is_told_in_one_line(monkeypatch, name):
    def offline(repo_id: str, **_: object) -> str:
        huggingface_hub.utils.validate_repo_id(repo_id)
        raise LocalEntryNotFoundError("Cannot reach the Hub\nlong story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="there is no such folder, and the Hub gave none") as told:
        SyntheticSet.from_pretrained(name)
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match=f"'{name}' of revision 'v9': there is .* Check both;"):
        SyntheticSet.from_pretrained(name, revision="v9")


def test_a_folder_without_a_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no synthetic set"):
        SyntheticSet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "file", ["data/train-00000-of-00001.parquet", "latents.safetensors", "provenance.json"]
)
def test_a_damaged_file_is_refused(tmp_path, file):
    random_set().save_pretrained(tmp_path / "set")
    path: Path = tmp_path / "set" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="is damaged"):
        SyntheticSet.from_pretrained(tmp_path / "set")


def test_a_saved_set_whose_parts_do_not_fit_is_refused_and_not_called_damaged(tmp_path):
    random_set().save_pretrained(tmp_path)
    path = tmp_path / "latents.safetensors"
    save_file(load_file(path) | {"soft_labels": torch.full((8, 4), 0.25)}, path)
    with pytest.raises(InputError, match=r"^cannot read the set in .*: .*are probabilities"):
        SyntheticSet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(8, 1, 8, 8)}, r"images are \(N, 3, H, H\)"),
        ({"images": torch.zeros(8, 3, 8, 8, dtype=torch.float64)}, "uint8 or float32, or vectors"),
        ({"labels": torch.zeros(7, dtype=torch.int64)}, "8 images need as many int64 labels"),
        ({"labels": torch.full((8,), 4)}, "indices into 4 class names, got 4 to 4"),
        ({"class_names": ("a", "a", "b", "c")}, "all different"),
        ({"z": torch.zeros(7, 4)}, "z is float32 with one entry for each of 8 images"),
        ({"z": torch.tensor(1.0)}, "z is float32 with one entry for each of 8 images"),
        ({"images": torch.zeros(8, 0)}, r"vectors \(N, D\) of float32, got \(8, 0\)"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        random_set(**changes)


def test_levels_and_floats_are_two_views_of_the_same_images():
    levels = random_set()
    assert torch.equal(levels.levels(), levels.images)
    torch.testing.assert_close(levels.floats(), levels.images / 127.5 - 1)
    floats = random_set(images=float_images())
    assert torch.equal(floats.floats(), float_images())
    expected = ((float_images().clamp(-1, 1) + 1) * 127.5).round()
    assert torch.equal(floats.levels().float(), expected)


def test_storage_counts_bytes_of_each_part_and_codec(tmp_path):
    synthetic = random_set()
    synthetic.save_pretrained(tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    rows = loaded["train"].cast_column("image", datasets.Image(decode=False))
    sizes = synthetic.storage()
    assert sizes["images/png"] == sum(len(image["bytes"]) for image in rows["image"])
    assert 0 < sizes["images/jpeg75"] < sizes["images/jpeg95"]
    assert sizes["labels/int64"] == 8 * 8
    assert sizes["z/float32"] == sizes["noise/float32"] == 8 * 4 * 2 * 2 * 4
    assert sizes["c/float32"] == 8 * 8 * 4
    assert "images/float32" not in sizes
    assert random_set(images=float_images()).storage()["images/float32"] == 8 * 3 * 8 * 8 * 4
    assert random_set(grid=1).storage() == random_set().storage()


def test_every_quality_of_jpeg_is_stated():
    sizes = random_set().storage()
    assert {"images/jpeg95", "images/jpeg75"} < sizes.keys()


def test_images_are_counted_as_png_and_floats_by_their_four_bytes(monkeypatch):
    made = random_set()
    assert made.image_bytes() == made.storage()["images/png"]
    assert random_set(images=float_images()).image_bytes() == float_images().nbytes
    assert random_set(images=torch.zeros(8, 7)).image_bytes() == 8 * 7 * 4
    monkeypatch.setattr(synthetic_set, "MOST", made.images.numel() - 1)
    assert random_set().image_bytes() is None


@pytest.fixture
def encoded(monkeypatch):
    """The images that are encoded as PNG, counted."""
    found = []
    encode = files.encode

    def counting(image, codec="PNG", quality=95):
        if codec == "PNG":
            found.append(1)
        return encode(image, codec, quality)

    monkeypatch.setattr(files, "encode", counting)
    return found


def test_a_set_knows_its_bytes_from_the_file_it_was_written_to(tmp_path, encoded):
    made = random_set()
    made.save_pretrained(tmp_path / "set")
    read = SyntheticSet.from_pretrained(tmp_path / "set")
    assert made.image_bytes() == read.image_bytes() == read.storage()["images/png"]
    assert len(encoded) == len(made)
    assert read.rows(torch.arange(3)).image_bytes() < read.image_bytes()
    assert len(encoded) == len(made) + 3


def test_results_are_added_without_touching_images(tmp_path, encoded):
    made, folder = random_set(), tmp_path / "set"
    made.save_pretrained(folder, recipe="ipc: 2\n")
    rows = folder / "data/train-00000-of-00001.parquet"
    before, count = rows.stat().st_ino, len(encoded)
    made.add_results(folder, {"rows": [1]}, recipe="ipc: 2\n")
    assert (rows.stat().st_ino, len(encoded)) == (before, count)
    made.save_pretrained(tmp_path / "other", recipe="ipc: 2\n", results={"rows": [1]})
    assert contents(folder) == contents(tmp_path / "other")
    made.add_results(folder, {"rows": [2]})
    assert json.loads((folder / "results.json").read_text()) == {"rows": [2]}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_results_of_another_set_are_not_added(tmp_path):
    made, folder = random_set(), tmp_path / "set"
    with pytest.raises(InputError, match=r"does not hold this set.*save_pretrained"):
        made.add_results(folder, {"rows": []})
    random_set(provenance={"seed": 1}).save_pretrained(folder)
    before = contents(folder)
    with pytest.raises(InputError, match="does not hold this set"):
        made.add_results(folder, {"rows": []})
    names = made.class_names[::-1]
    for other in (
        {"images": 255 - made.images},
        {"labels": 3 - made.labels},
        {"class_names": names},
    ):
        with pytest.raises(InputError, match="does not hold this set"):
            replace(made, provenance={"seed": 1}, **other).add_results(folder, {"rows": []})
    assert contents(folder) == before


@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_of_a_set_that_is_replaced_while_it_is_read_is_mixed_into_the_other(
    tmp_path, monkeypatch, damaged
):
    one = random_set()
    other = replace(one, images=255 - one.images, z=-one.z)
    one.save_pretrained(tmp_path / "set")
    read = io.read_json

    def replaced(path):
        """The rows are read by now, and the latents are not."""
        monkeypatch.setattr(io, "read_json", read)
        other.save_pretrained(tmp_path / "set")
        if damaged:  # between the two
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(io, "read_json", replaced)
    found = SyntheticSet.from_pretrained(tmp_path / "set")
    assert torch.equal(found.z, other.z) and torch.equal(found.images, other.images)
