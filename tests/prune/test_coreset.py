import dataclasses
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune.coreset import Coreset
from tests.prune.toys import colours


def coreset_of(dataset, rows) -> Coreset:
    rows = torch.tensor(rows)
    return Coreset(
        hashes=dataset.hashes[rows],
        scores=torch.arange(len(rows)) / 3,
        labels=dataset.labels[rows],
        class_names=dataset.class_names,
        rule="loss",
        order="easy",
        keep=0.5,
        dataset=dataset.name,
    )


def test_indices_are_the_ascending_positions_in_any_order_of_the_set():
    dataset = colours()
    coreset = coreset_of(dataset, [1, 4, 7, 8])
    assert coreset.indices(dataset).tolist() == [1, 4, 7, 8]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    moved = coreset.indices(dataset.select(order))
    assert order[moved].sort().values.tolist() == [1, 4, 7, 8]
    assert moved.tolist() == sorted(moved.tolist())


def test_classes_in_another_order_are_matched_by_name():
    dataset = colours()
    swapped = dataclasses.replace(dataset, labels=1 - dataset.labels, class_names=("blue", "red"))
    assert coreset_of(dataset, [1, 4]).indices(swapped).tolist() == [1, 4]


def test_as_many_duplicates_are_taken_as_were_kept():
    dataset = colours(6).select(torch.tensor([0, 1, 0, 0, 2]))
    assert coreset_of(dataset, [0, 1, 3]).indices(dataset).tolist() == [0, 1, 2]
    assert coreset_of(dataset, [0, 1]).indices(dataset).tolist() == [0, 1]


def test_missing_images_and_other_labels_and_classes_are_refused():
    dataset = colours()
    coreset = coreset_of(dataset, [0, 1, 8, 9])
    relabelled = dataclasses.replace(dataset, labels=1 - dataset.labels)
    for other, message in (
        (dataset.select(torch.arange(4)), r"2 of the 4 images .* are missing from colours train"),
        (relabelled, r"4 of the 4 images.*another label"),
        (colours(names=("red", "green")), "only one of them has blue, green"),
    ):
        with pytest.raises(InputError, match=message):
            coreset.indices(other)


def test_no_class_may_be_empty():
    with pytest.raises(InputError, match="no images of 1 of its 2 classes: blue"):
        coreset_of(colours(), [0, 2, 4])


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"hashes": torch.arange(2)}, "has 2 samples and 3 labels"),
        (
            {"hashes": torch.arange(3.0)},
            r"hashes are a tensor \(M,\) of torch.int64, got torch.float32",
        ),
        ({"hashes": [0, 1, 2]}, "hashes are a tensor .*, got list"),
        ({"scores": torch.zeros(2)}, "has 2 samples and 3 labels"),
        ({"scores": torch.zeros(3, 1)}, r"torch.float32, got torch.float32 of \(3, 1\)"),
        ({"labels": torch.tensor([0, 1, 2])}, "1 of its 3 labels lie outside of 0 to 1"),
        ({"labels": torch.tensor([0, 1, -1])}, "1 of its 3 labels lie outside of 0 to 1"),
        ({"labels": [0, 1, 0]}, "labels are int64 indices"),
        ({"class_names": ("red",)}, "labels lie outside of 0 to 0"),
        ({"class_names": "red"}, "class_names is a list of texts"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, told):
    coreset = coreset_of(colours(), [1, 4, 7])
    with pytest.raises(InputError, match=told):
        dataclasses.replace(coreset, **parts)


@pytest.mark.parametrize("other", [None, 3, Coreset])
def test_what_is_no_data_set_has_no_core_set(other):
    for call in (coreset_of(colours(), [1, 4]).indices, lambda one: Coreset.whole(one, "easy")):
        with pytest.raises(InputError, match="is a Dataset, got"):
            call(other)


def test_a_core_set_is_written_to_a_path_that_may_be_text(tmp_path):
    coreset = coreset_of(colours(), [1, 4, 7])
    coreset.save(str(tmp_path / "core.parquet"))
    assert torch.equal(Coreset.load(str(tmp_path / "core.parquet")).hashes, coreset.hashes)
    for call in (coreset.save, Coreset.load):
        with pytest.raises(InputError, match="path is a path, got 3"):
            call(3)


def test_a_saved_core_set_comes_back_whole(tmp_path):
    saved = coreset_of(colours(), [1, 4, 7])
    saved.save(tmp_path / "coreset.parquet")
    loaded = Coreset.load(tmp_path / "coreset.parquet")
    for field in dataclasses.fields(Coreset):
        before, after = getattr(saved, field.name), getattr(loaded, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(before, after)
            assert before.dtype == after.dtype
        else:
            assert before == after
    assert os.listdir(tmp_path) == ["coreset.parquet"]


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "coreset.parquet"
    coreset_of(colours(), [0, 1]).save(path)

    def full_disk(table: pa.Table, where: os.PathLike) -> None:
        where.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        coreset_of(colours(), [2, 3]).save(path)
    assert Coreset.load(path).indices(colours()).tolist() == [0, 1]


def test_scores_of_another_type_are_read_as_float32(tmp_path):
    path = tmp_path / "coreset.parquet"
    coreset = coreset_of(colours(), [1, 4, 7])
    object.__setattr__(coreset, "scores", coreset.scores.double())
    coreset.save(path)
    assert Coreset.load(path).scores.dtype == torch.float32


def test_what_is_no_core_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the core set .*absent\.parquet"):
        Coreset.load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hash,score")
    with pytest.raises(InputError, match="cannot read the core set"):
        Coreset.load(tmp_path / "text.parquet")
    pq.write_table(pa.table({"hash": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="is no core set"):
        Coreset.load(tmp_path / "other.parquet")


@pytest.mark.parametrize("damage", ["column", "labels", "facts", "text", "classes"])
def test_damage_inside_a_core_set_is_told_in_one_line(tmp_path, damage):
    path = tmp_path / "coreset.parquet"
    coreset_of(colours(), [0, 1, 2]).save(path)
    table = pq.read_table(path)
    (key,) = table.schema.metadata
    written = json.loads(table.schema.metadata[key])
    facts = json.loads(written["about"])
    if damage == "column":
        table = table.drop_columns(["score"])
    elif damage == "labels":
        table = table.set_column(2, "label", pa.array([0, 1, 7]))
    elif damage == "text":
        table = table.set_column(0, "hash", pa.array(["a", "b", "c"]))
    elif damage == "facts":
        facts = {"class_names": ["red", "blue"], "other": 1}
    else:
        facts["class_names"] = 3
    written["about"] = json.dumps(facts)
    pq.write_table(table.replace_schema_metadata({key: json.dumps(written)}), path)
    with pytest.raises(InputError, match=r"coreset\.parquet is damaged"):
        Coreset.load(path)


def test_a_core_set_prints_as_one_line():
    images = colours()
    assert repr(Coreset.whole(images, "easy")) == (
        f"Coreset({len(images)} of {images.name!r}, {images.num_classes} classes, by all)"
    )
