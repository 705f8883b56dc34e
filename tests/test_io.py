"""Files are written whole or not at all, read as they were written, and named by their facts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from latentdc import io, locks, temporaries
from latentdc.errors import InputError

TENSORS = {
    "weights": torch.tensor([[1.5, -2.0], [0.0, 3.0]]),
    "half": torch.tensor([0.25, 1.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 3),
}
COLUMNS = {"hash": torch.tensor([5, -9]), "score": torch.tensor([0.5, 2.0])}
ABOUT = {"class_names": ["a", "b"], "keep": 0.5}


def table_at(path):
    columns, about = io.read_table(pq.read_table(path), "kind")
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
    io.save_tensors(path, TENSORS)
    assert same(io.load_tensors(path), TENSORS)
    content, silent = path.read_bytes(), []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        try:
            silent += [] if same(io.load_tensors(path), TENSORS) else [place]
        except (OSError, ValueError):
            continue
    assert silent == []
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises((OSError, ValueError)):
            io.load_tensors(path)


def test_a_file_is_not_taken_for_its_neighbour(tmp_path):
    one, other = tmp_path / "expert-00000.safetensors", tmp_path / "expert-00001.safetensors"
    io.save_tensors(one, TENSORS)
    one.rename(other)
    with pytest.raises(ValueError, match="not as it was written"):
        io.load_tensors(other)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "some.safetensors")
    os.mkfifo(tmp_path / "some.json")
    with pytest.raises(OSError, match="is no file"):
        io.load_tensors(tmp_path / "some.safetensors")
    with pytest.raises(OSError, match="is no file"):
        io.read_json(tmp_path / "some.json")


def test_json_without_end_is_a_value_error(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="too deep"):
        io.read_json(tmp_path / "deep.json")


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_no_changed_byte_of_a_table_is_followed(tmp_path, every):
    path = tmp_path / "some.parquet"
    io.save_table(path, COLUMNS, ABOUT, "kind")
    assert same(table_at(path), COLUMNS)
    content, silent = path.read_bytes(), []
    for place in range(0, len(content), every):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :])
        try:
            silent += [] if same(table_at(path), COLUMNS) else [place]
        except (OSError, ValueError, TypeError, pa.ArrowException):
            continue  # TypeError: the kind itself has changed, so that it is none of ours
    assert silent == []


@pytest.mark.parametrize(
    "written", ["7", "{}", "null", '{"about": 3, "sha256": "x"}', "[" * 9000, '{"sha256": {}}']
)
def test_a_table_with_an_odd_note_is_damaged(tmp_path, written):
    path = tmp_path / "some.parquet"
    io.save_table(path, COLUMNS, ABOUT, "kind")
    table = pq.read_table(path).replace_schema_metadata({"kind": written})
    with pytest.raises(ValueError, match="not as it was written"):
        io.read_table(table, "kind")


def test_what_another_program_wrote_is_none_of_ours():
    table = pa.table({"hash": [1]}).replace_schema_metadata({"other": json.dumps(ABOUT)})
    assert io.read_table(table, "kind") is None


def test_a_full_disk_leaves_the_file_from_before_alone(tmp_path, monkeypatch):
    path = tmp_path / "some.safetensors"
    io.save_tensors(path, TENSORS)

    def full(part, content):
        part.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        io.save_tensors(path, {"weights": torch.zeros(2)})
    assert [one.name for one in tmp_path.iterdir()] == ["some.safetensors"]
    assert same(io.load_tensors(path), TENSORS)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends_well_and_only_then(tmp_path):
    path = tmp_path / "above" / "notes.txt"
    io.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    with pytest.raises(KeyboardInterrupt), io.writing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text("utf-8") == "é\n" and names(path.parent) == ["notes.txt"]
    io.write_json(path, {"b": [1, None], "a": "é"})
    assert io.read_json(path) == {"b": [1, None], "a": "é"} and names(path.parent) == ["notes.txt"]


def ended() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def left_by(path: Path, process: int, machine: str | None = None) -> Path:
    """What such a process is writing in place of a path."""
    machine = machine or temporaries._machine()
    return path.with_name(f".{path.name}.{machine}-{process}-0123ab.part")


@pytest.fixture
def child() -> Iterator[int]:
    """The number of a process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_removed_once_nobody_writes_it(tmp_path, child, kind):
    path = tmp_path / "notes.txt"
    living = left_by(path, child)
    elsewhere, older = (left_by(path, number, "abcdef") for number in (os.getpid(), child))
    dead, earlier = left_by(path, ended()), left_by(path, os.getpid())
    other = tmp_path / ".notes.txt.mine.part"
    for part in (living, elsewhere, older, dead, earlier, other):
        file = part
        if kind == "folder":
            part.mkdir()
            file = part / "0"
        file.write_text("half")
    for part in (older, other):
        for one in (part, part / "0")[: 2 if kind == "folder" else 1]:
            os.utime(one, (0, 0))
    os.utime(elsewhere, None if kind == "file" else (0, 0))  # of a folder its files count
    io.write_text(path, "whole")
    assert names(tmp_path) == sorted([living.name, elsewhere.name, other.name, "notes.txt"])


