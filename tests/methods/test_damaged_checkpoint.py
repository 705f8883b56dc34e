"""A checkpoint that is not as it was written is never gone on from, the one before it is."""

import json
import os
import shutil
from pathlib import Path

import pytest

from latentdc.distill import main
from latentdc.recipe import Trim
from tests.methods import setup
from tests.methods.command import RUN, contents, fails, write_recipe

FILES = ["process-0000-0000.safetensors", "objective.safetensors", "state.json", "checksums.json"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)


def flip(path: Path, place: float) -> None:
    """Change one bit at a share of the file."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(bytes(data))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_state(folder: Path, **changes: object) -> None:
    edit(folder / "state.json", **changes)


DAMAGES = {
    **{
        f"a bit of {name} at {place}": lambda folder, name=name, place=place: flip(
            folder / name, place
        )
        for name in FILES
        for place in (0, 0.1, 0.5, 0.9, 1)
    },
    **{f"no {name}": lambda folder, name=name: (folder / name).unlink() for name in FILES},
    **{
        f"{name} cut short": lambda folder, name=name: (folder / name).write_bytes(
            (folder / name).read_bytes()[:-7]
        )
        for name in FILES
    },
    **{
        f"{name} empty": lambda folder, name=name: (folder / name).write_bytes(b"")
        for name in FILES
    },
    **{
        f"{name} of zeros": lambda folder, name=name: (folder / name).write_bytes(bytes(100))
        for name in FILES
    },
    **{f"step {step}": lambda folder, step=step: other_state(folder, step=step) for step in (
        -5, 0, 3, 5, 10**30, 1.5, True, None, "4", [4], float("nan")
    )},
    "a longer list": lambda folder: edit(folder / "checksums.json", files={}),
    "deep JSON": lambda folder: (folder / "checksums.json").write_text("[" * 100_000),
    "a list": lambda folder: (folder / "checksums.json").write_text("[]"),
    "no text": lambda folder: (folder / "checksums.json").write_bytes(b"\xff\xfe"),
    "a folder in place of a file": lambda folder: (
        (folder / FILES[0]).unlink(), (folder / FILES[0]).mkdir()
    ),
    "a pipe in place of a file": lambda folder: (
        (folder / FILES[0]).unlink(), os.mkfifo(folder / FILES[0])
    ),
    "nothing": lambda folder: [path.unlink() for path in folder.iterdir()],
    "another one's file": lambda folder: shutil.copy(
        folder.with_name("step-00000002") / FILES[0], folder
    ),
    "another one under its name": lambda folder: [
        shutil.rmtree(folder), shutil.copytree(folder.with_name("step-00000002"), folder)
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a run with checkpoints after two and after four steps."""
    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_recipe(folder)
        main(["quick.yaml"])
    return folder / RUN


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_told_in_a_line_and_the_one_before_it_used(capsys, ended, damage):
    shutil.copytree(ended, RUN, ignore=shutil.ignore_patterns("synthetic"))
    damage(RUN / "checkpoints" / "step-00000004")
    main(["quick.yaml"])
    told = [line for line in capsys.readouterr().err.splitlines() if "latentdc: warning:" in line]
    assert len(told) == 1 and "step-00000004 is damaged (" in told[0], told
    assert told[0].endswith("; going on from step-00000002.")
    whole, again = contents(ended), contents(RUN)
    same = [name for name in whole if not name.endswith(("metrics.jsonl", "recipe.yaml"))]
    assert [name for name in same if whole[name] != again[name]] == []


def test_where_no_one_is_sound_the_run_is_refused_and_nothing_is_lost(capsys, ended):
    shutil.copytree(ended, RUN, ignore=shutil.ignore_patterns("synthetic"))
    for folder in RUN.glob("checkpoints/*"):
        flip(folder / FILES[0], 0.9)
    before = contents(RUN)
    line = fails(capsys, 2)
    assert "step-00000004 is damaged (process-0000-0000.safetensors is not as it was" in line
    assert "step-00000002 is damaged (" in line and "remove this folder to distil" in line
    assert contents(RUN) == before
    shutil.rmtree(RUN / "checkpoints")
    main(["quick.yaml"])
    assert contents(RUN / "synthetic") == contents(ended / "synthetic")


def test_a_file_of_a_run_with_more_processes_that_lies_beside_is_not_read(capsys, ended):
    shutil.copytree(ended, RUN, ignore=shutil.ignore_patterns("synthetic"))
    folder = RUN / "checkpoints" / "step-00000004"
    shutil.copy(
        RUN / "checkpoints/step-00000002" / FILES[0], folder / "process-0009-0000.safetensors"
    )
    main(["quick.yaml"])
    assert contents(RUN / "synthetic") == contents(ended / "synthetic")


def test_trimming_momentum_and_a_living_student_go_on_bitwise_from_the_one_before(tmp_path):
    options = {"kind": "dc loops", "trim": Trim(share=0.4, refresh=3), "checkpoint_every": 2}
    whole = setup.run(tmp_path / "whole", steps=6, **options)
    setup.run(tmp_path / "damaged", steps=6, **options)
    flip(tmp_path / "damaged/checkpoints/step-00000006" / "objective.safetensors", 0.5)
    again = setup.run(tmp_path / "damaged", steps=6, **options)
    for name in ("images", "z", "c", "noise"):
        assert getattr(whole, name).equal(getattr(again, name)), name


def test_files_and_folder_are_on_the_disk_before_the_checkpoint_has_its_name(monkeypatch):
    done = []
    fsync, rename = os.fsync, Path.rename

    def synced(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(source, target):
        done.append(f"to {Path(target).name}")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    main(["quick.yaml"])
    at = done.index("to step-00000002")
    assert set(done[:at]) >= {*FILES, "step-00000002.part"} and done[at - 1] == "step-00000002.part"
    assert done[at + 1] == "checkpoints"
