"""What a scoring keeps while it lasts: room on the disk, its mark, and what damage to it says."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from latentdc.errors import InputError, RunError
from latentdc.prune.__main__ import main as prune
from latentdc.prune.prune import score_dataset
from latentdc.prune.records import Workspace, array_file
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours

QUICK = Scorer(network="convnet3@8", epochs=4, lr=0.1, batch=8)


def scored(folder):
    return score_dataset(colours(32), Prune(columns=["distance"], scorer=QUICK), folder=folder)


def begun(folder, monkeypatch) -> Path:
    """The folder of a scoring that was stopped after two epochs."""
    save, saved = Workspace.save, []

    def stopped(self, run, state):
        save(self, run, state)
        saved.append(run)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            scored(folder)
    return folder / "scoring"


def test_files_of_a_scoring_have_their_room_on_the_disk_before_they_are_mapped(tmp_path):
    array_file(tmp_path, "loss", (4, 100_000), "<f4", keep=False)
    state = (tmp_path / "loss.npy").stat()
    assert state.st_blocks * 512 >= state.st_size > 1_600_000
    assert not np.load(tmp_path / "loss.npy").any()


def test_a_disk_that_is_too_small_ends_a_scoring_in_one_line(tmp_path, monkeypatch, capsys):
    room = [20_000]

    def allocate(file, start, size):
        room[0] -= size
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    Path("toy.yaml").write_text(
        "data: {source: digits, resolution: 8}\nprior: {kind: pixel}\nthreads: 1\n"
        "prune: {count: 5, scorer: {network: convnet3@8, epochs: 4, lr: 0.2, batch: 64}}\n"
    )
    with pytest.raises(SystemExit) as stop:
        prune(["toy.yaml", "output=run"])
    told = capsys.readouterr().err
    assert stop.value.code == 1 and "error: the disk is full; finished files are whole" in told
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    prune(["toy.yaml", "output=run"])
    assert Path("run/coreset.parquet").is_file()


def test_a_kill_while_the_mark_is_written_loses_no_epoch(tmp_path, monkeypatch):
    whole, home = scored(None), begun(tmp_path, monkeypatch)
    write = Path.write_bytes

    def killed(self, content):
        if "fingerprint" in self.name:
            write(self, content[:7])
            raise KeyboardInterrupt
        return write(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", killed)
        try:
            scored(tmp_path)
        except KeyboardInterrupt:
            state = (home / "run-0/state.safetensors").is_file()
            assert state and len((home / "fingerprint").read_text()) == 64
    again = scored(tmp_path)
    assert all(torch.equal(column, again.columns[name]) for name, column in whole.columns.items())


@pytest.mark.parametrize("name", ["state.safetensors", "loss.npy", "features.npy"])
@pytest.mark.parametrize("damage", [b"", b"text", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"])
def test_damage_to_what_a_scoring_left_is_told_in_one_line(tmp_path, monkeypatch, name, damage):
    home = begun(tmp_path, monkeypatch)
    assert (home / "run-0" / name).is_file()
    (home / "run-0" / name).write_bytes(damage)
    with pytest.raises((InputError, RunError), match=rf"{name} is damaged .*; delete .*scoring"):
        scored(tmp_path)


@pytest.mark.parametrize("place", [40, -1])
def test_a_changed_byte_of_a_killed_scoring_is_not_gone_on_from(tmp_path, monkeypatch, place):
    state = begun(tmp_path, monkeypatch) / "run-0/state.safetensors"
    content = bytearray(state.read_bytes())
    content[place] ^= 1
    state.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"state.safetensors is damaged .*; delete .*scoring"):
        scored(tmp_path)


def test_a_mark_of_other_bytes_is_no_ones_and_scoring_starts_anew(tmp_path, monkeypatch):
    whole, home = scored(None), begun(tmp_path, monkeypatch)
    mark = home / "fingerprint"
    mark.write_bytes(mark.read_bytes() + b"\xff\xfe")
    again = scored(tmp_path)
    assert all(torch.equal(column, again.columns[name]) for name, column in whole.columns.items())


def test_records_of_another_shape_are_not_continued(tmp_path):
    array_file(tmp_path, "loss", (4, 10), "<f4", keep=False)
    with pytest.raises(RunError, match=r"damaged \(float32 of shape \(4, 10\)\)"):
        array_file(tmp_path, "loss", (3, 10), "<f4", keep=True)
