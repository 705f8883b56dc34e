"""What a scoring keeps while it lasts: room on the disk, its mark, and what damage to it says."""

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from latentdc.errors import InputError
from latentdc.preprocessing import Normalization
from latentdc.prune.__main__ import main as prune
from latentdc.prune.dynamics import Dynamics, Workspace
from latentdc.prune.score import score_dataset
from latentdc.prune.scorer_training import ScorerTraining
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours

QUICK = Scorer(network="convnet3@8", epochs=4, lr=0.1, batch=8)


COLUMNS = ["distance", "prototypes", "herding"]


def scored(folder=None, weights=None):
    prune = Prune(columns=COLUMNS, scorer=dataclasses.replace(QUICK, weights=weights))
    return score_dataset(colours(32), prune, folder=folder)


def raising(error):
    def refuse(*_, **__):
        raise error

    return refuse


def saved_weights(folder) -> str:
    """Of a network that tells the colours apart."""
    given = {"normalization": Normalization(), "accelerator": Accelerator(), "seed": 0}
    run = ScorerTraining(colours(32), QUICK, **given)
    list(run.run())
    save_file(run.classifier.network.state_dict(), folder / "w.safetensors")
    return str(folder / "w.safetensors")


def begun(folder, monkeypatch) -> Path:
    """The folder of a scoring that was stopped after two epochs."""
    save, saved = Workspace.save, []

    def stopped(self, name, tensors):
        save(self, name, tensors)
        saved.extend([name] if name.endswith("state") else [])
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            scored(folder)
    return folder / "scoring"


def test_files_of_a_scoring_have_their_room_on_the_disk_before_they_are_mapped(tmp_path):
    workspace = Workspace(tmp_path, {}, Accelerator())
    workspace.array("run-0/features.npy", (100_000, 8), keep=False)
    path = tmp_path / "scoring/run-0/features.npy"
    assert path.stat().st_blocks * 512 >= path.stat().st_size > 1_600_000
    assert not np.load(path).any()


def test_a_disk_that_is_too_small_ends_a_scoring_in_one_line(tmp_path, monkeypatch, capsys):
    room = [1000]

    def allocate(file, start, size):
        room[0] -= size
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", allocate)
    Path("toy.yaml").write_text(
        "data: {source: digits, resolution: 8}\nprior: {kind: pixel}\nthreads: 1\n"
        "prune: {count: 5, columns: [distance], scorer: {network: convnet3@8, epochs: 4, lr: 0.2}}"
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


@pytest.mark.parametrize("name", ["state.safetensors", "epoch-1.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"text"])
def test_damage_to_what_a_scoring_left_is_told_in_one_line(tmp_path, monkeypatch, name, damage):
    home = begun(tmp_path, monkeypatch)
    assert (home / "run-0" / name).is_file()
    (home / "run-0" / name).write_bytes(damage)
    left = sorted(home.rglob("*"))
    with pytest.raises(InputError, match=rf"{name} is damaged .*; delete .*scoring"):
        scored(tmp_path)
    assert sorted(home.rglob("*")) == left  # what it says to delete is not gone already


@pytest.mark.parametrize("name", ["state", "epoch-1"])
@pytest.mark.parametrize("place", [40, -1])
def test_a_changed_byte_of_a_killed_scoring_is_not_gone_on_from(tmp_path, monkeypatch, name, place):
    path = begun(tmp_path, monkeypatch) / f"run-0/{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=rf"{name}.safetensors is damaged .*; delete .*scoring"):
        scored(tmp_path)


def test_a_mark_of_other_bytes_is_no_ones_and_scoring_starts_anew(tmp_path, monkeypatch):
    whole, home = scored(None), begun(tmp_path, monkeypatch)
    mark = home / "fingerprint"
    mark.write_bytes(mark.read_bytes() + b"\xff\xfe")
    again = scored(tmp_path)
    assert all(torch.equal(column, again.columns[name]) for name, column in whole.columns.items())


@pytest.mark.parametrize("damage", [b"", b"text", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"])
def test_damage_to_features_that_a_scoring_left_is_told(tmp_path, monkeypatch, damage):
    given = saved_weights(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Dynamics, "columns", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scored(tmp_path, given)
    (tmp_path / "scoring/given/features.npy").write_bytes(damage)
    with pytest.raises(InputError, match=r"features.npy is damaged .*; delete .*scoring"):
        scored(tmp_path, given)


@pytest.mark.parametrize(
    ("given", "place", "name", "looks_again"),
    [
        (True, Dynamics, "columns", False),
        (True, Workspace, "clear", True),
        (False, Workspace, "clear", True),
    ],
)
def test_features_outlive_a_kill_after_the_last_look(
    tmp_path, monkeypatch, place, name, looks_again, given
):
    weights = saved_weights(tmp_path) if given else None
    whole = scored(weights=weights)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scored(tmp_path, weights)
    looks, blocks = [], Dynamics._blocks
    monkeypatch.setattr(Dynamics, "_blocks", lambda *a, **k: looks.append(1) or blocks(*a, **k))
    again = scored(tmp_path, weights)
    for column, scores in whole.columns.items():
        assert torch.equal(scores, again.columns[column]), column
    assert torch.equal(again.features.mean(), whole.features.mean())
    kept = np.load(tmp_path / "features.npy").astype(np.float32).mean(0)
    np.testing.assert_allclose(kept, whole.features.mean(), atol=1e-5)
    assert bool(looks) == looks_again
