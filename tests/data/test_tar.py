"""Tar files: shards of webdataset, folders inside of tars, and what strangers put into them."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
import torch

from latentdc import open_dataset, open_splits
from latentdc.data import decode
from latentdc.errors import InputError
from latentdc.recipe import Data
from tests.data.conftest import picture


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """A tar of files by name, or of other members; returns the folder of the test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path.parent


def shard(first: int, labels: list, suffix: str = "cls") -> dict[str, bytes]:
    """Samples `picture(first)` and so on, each with its label beside it."""
    found = {}
    for number, label in enumerate(labels, first):
        found[f"{number:04d}.png"] = png(number)
        text = json.dumps(label) if suffix == "json" else str(label)
        found[f"{number:04d}.{suffix}"] = text.encode()
    return found


def opened(folder: Path, split: str = "train", **keys):
    return open_dataset(Data(source=str(folder), resolution=8, **keys), split)


def shows(images: torch.Tensor, *seeds: int) -> bool:
    wanted = [decode.decode(png(seed), 8)[0] for seed in seeds]
    return torch.equal(images, torch.stack([*map(torch.from_numpy, wanted)]))


@pytest.mark.smoke
def test_shards_of_webdataset_are_a_data_set(tmp_path):
    write(tmp_path / "train-000000.tar", shard(0, [10, 9]))
    write(tmp_path / "train-000001.tar", shard(2, [9, 10]))
    write(tmp_path / "val-000000.tar", shard(7, [9, 10]))
    train, test = open_splits(Data(source=str(tmp_path), resolution=8))
    assert (train.class_names, train.labels.tolist()) == (("9", "10"), [1, 0, 0, 1])
    assert test.name.endswith("validation") and shows(test.images, 7, 8)
    assert shows(train.images, 0, 1, 2, 3)
    some = opened(tmp_path, classes=["10", "9"])
    assert some.labels.tolist() == [0, 1, 1, 0]


def test_labels_are_text_or_a_key_of_json(tmp_path):
    write(tmp_path / "a/train.tar", shard(0, ["dog", "cafe\u0301"]))
    assert opened(tmp_path / "a").class_names == ("caf\u00e9", "dog")
    labels = [{"label": 3, "name": "dog"}, {"label": 1, "name": "cat"}]
    write(tmp_path / "b/train.tar", shard(0, labels, "json"))
    assert opened(tmp_path / "b").class_names == ("1", "3")
    assert opened(tmp_path / "b", label="name").class_names == ("cat", "dog")
    with pytest.raises(InputError, match=r"2 of 2 images have no label.*with the key size"):
        opened(tmp_path / "b", label="size")


def test_splits_and_classes_are_folders_inside_of_a_tar(tmp_path, tree):
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        tar.add(tree, "pets")
    (tmp_path / "set").mkdir()
    (tmp_path / "whole.tar").rename(tmp_path / "set/whole.tar")
    inside, outside = (
        open_splits(Data(source=str(source), resolution=8)) for source in (tmp_path / "set", tree)
    )
    for one, other in zip(inside, outside, strict=True):
        assert one.class_names == other.class_names == ("cat", "dog")
        assert sorted(zip(one.hashes.tolist(), one.labels.tolist(), strict=True)) == sorted(
            zip(other.hashes.tolist(), other.labels.tolist(), strict=True)
        )


def test_classes_of_a_tar_without_splits_are_divided_by_a_share(tmp_path):
    names = [f"{name}/deep/{number}.png" for name in ("cat", "dog") for number in range(3)]
    write(tmp_path / "pets.tar", {name: png(seed) for seed, name in enumerate(names)})
    train, test = open_splits(Data(source=str(tmp_path), resolution=8, test_share=0.34))
    assert (len(train), len(test), train.class_names) == (4, 2, ("cat", "dog"))


def test_each_tar_is_a_class_where_no_image_has_a_label_or_folder(tmp_path):
    write(
        tmp_path / "train/n01440764.tar", {"n01440764_1.JPEG": png(0), "n01440764_2.JPEG": png(1)}
    )
    write(tmp_path / "train/n01443537.tar", {"1.JPEG": png(2)})
    train = opened(tmp_path)
    assert train.class_names == ("n01440764", "n01443537")
    assert train.labels.tolist() == [0, 0, 1] and shows(train.images, 0, 1, 2)
    (tmp_path / "train/n01443999.tar").symlink_to(tmp_path / "unmounted.tar")
    with pytest.raises(InputError, match=r"n01443999\.tar is a link that leads nowhere; restore"):
        opened(tmp_path)


