import errno
import json
import os
import subprocess
import sys

import pytest

from latentdc import cli, config
from latentdc.errors import InputError, RunError
from latentdc.recipe import PriorSpec, Recipe


def ends(capsys, work) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        work()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def raising(error):
    def work():
        raise error

    return lambda: cli.exits(work)


def test_a_wrong_input_is_one_line_and_code_2(capsys):
    answer = ends(capsys, raising(InputError("ipc is\n  0.")))
    assert answer == (2, "", "latentdc: error: ipc is 0.\n")


def test_a_broken_run_is_one_line_and_code_1(capsys):
    assert ends(capsys, raising(RunError("nan"))) == (1, "", "latentdc: error: nan\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_code_1(capsys, error):
    code, _, line = ends(capsys, raising(error))
    assert code == 1 and line.startswith("latentdc: error: the disk is full; ")
    outer = ValueError("cannot save")
    outer.__cause__ = error
    assert ends(capsys, raising(outer))[0] == 1


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()


def test_only_the_main_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert ends(capsys, raising(InputError("no"))) == (2, "", "")


def test_an_unknown_command_is_one_line_with_the_nearest(capsys):
    code, _, line = ends(capsys, lambda: cli.main(["distil"]))
    assert code == 2 and line.count("\n") == 1
    assert line.startswith("latentdc: error: unknown command 'distil'; did you mean 'distill'?")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(capsys, arguments):
    cli.main(arguments)
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in cli.COMMANDS)


@pytest.mark.parametrize("order", [["--print-config", "ipc=4"], ["ipc=4", "--print-config"]])
@pytest.mark.parametrize("command", ["distill", "prune"])
def test_the_printed_configuration_is_the_resolved_recipe(capsys, tmp_path, command, order):
    code, printed, _ = ends(capsys, lambda: cli.main([command, "digits_ipc1", *order]))
    (tmp_path / "printed.yaml").write_text(printed)
    wanted = config.load(Recipe, config.find("digits_ipc1", "recipes"), ["ipc=4"])
    assert code == 0 and config.load(Recipe, tmp_path / "printed.yaml") == wanted


def test_a_missing_recipe_is_what_is_missing(capsys):
    code, _, line = ends(capsys, lambda: cli.main(["distill"]))
    assert code == 2 and line.endswith("the following arguments are required: recipe\n")


def test_a_run_folder_is_named_after_its_recipe_or_as_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.run_folder(None, "digits_ipc1").parts == ("runs", "digits_ipc1")
    assert cli.run_folder("elsewhere", "x").parts == ("elsewhere",)
    assert cli.run_folder("~/x", "y") == tmp_path / "x"


# What a user can be told at once must not wait for the seconds that importing torch takes.
TORCHLESS = [
    ([], None),
    (["--help"], None),
    (["distil"], 2),
    *[([command, "--help"], 0) for command in cli.COMMANDS],
    (["distill", "digits_ipc1", "--print-config"], 0),
    (["distill", "in1k_ipc10", "ipc=3", "--print-config"], 0),
    (["train-prior", "priors/digits", "--print-config"], 0),
    (["distill", "digits_ipc9"], 2),
    (["distill", "digits_ipc1", "pcr=2"], 2),
    (["distill", "digits_ipc1", "ipc=many"], 2),
    (["distill", "digits_ipc1", "prune.keep=20"], 2),
    (["distill", "digits_ipc1", "objective.network=convnet9"], 2),
    (["distill", "digits_ipc1", "evaluate.protocol=quack"], 2),
    (["distill", "digits_ipc1", "evaluate.students=[convnet5]"], 2),
    (["distill", "digits_ipc1", "prune.coreset=nowhere.parquet"], 2),
    (["distill", "digits_ipc1", "output=another"], 2),
    (["prune", "digits_ipc1", "prune.keep=20"], 2),
    (["prune", "digits_ipc1", "output=another"], 2),
    (["evaluate", "nowhere/", "ipc=3"], 2),
    (["train-prior", "priors/digits", "unet.drop=2"], 2),
    (["push", "nowhere", "user/name"], 2),
]

SCRIPT = """
import json, sys
import latentdc
from latentdc.cli import main
for arguments, wanted in json.loads(sys.argv[1]):
    code = None
    try:
        main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == wanted, (arguments, code)
    assert "torch" not in sys.modules, arguments
"""


def test_help_configuration_and_refusals_come_without_importing_torch(tmp_path):
    config.claim(Recipe(prior=PriorSpec(kind="pixel")), tmp_path / "another")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(TORCHLESS)],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("latentdc: error: ") == sum(code == 2 for _, code in TORCHLESS)
    assert [path.name for path in tmp_path.rglob("*")] == ["another", "recipe.yaml"]