def test_what_a_living_process_writes_is_kept_however_long_it_waits(tmp_path, child, monkeypatch):
    path = tmp_path / "notes.txt"
    living = left_by(path, child)
    living.write_text("half")
    began = living.stat().st_mtime
    monkeypatch.setattr(time, "time", lambda: began + 1e5)
    io.write_text(path, "whole")
    assert living.exists()
    os.utime(living, (0, 0))  # of an earlier process of that number
    io.write_text(path, "other")
    assert names(tmp_path) == ["notes.txt"]


def test_what_a_process_elsewhere_writes_is_kept_where_its_clock_is_behind(tmp_path, monkeypatch):
    elsewhere = left_by(tmp_path / "notes.txt", os.getpid(), "abcdef")
    elsewhere.write_text("half")  # dated by the machine that holds the folder
    ahead = time.time() + 1e5
    monkeypatch.setattr(time, "time", lambda: ahead)
    io.write_text(tmp_path / "notes.txt", "whole")
    assert names(tmp_path) == sorted([elsewhere.name, "notes.txt"])


def test_a_number_that_no_process_can_have_is_of_none(tmp_path):
    left_by(tmp_path / "notes.txt", 10**30).touch()
    io.write_text(tmp_path / "notes.txt", "whole")
    assert names(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("name", ["n" * 245, "é" * 122])
def test_long_names_are_written_and_what_was_left_of_them_removed(tmp_path, name):
    left = left_by(Path("n" * 220) if name[0] == "n" else Path("é" * 110), ended())
    (tmp_path / left).touch()
    io.write_text(tmp_path / name, "whole")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["n" * 245, "é" * 122])
def test_folders_of_long_names_are_written_replaced_and_locked(tmp_path, name):
    for content in ("sooner", "later"):
        with io.writing(tmp_path / name) as part:
            part.mkdir()
            (part / "a").write_text(content)
    assert names(tmp_path) == [name] and (tmp_path / name / "a").read_text() == "later"
    with locks.locked(tmp_path / name), pytest.raises(locks.InUse, match="is in use by"):
        with locks.locked(tmp_path / f"{name[:-1]}x"):  # another of the same beginning
            with locks.locked(tmp_path / name):
                pass


def test_two_that_write_one_path_at_once_leave_each_other_alone(tmp_path):
    file, folder = tmp_path / "notes.txt", tmp_path / "set"
    with io.writing(file) as one, io.writing(folder) as mine:
        one.write_text("later")
        mine.mkdir()
        (mine / "a").write_text("later")
        with io.writing(file) as other, io.writing(folder) as theirs:
            other.write_text("sooner")
            theirs.mkdir()
            (theirs / "b").write_text("sooner")
        assert file.read_text() == "sooner" and names(folder) == ["b"]
    assert file.read_text() == "later" and names(folder) == ["a"]
    assert names(tmp_path) == ["notes.txt", "set"]


def test_a_folder_is_replaced_when_the_block_ends_well_and_only_then(tmp_path):
    folder = tmp_path / "set"

    def write(content: str, error: type[BaseException] | None = None) -> None:
        with io.writing(folder) as part:
            (part / "deep").mkdir(parents=True)
            (part / "deep" / content).write_text(content)
            if error is not None:
                raise error

    write("one")
    with pytest.raises(OSError):
        write("two", OSError)
    assert names(folder / "deep") == ["one"] and names(tmp_path) == ["set"]
    before = (folder / "deep" / "one").stat().st_ino
    write("one")
    assert (folder / "deep" / "one").stat().st_ino == before, "the same is left untouched"
    left_by(folder, ended()).mkdir()
    write("two")
    assert names(folder / "deep") == ["two"] and names(tmp_path) == ["set"]


def test_threads_may_replace_one_folder_at_once_while_others_read_it(tmp_path):
    folder = tmp_path / "set"

    def write(thread: int) -> None:
        for number in range(12):
            with io.writing(folder) as part:
                (part / "deep").mkdir(parents=True)
                (part / "deep" / "name").write_text(f"{thread} {number}")
            io.put_back(folder)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert names(tmp_path) == ["set"] and names(folder / "deep") == ["name"]