def packed(members: dict[str, bytes]) -> bytes:
    """A tar in memory."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def test_a_tar_inside_of_a_tar_is_a_class(tmp_path):
    one = packed({"1.JPEG": png(0)})
    members = {
        "n01440764.tar": one[: 512 + -(-len(png(0)) // 512) * 512],  # without blocks at its end
        "n01443537.tar": packed({"1.JPEG": png(1), "2.JPEG": png(2)}),
    }
    write(tmp_path / "ILSVRC2012_img_train.tar", members)
    train = opened(tmp_path)
    assert train.class_names == ("n01440764", "n01443537")
    assert train.labels.tolist() == [0, 1, 1] and shows(train.images, 0, 1, 2)


def test_a_tar_inside_that_is_cut_off_or_none_is_told(tmp_path, capsys):
    inner = packed({"1.png": png(1), "2.png": png(2)})
    good = {"a.tar": packed({"1.png": png(0)}), "b.tar": inner, "c.tar": b"text" * 200}
    write(tmp_path / "good/train.tar", {**good, "d.tar": packed({"e.tar": inner})})
    assert opened(tmp_path / "good").labels.tolist() == [0, 1, 1]
    assert "2 (1 tars inside that are empty or none, 1 .tar)" in capsys.readouterr().err
    torn = inner[:512] + inner[512:].replace(b"ustar", b"uster", 1)
    for bad, why in ((inner[:700], "unexpected end of data"), (torn, "it stops before the zeros")):
        write(tmp_path / "bad/train.tar", {**good, "b.tar": bad})
        with pytest.raises(InputError, match=rf"cannot read .*train\.tar: {why}"):
            opened(tmp_path / "bad")


def test_folders_of_tars_are_classes_or_hold_shards(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        for shard_number in (0, 1):
            seed = 2 * number + shard_number
            write(tmp_path / f"a/data/train/{name}/{shard_number:05d}.tar", {"1.png": png(seed)})
    train = opened(tmp_path / "a")
    assert (train.class_names, train.labels.tolist()) == (("cat", "dog"), [0, 0, 1, 1])
    for number in (0, 2, 3):
        write(tmp_path / f"b/train/{number:05d}.tar", shard(number, [0, 1]))
    with pytest.raises(InputError, match=r"the shard .*b/train/00001\.tar is missing"):
        opened(tmp_path / "b")
    write(tmp_path / "b/train/00001.tar", shard(9, [0, 1]))
    assert opened(tmp_path / "b").labels.tolist() == [0, 1] * 4


@pytest.mark.parametrize(
    "names", ["cat dog more/bird", "p1/cat p2/dog p2/bird", "p1/n01440764 p2/n02102040"]
)
def test_tars_in_several_folders_are_classes_unless_they_are_shards(tmp_path, names, capsys):
    for number, name in enumerate(names.split()):
        write(tmp_path / f"{name}.tar", {"1.png": png(number)})
    stems = sorted(name.rpartition("/")[2] for name in names.split())
    assert opened(tmp_path).class_names == tuple(stems)
    assert "classes are named by their tar files, not" in capsys.readouterr().err


def test_two_folders_of_shards_that_have_one_name_are_refused(tmp_path):
    for folder in ("a/cat", "b/cat", "b/dog"):
        write(tmp_path / folder / "part-00000.tar", {"1.png": png(len(folder))})
    with pytest.raises(InputError, match=r"a/cat and .*b/cat hold shards of classes of one name"):
        opened(tmp_path)


def test_bare_numbers_from_0_or_1_on_are_shards_and_others_classes(tmp_path):
    for year in (1998, 2000, 2001):
        write(tmp_path / f"{year}.tar", {"1.png": png(year)})
    assert opened(tmp_path).class_names == ("1998", "2000", "2001")


def test_a_compressed_tar_that_is_no_shard_or_split_is_left_out(tmp_path, capsys):
    members = {f"{name}.tar": packed({"1.JPEG": png(0)}) for name in ("n01440764", "n01443537")}
    write(tmp_path / "ILSVRC2012_img_train.tar", members)
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzip.compress(packed({"a.txt": b"a"})))
    assert len(opened(tmp_path)) == 2
    assert "left out 1 (1 compressed tar files)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train-000001.tar.gz", "train/1.TGZ", "train.tar.zst"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_compressed_tar_is_refused_and_not_passed_over(tmp_path, name, beside):
    if beside:
        write(tmp_path / "train-000000.tar", shard(0, [0, 1]))
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(packed(shard(2, [0, 1]))))
    with pytest.raises(InputError, match=rf"1 compressed tar files, such as {path.name}, which"):
        opened(tmp_path)


def test_a_tar_is_gone_through_once(tmp_path, monkeypatch):
    write(tmp_path / "train-000000.tar", shard(0, [0, 1]))
    first = opened(tmp_path)
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("gone through again"))
    assert torch.equal(opened(tmp_path).images, first.images)
    assert opened(tmp_path, unreadable="skip").labels.tolist() == [0, 1]


def test_a_test_split_without_labels_gives_way_to_validation(tmp_path, capsys):
    write(tmp_path / "train.tar", shard(0, [0, 1]))
    write(tmp_path / "test.tar", {f"{number}.png": png(9 + number) for number in range(2)})
    write(tmp_path / "validation.tar", shard(5, [1, 0]))
    assert opened(tmp_path, "test").labels.tolist() == [1, 0]
    assert "test has no labels; the test split is validation" in capsys.readouterr().err


def test_an_image_without_a_label_is_named(tmp_path):
    members = shard(0, [0, 1]) | {"0009.png": png(9)}
    write(tmp_path / "train-000000.tar", members)
    with pytest.raises(InputError, match=r"1 of 3 images have no label, first .*tar: 0009\.png"):
        opened(tmp_path)


def test_an_unreadable_image_is_named_or_left_out(tmp_path, capsys):
    write(tmp_path / "train.tar", shard(0, [0, 1, 1]) | {"0001.png": b"no image"})
    with pytest.raises(InputError, match=r"cannot decode .*train\.tar: 0001\.png: it is no image"):
        opened(tmp_path)
    assert opened(tmp_path, unreadable="skip").labels.tolist() == [0, 1]


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def test_links_devices_and_clutter_are_left_out_and_counted(tmp_path, capsys):
    others = {
        "0007.png": member("0007.png", tarfile.SYMTYPE, "/etc/passwd"),
        "0008.png": member("0008.png", tarfile.LNKTYPE, "0001.png"),
        "0009.png": member("0009.png", tarfile.FIFOTYPE),
        "._0001.png": b"left by macOS",
        "notes.pdf": b"of no use",
    }
    write(tmp_path / "train.tar", shard(0, [0, 1]) | others)
    assert len(opened(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "3 links, devices or sparse files" in told and "1 .pdf" in told


@pytest.mark.parametrize(
    "name", ["/etc/0001.png", "../0001.png", "cat/../../0001.png", "cat\\..\\1.png", "a/\udcff.png"]
)
def test_names_that_lead_out_of_a_tar_are_refused(tmp_path, name):
    write(tmp_path / "train.tar", {"cat/1.png": png(0), name: png(1)})
    with pytest.raises(InputError, match=r"train\.tar has a member .*(leads out|is not UTF-8)"):
        opened(tmp_path)


def test_damaged_and_compressed_tars_are_one_line(tmp_path):
    path = tmp_path / "train.tar"
    write(path, shard(0, [0, 1]))
    whole = path.read_bytes()
    second = len(whole.rstrip(b"\0")) // 512 * 512 - 1024  # the last image, and its label
    cut = [whole[: second + more] for more in (0, 100, 512)]
    torn = whole[:512] + whole[512:].replace(b"ustar", b"uster", 1)
    for content in (whole[:700], b"", b"text" * 1000, gzip.compress(whole), *cut, torn, whole * 2):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"(cannot read .*train\.tar: .*damaged|no images)"):
            opened(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(InputError, match=r"Git LFS pointer; run `git lfs pull`"):
        opened(tmp_path)


def test_a_label_of_no_sense_and_a_sample_that_stands_twice_are_refused(tmp_path):
    write(tmp_path / "a/train.tar", shard(0, [0, 1]) | {"0000.json": b"[" * 100_000})
    with pytest.raises(InputError, match=r"0000\.json is no JSON"):
        opened(tmp_path / "a")
    write(tmp_path / "b/train.tar", shard(0, [0, 1]) | {"0000.jpg": png(5)})
    with pytest.raises(InputError, match=r"two images 0000\.jpg"):
        opened(tmp_path / "b")


def test_the_mark_that_windows_puts_before_text_is_no_part_of_a_label(tmp_path):
    marked = {
        name: b"\xef\xbb\xbf" + text for name, text in shard(0, [0, 1]).items() if "cls" in name
    }
    write(tmp_path / "a/train.tar", shard(0, [0, 1, 0, 1]) | marked)
    assert opened(tmp_path / "a").class_names == ("0", "1")


def test_labels_that_contradict_each_other_are_told(tmp_path, capsys):
    members = shard(0, [0, 1, 2]) | {"0000.json": b'{"label": "zero"}'}  # a name may be of a number
    write(tmp_path / "a/train.tar", members | {"0001.json": b'{"label": 1, "width": 8}'})
    assert opened(tmp_path / "a").labels.tolist() == [0, 1, 2]
    assert "other than" not in capsys.readouterr().err
    write(tmp_path / "b/train.tar", {"0001.json": b'{"label": 0}'} | members)
    assert opened(tmp_path / "b").labels.tolist() == [0, 1, 2]
    assert "1 labels in a .json other than in the .cls beside it" in capsys.readouterr().err


def test_a_missing_shard_is_named(tmp_path):
    for number in (0, 2):
        write(tmp_path / f"train-{number:06d}.tar", shard(number, [0]))
    with pytest.raises(InputError, match=r"the shard .*train-000001\.tar is missing"):
        opened(tmp_path)
    write(tmp_path / "of/train-00000-of-00002.tar", shard(0, [0, 1]))
    with pytest.raises(InputError, match=r"1 of the 2 files of train; train-00001-of-00002"):
        opened(tmp_path / "of")


def test_a_split_that_does_not_exist_is_named(tmp_path):
    write(tmp_path / "train.tar", shard(0, [0, 1]))
    with pytest.raises(InputError, match=r"has no split 'trian', did you mean|its splits: train"):
        opened(tmp_path, train="trian")
    with pytest.raises(InputError, match="none of the test splits"):
        opened(tmp_path, "test")
