"""Two commands in one folder: the second is refused at the start, and told who is there."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentdc.cli import main
from latentdc.errors import InputError
from latentdc.locks import InUse, lock_owner, locked
from tests.methods.command import write_recipe
from tests.synthetic.sets import random_set

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from latentdc.locks import locked
with locked(*map(Path, sys.argv[1:])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)


@pytest.fixture
def holder():
    """Starts a process that holds folders."""
    started = []

    def start(*folders: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *folders],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


COMMANDS = {
    "distill": (["distill", "quick.yaml"], "runs/quick"),
    "prune": (["prune", "quick.yaml"], "runs/quick"),
    "experts": (
        ["experts", "quick.yaml", "objective.kind=mtt", "objective.trajectory.experts=mine"],
        "mine",
    ),
    "evaluate": (["evaluate", "set", "--recipe", "quick.yaml"], "runs/set"),
    "evaluate elsewhere": (
        ["evaluate", "set", "--recipe", "quick.yaml", "--output", "scores"],
        "scores",
    ),
    "measure": (["measure", "set", "--recipe", "quick.yaml"], "runs/set"),
    "export": (["export", "set", "out", "--format", "imagefolder"], "out"),
    "train-prior": (["train-prior", "priors/digits", "output=prior"], "prior"),
}


@pytest.mark.parametrize(("words", "folder"), COMMANDS.values(), ids=COMMANDS)
def test_a_second_command_is_refused_and_told_who_is_there(capsys, holder, words, folder):
    random_set().save_pretrained("set", recipe="ipc: 2\n")
    process = holder(folder)
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(words)
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.count(" error: ") == 1
    assert f"{Path(folder).resolve()} is in use by `-c {folder}` (process {process.pid} on " in line
    assert ", since 20" in line and sorted(Path().rglob("*")) == before


def test_the_system_lets_go_of_it_when_its_owner_is_killed(holder):
    process = holder("runs/quick")
    with pytest.raises(InUse), locked(Path("runs/quick")):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    main(["distill", "quick.yaml"])
    assert Path("runs/quick/synthetic").is_dir()


@pytest.mark.parametrize(
    "spelling", ["runs/../runs/quick", "./runs/quick/", "link/quick"], ids=["..", "slash", "link"]
)
def test_another_spelling_is_the_same_folder(holder, spelling):
    Path("runs").mkdir()
    Path("link").symlink_to("runs")
    holder(spelling)
    with pytest.raises(InUse), locked(Path("runs/quick")):
        pass


def test_what_was_held_and_not_written_leaves_no_trace():
    before = sorted(Path().rglob("*"))
    with locked(Path("a/b/c"), Path("a/b"), Path("d")):
        assert lock_owner(Path("a/b/c"))["process"] == str(os.getpid())
    assert sorted(Path().rglob("*")) == before and lock_owner(Path("a/b/c")) is None


def test_a_lock_and_an_owner_left_by_a_killed_command_do_not_stand_in_the_way(capsys):
    Path("runs").mkdir()
    for kind in ("lock", "owner"):
        Path(f"runs/.quick.{kind}").write_text(json.dumps({"process": "1"}))
    main(["distill", "quick.yaml"])
    assert [path.name for path in Path("runs").iterdir()] == ["quick"]


@pytest.mark.parametrize("told", ["", "[]", "{", "5", "\xff", '{"process": []}'])
def test_an_owner_that_cannot_be_read_is_another_command(capsys, holder, told):
    holder("runs/quick")
    Path("runs/.quick.owner").write_text(told, encoding="latin-1")
    with pytest.raises(SystemExit):
        main(["distill", "quick.yaml"])
    assert "is in use by " in capsys.readouterr().err


def test_the_folder_one_is_in_can_be_held(monkeypatch):
    Path("mine").mkdir()
    monkeypatch.chdir("mine")
    with locked(Path(".")):
        assert lock_owner(Path("../mine")) is not None


def test_a_folder_below_one_that_is_closed_is_held_from_inside(monkeypatch):
    Path("closed/mine").mkdir(parents=True)
    access = os.access
    closed = Path("closed").resolve()
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    with locked(Path("closed/mine")):
        assert sorted(path.name for path in Path("closed/mine").iterdir()) == [".lock", ".owner"]
    assert list(closed.iterdir()) == [closed / "mine"] and not list(Path("closed/mine").iterdir())


def test_a_folder_on_another_disk_is_held_from_inside_for_others_see_it_elsewhere(monkeypatch):
    Path("disk").mkdir()
    disk = Path("disk").resolve()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == disk)
    with locked(Path("disk")):
        assert sorted(path.name for path in disk.iterdir()) == [".lock", ".owner"]
    assert not list(disk.iterdir())


@pytest.mark.parametrize("target", ["gone/deep", "runs/quick"], ids=["nowhere", "itself"])
@pytest.mark.parametrize(("words", "folder"), COMMANDS.values(), ids=COMMANDS)
def test_a_link_that_leads_nowhere_is_refused(capsys, words, folder, target):
    random_set().save_pretrained("set", recipe="ipc: 2\n")
    Path(folder).parent.mkdir(exist_ok=True)
    Path(folder).symlink_to(Path(target if target != "runs/quick" else folder).absolute())
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(words)
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.count(" error: ") == 1, line
    assert sorted(Path().rglob("*")) == before


def test_a_fifo_in_the_place_of_an_owner_holds_up_nobody(holder):
    Path("runs").mkdir()
    os.mkfifo("runs/.quick.owner")
    holder("runs/quick")
    Path("runs/.quick.owner").unlink()
    os.mkfifo("runs/.quick.owner")
    with (
        pytest.raises(InUse, match="in use by another command"),
        locked(Path("runs/quick")),
    ):
        pass


def test_a_disk_that_is_full_at_once_leaves_nothing_of_the_lock(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"), locked(Path("runs/quick")):
        pass
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_sweep_waits_for_a_cell_that_another_command_holds(holder):
    Path("sweep.yaml").write_text(
        "recipe: quick.yaml\naxes: {rate: {low: [distill.lr_z=0.1], high: [distill.lr_z=1]}}\n"
    )
    process = holder("runs/sweep/low")
    sweep = subprocess.Popen(
        [sys.executable, "-m", "latentdc.sweep", "sweep.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    end = time.monotonic() + 180
    while not Path("runs/sweep/high/cell.json").is_file():
        assert sweep.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    assert not Path("runs/sweep/low/cell.json").exists()
    process.kill()
    assert sweep.wait(180) == 0 and Path("runs/sweep/low/cell.json").is_file()


def test_a_name_that_is_too_long_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot write to .*File name too long; choose another"):
        with locked(tmp_path / ("x" * 300), advice="choose another"):
            pytest.fail("locked")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")
def test_a_place_below_proc_is_told_as_one_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["distill", "digits_ipc1", "output=/proc/run"])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "in use" not in told
    assert "cannot write to /proc" in told