def test_a_folder_that_is_being_written_is_left_alone_by_one_whose_name_it_begins_with(tmp_path):
    with io.writing(tmp_path / "set.v2") as part:
        part.mkdir()
        (part / "a").write_text("1")
        with io.writing(tmp_path / "set") as other:
            other.mkdir()
    assert (tmp_path / "set.v2" / "a").read_text() == "1"


def test_a_folder_is_put_back_where_the_second_rename_did_not_come(tmp_path):
    (tmp_path / ".set.old").mkdir()
    io.put_back(tmp_path / "set")
    assert names(tmp_path) == ["set"]


def test_metadata_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "some.safetensors"
    io.save_tensors(path, TENSORS, {"step": "3"})
    tensors, metadata = io.load_with_metadata(path)
    assert same(tensors, TENSORS) and metadata == {"step": "3"}
    path.write_bytes(path.read_bytes().replace(b'"step":"3"', b'"step":"4"'))
    with pytest.raises(ValueError, match="not as it was written"):
        io.load_tensors(path)


@dataclass
class Facts:
    name: str
    sizes: tuple[int, ...]


def test_a_fingerprint_covers_values_and_not_their_order_class_or_container(tmp_path):
    one = io.fingerprint({"a": Facts("x", (1, 2)), "b": 0.5})
    assert one == io.fingerprint({"b": 0.5, "a": {"sizes": [1, 2], "name": "x"}})
    values = [None, 1, 1.5, "1", b"1", [1], {"a": 1}, torch.ones(1), torch.ones(1, 1), np.ones(1)]
    assert len({io.fingerprint(value) for value in values}) == len(values)
    assert io.fingerprint(torch.ones(2)) == io.fingerprint(np.ones(2, dtype=np.float32))
    with pytest.raises(TypeError, match="no fingerprint of a object"):
        io.fingerprint({"a": object()})


def test_a_path_among_facts_stands_for_the_files_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a")
    other.write_text("a")
    assert io.fingerprint({"file": one}) == io.fingerprint({"file": other})
    assert io.file_hash(one) == io.file_hash(other) and len(io.file_hash(one)) == 64
    other.write_text("b")
    assert io.fingerprint({"file": one}) != io.fingerprint({"file": other})


def test_what_is_cached_is_made_once_and_again_where_it_is_damaged(tmp_path, capsys):
    made = []

    def path_of(seed: int) -> Path:
        return tmp_path / "cache" / f"classifier-{io.fingerprint({'seed': seed})}.safetensors"

    def kept(seed: int, folder: Path | None = tmp_path / "cache") -> dict[str, torch.Tensor]:
        def make() -> dict[str, torch.Tensor]:
            made.append(seed)
            assert folder is None or locks.lock_owner(path_of(seed)) is not None  # others wait
            return {"weights": torch.full((2,), float(seed))}

        return io.cached(
            folder,
            {"seed": seed},
            make,
            io.load_tensors,
            io.save_tensors,
            name="classifier-{}.safetensors",
        )

    assert kept(1)["weights"].tolist() == kept(1)["weights"].tolist() == [1.0, 1.0]
    assert kept(2)["weights"].tolist() == [2.0, 2.0] and made == [1, 2]
    path_of(1).write_bytes(path_of(1).read_bytes()[:-1] + b"\xff")
    assert kept(1)["weights"].tolist() == [1.0, 1.0] and made == [1, 2, 1]
    assert "is damaged" in capsys.readouterr().err and len(names(tmp_path / "cache")) == 2
    assert kept(1, None)["weights"].tolist() == [1.0, 1.0] and made == [1, 2, 1, 1]


@pytest.mark.parametrize("place", ["file", "file/run", "n" * 300])
def test_a_place_that_cannot_hold_a_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*output="):
        io.require_writable(tmp_path / place)


def test_importing_it_imports_no_torch():
    code = "import sys, latentdc.io; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_link_to_itself_gives_way_to_a_file(tmp_path):
    path = tmp_path / "x.json"
    path.symlink_to(path)
    io.write_json(path, {"a": 1})
    assert io.read_json(path) == {"a": 1} and not path.is_symlink()


def test_the_same_tensors_and_words_are_the_same_bytes(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.uint8)}
    words = {name: f'{name} é \\ " 𝄞\n' for name in ("one", "two", "three", "four", "five")}
    found = set()
    for _ in range(20):
        io.save_tensors(tmp_path / "x.safetensors", tensors, words)
        found.add((tmp_path / "x.safetensors").read_bytes())
    assert len(found) == 1
    back, told = io.load_with_metadata(tmp_path / "x.safetensors")
    assert words.items() <= told.items() and all(
        map(torch.equal, back.values(), map(tensors.get, back))
    )
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert words.items() <= file.metadata().items()
