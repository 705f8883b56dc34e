"""Folders of tables as strangers leave them: lost types, odd labels, cards that reach elsewhere."""

import json
import os
import shutil
from dataclasses import replace
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Features, Image
from huggingface_hub.errors import HfHubHTTPError

from latentdc import cli, open_dataset, open_splits
from latentdc.data import encoded, hub, parquet
from latentdc.errors import InputError
from latentdc.recipe import Data
from latentdc.recipe.subsets import imagenet_indices, wordnet_ids
from tests.data.conftest import picture


def png(seed: int) -> bytes:
    buffer = BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [png(seed) for seed in range(4)]
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def rows(images: list, kind: pa.DataType = STRUCT) -> pa.Array:
    entries = [{"bytes": i, "path": None} for i in images] if pa.types.is_struct(kind) else images
    return pa.array(entries, kind)


def save(folder: Path, labels, images=None, *, name="data/train-00000-of-00001.parquet", **more):
    """A parquet file without the Hub's note of its types."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    images = rows(PNGS[: len(labels)]) if images is None else images
    pq.write_table(pa.table({"image": images, "label": labels} | more), path)
    return folder


def opened(folder: Path, split="train", **keys):
    return open_dataset(Data(source=str(folder), resolution=8, **keys), split)


KINDS = {
    "struct": STRUCT,
    "struct in another order": pa.struct({"path": pa.string(), "bytes": pa.binary()}),
    "bytes alone": pa.struct({"bytes": pa.binary()}),
    "large": pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()}),
    "binary": pa.binary(),
    "large binary": pa.large_binary(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_found_without_the_note_of_their_type(tmp_path, kind):
    entries = PNGS if "binary" in kind else [{"bytes": content} for content in PNGS]
    train = opened(save(tmp_path, [0, 1, 1, 0], pa.array(entries, KINDS[kind])))
    assert torch.equal(train.images[2], levels(2)) and train.labels.tolist() == [0, 1, 1, 0]


def levels(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.array(picture(seed))).permute(2, 0, 1)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_labels_of_every_arrow_type_are_class_names(tmp_path, kind):
    labels = pa.array(["dog", "cat", "dog", "cat"]).cast(kind)
    train = opened(save(tmp_path, labels))
    assert (train.class_names, train.labels.tolist()) == (("cat", "dog"), [1, 0, 1, 0])
    assert torch.equal(train.images[3], levels(3))


NO_LABEL = {
    "minus one": pa.array([-1, -1]),
    "minus one of one byte": pa.array([-1, -1], pa.int8()),
    "below": pa.array([-2, -100]),
    "null": pa.array([None, None], pa.int64()),
    "empty text": pa.array(["", " "]),
    "null text": pa.array([None, None], pa.string()),
    "minus one in words, text": pa.array(["-1", " -1 "]),
}


@pytest.mark.parametrize("kind", [*NO_LABEL, "no column", "floats", "flags"])
def test_a_test_split_without_labels_gives_way_to_validation(tmp_path, capsys, kind):
    test = "data/test-00000-of-00001.parquet"
    text = "text" in kind
    names = ["a", "b"] if text else [0, 1]
    save(tmp_path, pa.array(names))
    save(tmp_path, pa.array(names), rows(PNGS[2:]), name=test.replace("test", "validation"))
    if kind == "no column":
        pq.write_table(pa.table({"image": rows(PNGS[:2])}), tmp_path / test)
    elif kind in ("floats", "flags"):
        save(
            tmp_path,
            pa.array([None, None], pa.float64() if kind == "floats" else pa.bool_()),
            name=test,
        )
    else:
        save(tmp_path, NO_LABEL[kind], name=test)
    train, validation = open_splits(Data(source=str(tmp_path), resolution=8))
    assert validation.name.endswith("validation") and train.num_classes == 2
    assert "the test split is validation" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"2 of 2 rows have no label|no label column"):
        opened(tmp_path, "test", test="test")


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0, 1, -1, 0]),
        pa.array([0, 1, None, 0]),
        pa.array(["a", "b", None, "a"]),
        pa.array(["a", "b", "", "a"]),
        pa.array(["0", "1", "-1", "0"]),
        pa.array([0, 1, -7, 0], pa.int16()),
    ],
)
def test_rows_without_a_label_are_no_class_of_their_own(tmp_path, labels):
    with pytest.raises(InputError, match="1 of 4 rows have no label, first row 2"):
        opened(save(tmp_path, labels))


@pytest.mark.parametrize("labels", [pa.array([0.0, 1.0]), pa.array([True, False])])
def test_floats_and_flags_are_no_labels(tmp_path, labels):
    save(tmp_path, labels)
    with pytest.raises(InputError, match=r"no label column.*label \((float64|bool)\)"):
        opened(tmp_path)
    with pytest.raises(InputError, match=r"holds no labels \(whole numbers or text\)"):
        opened(tmp_path, label="label")


def test_labels_beyond_the_class_names_are_one_line_with_their_count(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    schema = features.arrow_schema
    table = pa.table({"image": rows(PNGS), "label": pa.array([0, 1, 2, 9])}).cast(schema)
    (tmp_path / "data").mkdir()
    pq.write_table(table.replace_schema_metadata(schema.metadata), tmp_path / "data/train.parquet")
    with pytest.raises(
        InputError, match=r"2 of 4 rows have labels beyond its 2 class names \(2, 9\)"
    ):
        opened(tmp_path)


def test_splits_of_other_classes_say_which_has_which(tmp_path):
    save(tmp_path, ["cat", "dog", "owl"])
    save(tmp_path, ["cat", "dog", "eel"], name="data/test-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"1 only in .* train: owl; 1 only in .* test: eel"):
        open_splits(Data(source=str(tmp_path), resolution=8))


@pytest.fixture
def places(tmp_path):
    """Files of this machine that a row might name."""
    (tmp_path / "secret.png").write_bytes(PNGS[3])
    os.mkfifo(tmp_path / "pipe")
    return ["/dev/zero", str(tmp_path / "pipe"), str(tmp_path / "secret.png"), "../secret.png"]


@pytest.mark.parametrize("number", range(4))
def test_a_row_without_bytes_reads_no_file(tmp_path, places, number, capsys, monkeypatch):
    images = [{"bytes": PNGS[0], "path": None}, {"bytes": PNGS[1], "path": "/etc/passwd"}]
    hostile = [*images, {"bytes": None, "path": places[number]}, images[0]]
    folder = save(tmp_path / "set", [0, 1, 1, 0], pa.array(hostile, STRUCT))
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="row 2: the row holds no image but the name of a file"):
        opened(folder)
    train = opened(folder, unreadable="skip")
    assert train.labels.tolist() == [0, 1, 0] and "left out 1 of 4" in capsys.readouterr().err


def card(folder: Path, files: object, **more: object) -> None:
    """A card with these `data_files`; JSON is YAML too."""
    head = {"configs": [{"config_name": "default", "data_files": files, **more}]}
    (folder / "README.md").write_text(f"---\n{json.dumps(head)}\n---\n# A data set\n")


OUTSIDE = [
    *("/etc/passwd", "/dev/zero", "~/data.parquet", "../other/*.parquet", "data/../../*.parquet"),
    *("http://localhost:9/a.parquet", "https://localhost:9/a.parquet", "file:///etc/passwd"),
    *("hf://datasets/a/b/c.parquet", "s3://bucket/a.parquet", "zip://a.parquet::/etc/a.zip"),
    *("C:\\data\\a.parquet", "..\\other\\a.parquet", "data/*/../../../**", "a\0b"),
]


@pytest.mark.parametrize("pattern", OUTSIDE)
def test_a_card_names_no_file_outside_of_its_folder(tmp_path, pattern):
    save(tmp_path / "other", [0, 1], name="a.parquet")
    folder = save(tmp_path / "set", [0, 1])
    for shape in (pattern, [pattern], [{"split": "train", "path": [pattern]}]):
        card(folder, shape)
        with pytest.raises(InputError, match="outside of the data set"):
            opened(folder)


def test_neither_does_its_data_dir(tmp_path):
    save(tmp_path / "other", [0, 1], name="train.parquet")
    card(save(tmp_path / "set", [0, 1]), None, data_dir="../other")
    with pytest.raises(InputError, match=r"its data_dir names '\.\./other', which lies outside"):
        opened(tmp_path / "set")


def test_a_card_of_the_hub_is_checked_before_anything_is_loaded(tmp_path, monkeypatch):
    card(tmp_path, "/etc/*")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "README.md"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"nobody/set/README\.md: its data_files names '/etc/"):
        open_dataset(Data(source="nobody/set", resolution=8), "train")


def test_links_that_a_card_names_stay_in_the_folder_or_in_the_hub_s_cache(tmp_path):
    outside = save(tmp_path / "other", [0, 1], name="a.parquet") / "a.parquet"
    for name in ("set", "hub/snapshots/c0ffee"):
        (tmp_path / name / "data").mkdir(parents=True)
        card(tmp_path / name, "data/*")
    (tmp_path / "set/data/train.parquet").symlink_to(outside)
    with pytest.raises(InputError, match="is a link out of the data set"):
        opened(tmp_path / "set")
    (tmp_path / "hub/blobs").mkdir()
    outside.rename(tmp_path / "hub/blobs/123")
    (tmp_path / "hub/snapshots/c0ffee/data/train.parquet").symlink_to("../../../blobs/123")
    assert len(opened(tmp_path / "hub/snapshots/c0ffee")) == 2


@pytest.mark.parametrize("name", ["README.md", "state.json", "classes.txt"])
def test_pipes_and_endless_files_in_place_of_notes_are_not_read(tmp_path, name):
    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"))):
        folder = save(tmp_path / str(number), [0, 1])
        make(folder / name)
        assert len(opened(folder)) == 2


def test_parquet_files_are_read_where_they_lie(tmp_path):
    assert len(opened(save(tmp_path / "set", [0, 1]))) == 2
    assert not Path(datasets.config.HF_DATASETS_CACHE).exists()


def test_a_row_group_is_read_once_however_many_threads_decode(tmp_path, monkeypatch):
    folder, read = save(tmp_path, [0, 1] * 20, rows(PNGS * 10)), []
    path = folder / "data/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=10)
    plain = pq.ParquetFile.read_row_group

    def counted(self, number, **how):
        read.append((number, how["columns"]))
        return plain(self, number, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    monkeypatch.setattr(encoded, "_CHUNK", 1)
    monkeypatch.setattr(parquet, "_KEPT", 0)  # the two that are in use
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(4)})
    train = opened(folder)
    assert sorted(read) == [(number, ["image"]) for number in range(4)]
    assert torch.equal(train.images[37], levels(1)) and train.labels[37] == 1


def test_a_damaged_part_of_a_file_stops_the_run_also_where_images_may_be_skipped(tmp_path):
    folder = save(tmp_path, [0, 1] * 2)
    path = folder / "data/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[20:400] = os.urandom(380)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*train-00000.*it is damaged"):
        opened(folder, unreadable="skip")


def test_files_of_unlike_columns_are_named(tmp_path):
    save(tmp_path, [0, 1], name="data/train-00000-of-00002.parquet")
    other = tmp_path / "data/train-00001-of-00002.parquet"
    pq.write_table(pa.table({"image": rows(PNGS[:2])}), other)
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet lacks the columns label"):
        opened(tmp_path)
    pq.write_table(pa.table({"image": [1, 2], "label": [0, 1]}), other)
    with pytest.raises(InputError, match=r"train-00001.*cannot read the images of column 'image'"):
        opened(tmp_path)


class Hub:
    """A repository of the Hub that is a folder here, and what was downloaded of it."""

    def __init__(self, source: Path, home: Path) -> None:
        self.source, self.home, self.connected = source, home, True
        self.downloaded: list[str] = []

    def names(self) -> list[str]:
        files = (path for path in self.source.rglob("*") if path.is_file())
        return [path.relative_to(self.source).as_posix() for path in files]

    def dataset_info(self, name: str, revision: str | None) -> SimpleNamespace:
        if not self.connected:
            raise HfHubHTTPError.__bases__[0]("no network")  # as where a server does not answer
        siblings = [SimpleNamespace(rfilename=name) for name in self.names()]
        return SimpleNamespace(siblings=siblings, sha="c0ffee")

    def snapshot(self, name, *, repo_type, revision, local_files_only=False, allow_patterns=None):
        wanted = () if local_files_only or not self.connected else allow_patterns
        for name in (n for n in self.names() if any(fnmatchcase(n, one) for one in wanted)):
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.source / name, self.home / name)
            self.downloaded.append(name)
        return str(self.home)

    def file(self, name: str, file: str, **_: object) -> str:
        if not (self.source / file).is_file():
            raise FileNotFoundError(file)
        return str(self.source / file)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "repository", tmp_path / "snapshot")
    made.home.mkdir()
    monkeypatch.setattr(hub, "HfApi", lambda: made)
    monkeypatch.setattr(hub, "snapshot_download", made.snapshot)
    monkeypatch.setattr(hub, "hf_hub_download", made.file)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: pytest.fail("copied by datasets")
    )
    return made


def test_of_the_hub_s_parquet_files_only_splits_that_are_used_are_downloaded(repository):
    save(repository.source, [0, 1, 1])
    names = [f"data/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")]
    save(repository.source, [0, 1], rows(PNGS[2:]), name=names[1])
    save(repository.source, [-1, -1], name=names[2])
    data = Data(source="somebody/set", resolution=8)
    assert len(open_dataset(data, "train")) == 3
    assert repository.downloaded == names[:1]
    repository.downloaded.clear()
    assert len(open_dataset(replace(data, test="validation"), "test")) == 2
    assert repository.downloaded == names[1:2]
    repository.connected = False
    train, test = open_splits(data)
    assert (len(train), len(test)) == (3, 2) and torch.equal(test.images[0], levels(2))


def test_the_card_names_the_parquet_files_of_a_hub_s_splits(repository):
    save(repository.source, [0, 1], name="en/a.parquet")
    save(repository.source, [1, 0, 1], name="de/[a].parquet")
    configs = [{"config_name": c, "data_files": f"{c}/*.parquet"} for c in ("en", "de")]
    text = f"---\n{json.dumps({'configs': configs})}\n---\n"
    (repository.source / "README.md").write_text(text)
    train = open_dataset(Data(source="somebody/set", config="de", resolution=8), "train")
    assert train.labels.tolist() == [1, 0, 1] and repository.downloaded == ["de/[a].parquet"]


def test_other_files_of_the_hub_are_left_to_datasets(repository, monkeypatch):
    repository.source.mkdir()
    (repository.source / "train.jsonl").touch()
    made = saved(repository.home / "made", splits=True)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict.load_from_disk(str(made))
    )
    assert len(open_dataset(Data(source="somebody/set", resolution=8), "train")) == 3


EVIL = "configs: [{data_files: /etc/passwd}]"
HIDDEN = {
    "merged": "---\nconfigs:\n- {<<: {data_files: /etc/passwd}}\n---\n",
    "merged at the top": f"---\n<<: {{{EVIL}}}\n---\n",
    "far below": f"---\n{'# nothing' * 500_000}\n{EVIL}\n---\n",
    "after a mark": f"\ufeff---\n{EVIL}\n---\n",
    "old line breaks": f"---\r{EVIL}\r---\n",
}


@pytest.mark.parametrize("how", HIDDEN)
def test_a_card_hides_no_file_from_the_check_that_datasets_would_read(tmp_path, how):
    save(tmp_path, [0, 1])
    (tmp_path / "README.md").write_bytes(HIDDEN[how].encode())
    with pytest.raises(InputError, match=r"lies outside of the data set|a card is short"):
        opened(tmp_path)


def test_a_card_of_many_classes_and_configurations_is_read(tmp_path):
    names = {str(label): f"class {label}" for label in range(20_000)}
    label = {"name": "label", "dtype": {"class_label": {"names": names}}}
    info = [{"config_name": name, "features": [label]} for name in ("a", "b", "c")]
    path = tmp_path / "README.md"
    path.write_text(f"---\ndataset_info: {json.dumps(info)}\n---\n")
    assert len(hub.read_card(path)["dataset_info"]) == 3


BOMBS = {
    "aliases": "a: &a [1, 1]\nb: &b [*a, *a]\nconfigs: [*b, *b]",
    "merges": "a: &a {x: 1}\nconfigs: {<<: [*a, *a]}",
    "depth": "configs: " + "[" * 5000 + "]" * 5000,
    "no yaml": "configs: [}",
    "a text": "configs: everything",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_card_that_is_made_to_take_long_is_refused(tmp_path, kind):
    save(tmp_path, [0, 1])
    (tmp_path / "README.md").write_text(f"---\n{BOMBS[kind]}\n---\n")
    with pytest.raises(InputError, match=r"README\.md"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("data/train-*", 2),
        ("data/*.parquet", 2),
        ("**/train-*", 2),
        ("**", 2),
        ("./data/train-0000[0-9]-of-00001.parquet", 2),
        ("*.parquet", None),
        ("data/" + "*a" * 60 + "b", None),
        ("/".join(["**"] * 60), 2),
    ],
)
def test_patterns_of_a_card_are_matched_at_once(tmp_path, pattern, found):
    save(tmp_path, [0, 1])
    save(tmp_path, [0, 1, 1], name="data/" + "a" * 200)
    card(tmp_path, [{"split": "train", "path": pattern}])
    if found is None:
        with pytest.raises(InputError, match=r"has no parquet file .* names for split train"):
            opened(tmp_path)
    else:
        assert len(opened(tmp_path)) == found


def test_configurations_of_a_card_are_chosen_by_name(tmp_path):
    for name, labels in (("small", [0, 1]), ("large", [0, 1, 1])):
        save(tmp_path, labels, name=f"{name}/train-00000-of-00001.parquet")
    configs = [{"config_name": n, "data_files": f"{n}/train-*"} for n in ("small", "large")]
    head = tmp_path / "README.md"
    head.write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    assert len(opened(tmp_path, config="large")) == 3
    with pytest.raises(
        InputError, match=r"configurations small, large; choose one with data\.config"
    ):
        opened(tmp_path)
    with pytest.raises(InputError, match="no configuration 'lagre'; did you mean 'large'"):
        opened(tmp_path, config="lagre")
    configs[1] |= {"default": True, "data_dir": "large", "data_files": "train-*"}
    head.write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    assert len(opened(tmp_path)) == 3


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/valid-00000-of-00001.parquet"),
        ("train.parquet", "dev.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("train/a.parquet", "eval/a.parquet"),
        ("train/part-00000-of-00001.parquet", "val/part-00000-of-00001.parquet"),
        ("cifar_training.PARQUET", "cifar_testing.PARQUET"),
        ("deep/er/my-train-00000-of-00001.parquet", "deep/er/my-val-00000-of-00001.parquet"),
    ],
)
def test_splits_are_found_in_the_names_of_files_and_folders(tmp_path, train, test):
    save(tmp_path, [0, 1], name=train)
    save(tmp_path, [0, 1, 1], name=test)
    assert [len(part) for part in open_splits(Data(source=str(tmp_path), resolution=8))] == [2, 3]


def test_a_file_that_names_no_split_is_left_out_and_said(tmp_path, capsys):
    for name in ("train", "test", "extra", ".hidden", "._train"):
        save(tmp_path, [0, 1], name=f"{name}.parquet")
    train, test = open_splits(Data(source=str(tmp_path), resolution=8))
    assert len(train) == len(test) == 2
    assert "left out 1 (1 .parquet whose name names no split)" in capsys.readouterr().err


def test_shards_with_the_hash_that_the_hub_once_gave_each_are_whole(tmp_path):
    for number in range(3):
        name = f"data/train-{number:05d}-of-00003-{number:x}123456789abcdef.parquet"
        save(tmp_path, [0, 1], name=name)
    assert len(opened(tmp_path)) == 6
    (tmp_path / "data/train-00001-of-00003-1123456789abcdef.parquet").unlink()
    with pytest.raises(InputError, match=r"2 of the 3 files of train; train-00001-of-00003 is mi"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "second",
    ["data/train-00000-of-00001-0123456789abcdef.parquet", "data/train-00001-of-00002.parquet"],
)
def test_files_of_two_downloads_are_not_put_together(tmp_path, second):
    save(save(tmp_path, [0, 1]), [0, 1], name=second)
    with pytest.raises(InputError, match="which are of two downloads of train; remove the older"):
        opened(tmp_path)


def test_splits_of_several_data_sets_are_not_put_together(tmp_path):
    for folder in ("fine", "coarse"):
        for split in ("train", "test"):
            save(tmp_path, [0, 1], name=f"{folder}/{split}/0000.parquet")
    with pytest.raises(InputError, match=r"in several folders, coarse, fine, which may be several"):
        opened(tmp_path)
    assert len(opened(tmp_path / "fine")) == 2


def test_files_with_several_names_of_one_split_are_said(tmp_path, capsys):
    for name in ("train", "train_small", "test"):
        save(tmp_path, [0, 1], name=f"{name}.parquet")
    assert len(opened(tmp_path)) == 4
    assert "train is made of train, train_small." in capsys.readouterr().err


def test_a_file_without_rows_is_one_line(tmp_path, capfd):
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet has no rows; remove it"):
        opened(save(tmp_path, pa.array([], pa.int64())))
    assert capfd.readouterr().err == ""


def test_accents_of_text_labels_are_the_same_however_they_are_written(tmp_path):
    save(tmp_path, ["cafe\u0301", "dog"])
    save(tmp_path, ["caf\u00e9", "dog"], name="data/test-00000-of-00001.parquet")
    train, test = open_splits(Data(source=str(tmp_path), resolution=8))
    assert train.class_names == test.class_names == ("caf\u00e9", "dog")


def test_missing_shards_pointers_and_damaged_files_say_what_to_do(tmp_path):
    folder = save(tmp_path, [0, 1], name="data/train-00001-of-00003.parquet")
    path = folder / "data/train-00001-of-00003.parquet"
    with pytest.raises(
        InputError, match=r"1 of the 3 files of train; train-00000-of-00003 is missing"
    ):
        opened(folder)
    path = path.rename(folder / "data/train-00000-of-00001.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"train-00000.* not wholly downloaded"):
        opened(folder)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(InputError, match=r"train-00000.*Git LFS pointer; run `git lfs pull`"):
        opened(folder)


def test_fewer_rows_than_the_card_promises_are_refused(tmp_path):
    save(tmp_path, [0, 1])
    info = {"splits": [{"name": "train", "num_examples": 5, "num_bytes": 1}]}
    (tmp_path / "README.md").write_text(f"---\n{json.dumps({'dataset_info': info})}\n---\n")
    with pytest.raises(InputError, match=r"promises 5 rows of train, and its files hold 2"):
        opened(tmp_path)


def test_class_names_that_only_the_card_knows_are_used(tmp_path):
    save(tmp_path, [0, 1])
    features = """
    - {name: image, dtype: image}
    - {name: label, dtype: {class_label: {names: {'0': cat, '1': dog}}}}"""
    (tmp_path / "README.md").write_text(f"---\ndataset_info:\n  features:{features}\n---\n")
    assert opened(tmp_path).class_names == ("cat", "dog")


def saved(folder: Path, *, splits: bool) -> Path:
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})

    def part(labels: list[int], first: int) -> datasets.Dataset:
        images = [picture(first + number) for number in range(len(labels))]
        return datasets.Dataset.from_dict({"image": images, "label": labels}, features)

    one = part([0, 1, 1], 0)
    made = datasets.DatasetDict(train=one, test=part([1, 0], 5)) if splits else one
    made.save_to_disk(str(folder))
    return folder


def test_what_save_to_disk_wrote_is_a_data_set(tmp_path):
    train, test = open_splits(Data(source=str(saved(tmp_path / "both", splits=True)), resolution=8))
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 1], [1, 0])
    assert train.class_names == ("cat", "dog") and torch.equal(train.images[1], levels(1))
    one = opened(saved(tmp_path / "one", splits=False))
    assert torch.equal(one.hashes, train.hashes)
    with pytest.raises(InputError, match="none of the test splits"):
        opened(tmp_path / "one", "test")


def changed(path: Path, **keys: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_damaged_and_hostile_saved_data_sets_are_one_line(tmp_path):
    folder = saved(tmp_path / "set", splits=False)
    state, arrow = folder / "state.json", folder / "data-00000-of-00001.arrow"
    whole, good = arrow.read_bytes(), state.read_text()
    for name in ("../set/data-00000-of-00001.arrow", str(arrow), "/dev/zero", "..", "a::b", 7):
        changed(state, _data_files=[{"filename": name}])
        with pytest.raises(InputError, match=r"no files of its own folder|lacks its file"):
            opened(folder)
    for content in ("", "[]", "{}", "[" * 100_000, '{"_data_files": 3}'):
        state.write_text(content)
        with pytest.raises(InputError, match=r"state\.json"):
            opened(folder)
    state.write_text(good)
    for content in (whole[:100], whole[: len(whole) // 2], b"", os.urandom(5000)):
        arrow.write_bytes(content)
        with pytest.raises(InputError, match="cannot read"):
            opened(folder)
    arrow.unlink()
    with pytest.raises(InputError, match="lacks its file data-00000"):
        opened(folder)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory) -> Path:
    """One image of each of 1000 integer classes, in an order of their own."""
    folder = tmp_path_factory.mktemp("thousand")
    labels = np.random.default_rng(0).permutation(1000)
    return save(folder, pa.array(labels), rows([PNGS[0]] * 1000))


def test_integers_of_all_thousand_classes_are_imagenet_s(thousand):
    whole = opened(thousand)
    assert imagenet_indices(whole.class_names) == list(range(1000))
    some = opened(thousand, subset="imagewoof")
    assert imagenet_indices(some.class_names)[:3] == [193, 182, 258] and len(some) == 10
    ids = [wordnet_ids()[217], wordnet_ids()[0]]
    assert opened(thousand, classes=ids).class_names == tuple(ids)
    assert opened(thousand, classes=["217", "0"]).class_names == ("217", "0")


def test_fewer_integers_are_no_classes_of_imagenet(tmp_path):
    train = opened(save(tmp_path, [0, 1, 2]))
    with pytest.raises(InputError, match=r"no class '0'.*not by number; choose them by id"):
        imagenet_indices(train.class_names)
    with pytest.raises(InputError, match="lacks 10 of its 10 classes"):
        opened(tmp_path, subset="imagenette")


def test_integers_are_imagenet_s_where_the_recipe_says_so(tmp_path):
    folder = save(tmp_path / "table", [999, 1, 217, 1])
    train = opened(folder, class_names="imagenet")
    ids = [wordnet_ids()[index] for index in (1, 217, 999)]
    assert (list(train.class_names), train.labels.tolist()) == (ids, [2, 0, 1, 0])
    assert opened(folder, class_names="imagenet", classes=[ids[2], ids[0]]).labels.tolist() == [
        *(0, 1, 1),
    ]
    for number, index in enumerate((999, 1, 217)):
        (tmp_path / f"folder/train/{index}").mkdir(parents=True)
        (tmp_path / f"folder/train/{index}/1.png").write_bytes(PNGS[number])
    of_folder = opened(tmp_path / "folder", class_names="imagenet")
    assert list(of_folder.class_names) == ids and torch.equal(of_folder.images[2], levels(0))
    with pytest.raises(InputError, match=r"names labels from 0 to 999, and .* train has '1000'"):
        opened(save(tmp_path / "more", [1000, 1]), class_names="imagenet")


def test_a_command_ends_with_one_line(tmp_path, capsys):
    card(data := save(tmp_path / "data", [0, 1]), "/etc/passwd")
    with pytest.raises(SystemExit) as end:
        cli.main(["prune", "cifar10_ipc10", f"data.source={data}", f"output={tmp_path}/run"])
    said = capsys.readouterr().err.strip().splitlines()
    assert [line[:17] for line in said] == ["latentdc: prune: ", "latentdc: error: "]
    assert end.value.code == 2 and "outside of the data set" in said[1]
