"""A changed byte anywhere in a file is an error, or changes nothing that is read."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from latentdc import checked
from latentdc.disk import read_json

TENSORS = {
    "weights": torch.tensor([[1.5, -2.0], [0.0, 3.0]]),
    "half": torch.tensor([0.25, 1.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 3),
}
COLUMNS = {"hash": torch.tensor([5, -9]), "score": torch.tensor([0.5, 2.0])}
ABOUT = {"class_names": ["a", "b"], "keep": 0.5}


def read_table(path):
    columns, about = checked.read_table(pq.read_table(path), "kind")
    assert about == ABOUT
    return columns


def same(found, tensors):
    return found.keys() == tensors.keys() and all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
        for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_no_changed_byte_of_tensors_is_followed(tmp_path, flip):
    path = tmp_path / "some.safetensors"
    checked.save(TENSORS, path)
    assert same(checked.load(path), TENSORS)
    content, silent = path.read_bytes(), []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        try:
            silent += [] if same(checked.load(path), TENSORS) else [place]
        except (OSError, ValueError):
            continue
    assert silent == []
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises((OSError, ValueError)):
            checked.load(path)


def test_a_file_is_not_taken_for_its_neighbour(tmp_path):
    one, other = tmp_path / "expert-00000.safetensors", tmp_path / "expert-00001.safetensors"
    checked.save(TENSORS, one)
    one.rename(other)
    with pytest.raises(ValueError, match="not as it was written"):
        checked.load(other)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "some.safetensors")
    os.mkfifo(tmp_path / "some.json")
    with pytest.raises(OSError, match="is no file"):
        checked.load(tmp_path / "some.safetensors")
    with pytest.raises(OSError, match="is no file"):
        read_json(tmp_path / "some.json")


def test_json_without_end_is_a_value_error(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="too deep"):
        read_json(tmp_path / "deep.json")


def test_no_changed_byte_of_a_table_is_followed(tmp_path):
    path = tmp_path / "some.parquet"
    checked.save_table(COLUMNS, ABOUT, "kind", path)
    assert same(read_table(path), COLUMNS)
    content, silent = path.read_bytes(), []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :])
        try:
            silent += [] if same(read_table(path), COLUMNS) else [place]
        except (OSError, ValueError, TypeError, pa.ArrowException):
            continue  # TypeError: the kind itself has changed, so that it is none of ours
    assert silent == []


@pytest.mark.parametrize(
    "written", ["7", "{}", "null", '{"about": 3, "sha256": "x"}', "[" * 9000, '{"sha256": {}}']
)
def test_a_table_with_an_odd_note_is_damaged(tmp_path, written):
    path = tmp_path / "some.parquet"
    checked.save_table(COLUMNS, ABOUT, "kind", path)
    table = pq.read_table(path).replace_schema_metadata({"kind": written})
    with pytest.raises(ValueError, match="not as it was written"):
        checked.read_table(table, "kind")


def test_what_another_program_wrote_is_none_of_ours():
    table = pa.table({"hash": [1]}).replace_schema_metadata({"other": json.dumps(ABOUT)})
    assert checked.read_table(table, "kind") is None


def test_a_full_disk_leaves_the_file_from_before_alone(tmp_path, monkeypatch):
    path = tmp_path / "some.safetensors"
    checked.save(TENSORS, path)

    def full(part, content):
        part.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        checked.save({"weights": torch.zeros(2)}, path)
    assert [one.name for one in tmp_path.iterdir()] == ["some.safetensors"]
    assert same(checked.load(path), TENSORS)
