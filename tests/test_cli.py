import errno
import json
import os
import runpy
import signal
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

import latentdc
from latentdc import cli, config, exits
from latentdc.errors import InputError, RunError, everywhere
from latentdc.recipe import PriorSettings, Recipe
from tests.synthetic.sets import random_set


def test_the_version_and_the_machine_are_told(capsys):
    told = ends(capsys, lambda: cli.main(["--version"]))
    assert told == (0, f"latentdc {latentdc.__version__}\n", "")
    cli.main(["env"])
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert told["latentdc"] == latentdc.__version__ and told["torch"] == version("torch")
    assert {"python", "system", "processor", "diffusers", "CUDA"} <= set(told)


def test_the_package_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["latentdc", "--version"])
    code, out, _ = ends(capsys, lambda: runpy.run_module("latentdc", run_name="__main__"))
    assert code == 0 and out.startswith("latentdc ")


def ends(capsys, work) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        work()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def raising(error):
    def work():
        raise error

    return lambda: exits.exits(work)


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


def test_each_of_several_processes_tells_its_own_error_with_its_rank(capsys, monkeypatch):
    monkeypatch.setattr(exits, "TOGETHER", 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        told = ends(capsys, raising(InputError("no")))
        assert told == (2, "", f"\nlatentdc: error: rank {rank}: no\n")
    assert ends(capsys, raising(everywhere(RunError("nan")))) == (1, "", ""), "the main one tells"
    monkeypatch.setenv("RANK", "0")
    told = ends(capsys, raising(everywhere(RunError("nan"))))
    assert told == (1, "", "\nlatentdc: error: rank 0: nan\n")


@pytest.mark.parametrize("value", ["", "abc", "1.0", "0x1", "one two", "nan"])
@pytest.mark.parametrize(
    "name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"]
)
def test_what_no_launcher_sets_is_refused_by_every_command(capsys, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    for words in (["distill", "digits_ipc1"], ["compare", "run"], ["nothing"]):
        code, _, line = ends(capsys, lambda words=words: cli.main(words))
        said = f"latentdc: error: the environment variable {name} is {value!r}, which is no whole"
        assert code == 2 and line.startswith(said) and line.count("\n") == 1


def test_a_rank_among_no_others_is_the_main_one(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    told = ends(capsys, lambda: cli.main(["distill", "digits_ipc1", "--print-config"]))
    assert told[0] == 0 and "source: digits" in told[1]


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


def caused(error: BaseException) -> Exception:
    outer = ValueError("cannot save")
    outer.__cause__ = error
    return outer


def handling(error: BaseException) -> Exception:
    outer = ImportError("initialisation failed")
    outer.__context__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; finished files are whole, start again to go on."),
        (handling(KeyboardInterrupt()), 130, "interrupted; "),
        (MemoryError(), 1, "there is not enough memory (MemoryError); take less data at a time"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            1,
            "there is not enough memory for libtorch_cpu.so: failed to map segment from shared "
            "object; allow more (ulimit -v).",
        ),
        (
            ImportError("a.so: cannot open: Too many open files"),
            1,
            "a.so: cannot open: Too many open files; allow more open files (ulimit -n).",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "there is not enough memory (["),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
            1,
            "there is not enough memory ([enforce fail] Def",
        ),
        (
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee docs"),
            1,
            "the GPU's memory is full (CUDA out of memory. Tried to allocate 2.00 GiB.); take sma",
        ),
        (RuntimeError("CUDA error: out of memory"), 1, "the GPU's memory is full"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "/x/y: Permission denied; name a pl"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 1, "/x: Read-only file system; name"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 999), 1, "aaa"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "Too many open files; allow more open f"),
        (RuntimeError("unable to open <x>: Too many open files (24)"), 1, "unable to open <x>: "),
        (OSError(errno.EIO, "Input/output error", "/x"), 1, "/x: Input/output error."),
        (FileNotFoundError(2, "No such file or directory", "a", None, "b"), 1, "a, b: No such f"),
        (NotADirectoryError(20, "Not a directory", "a/b"), 1, "a/b: Not a directory."),
        (OSError("cannot identify\nthe picture"), 1, "cannot identify."),
        (OSError(), 1, "OSError."),
        (caused(PermissionError(13, "Permission denied", "/x/y")), 1, "/x/y: Permission denied"),
        (RuntimeError("[../gloo/pair.cc] Connection closed by peer"), 1, "another process has end"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, monkeypatch, error, code, words):
    monkeypatch.setattr(exits, "TOGETHER", 0)  # in which the main process may tell the same
    found, out, line = ends(capsys, raising(error))
    assert (found, out, line.count("\n")) == (code, "", 1)
    assert line.startswith(f"latentdc: error: {words}") and len(line) < 400


def test_a_working_folder_that_was_removed_is_what_is_told(capsys, monkeypatch, tmp_path):
    recipe = tmp_path / "x.yaml"
    recipe.write_text("data: {source: digits}\nevaluate: {rows: []}\n")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as end:
        cli.main(["distill", str(recipe), f"output={tmp_path}/run"])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.endswith("error: the working folder is gone; change to one that is there.\n")


@pytest.mark.parametrize(
    "error",
    [
        handling(PermissionError(13, "Permission denied", "/x")),
        ValueError("shapes differ"),
        KeyError("x"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_our_own_errors_keep_their_traceback(error):
    with pytest.raises(type(error)):
        raising(error)()


def test_a_traceback_is_shown_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv(exits.TRACEBACK, "1")
    with pytest.raises(PermissionError):
        raising(PermissionError(13, "Permission denied", "/x"))()


def command(*words: str, module: bool = False, **options):
    start = ["-m", f"latentdc.{words[0]}"] if module else ["-c", RUN, words[0]]
    return subprocess.Popen(
        [sys.executable, *start, *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"env": {**os.environ, "PYTHONPATH": ROOT}, **options},
    )


ROOT = str(Path(__file__).parents[1])
RUN = "import sys; from latentdc.cli import main; main(sys.argv[1:])"
HOLDS = """
import os, signal, sys, types, latentdc.cli
def work(*_, **__): os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)
sys.modules["latentdc.run"] = types.SimpleNamespace(run=work)  # without importing torch
latentdc.cli.main(sys.argv[1:])
"""


def test_an_interrupt_is_one_line_and_code_130(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HOLDS, "distill", "digits_ipc1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 130 and list(tmp_path.iterdir()) == []
    first, last = done.stderr.splitlines()
    assert first.startswith("latentdc: distill: ") and last.startswith("latentdc: error: interr")


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["distill", "digits_ipc1", "--print-config"], False),
        (["distill", "digits_ipc1", "--print-config"], True),
        (["--help"], False),
    ],
)
def test_a_pipe_that_nobody_reads_ends_without_a_word(tmp_path, words, module):
    process = command(*words, module=module, cwd=tmp_path)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == "" and process.wait(180) == 141


def test_output_onto_a_full_disk_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "latentdc.distill", "digits_ipc1", "--print-config"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": ROOT},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=180,
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("latentdc: error: the disk is full; ")


@pytest.mark.parametrize(
    "alphabet",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=["ascii", "C", "latin-1"],
)
def test_an_alphabet_without_a_letter_prints_its_code(tmp_path, alphabet):
    (tmp_path / "mine.yaml").write_text("data: {classes: [Ω, 猫]}\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": ROOT, **alphabet}
    process = command("distill", "mine.yaml", "--print-config", cwd=tmp_path, env=environment)
    printed, told = process.communicate(timeout=180)
    assert process.returncode == 0, told
    assert "\\u732b" in printed and "Traceback" not in told
    process = command("distill", "Ω.yaml", cwd=tmp_path, env=environment)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 2 and told.startswith("latentdc: error: ")
    assert "no file " in told or "set PYTHONUTF8=1" in told


def test_a_path_that_the_locale_cannot_write_is_one_line(tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, "PYTHONPATH": ROOT, **locale}
    process = command("distill", "digits_ipc1", "output=Ω", cwd=tmp_path, env=environment)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 2 and told.count("\n") == 1, told
    assert "\\udcce" in told and "set PYTHONUTF8=1" in told


@pytest.mark.parametrize(
    "words", [["compare", "caf\udce9"], ["export", "caf\udce9", "--format", "pt", "x.pt"]]
)
def test_a_name_that_is_no_utf8_is_refused_before_it_is_looked_for(capsys, words):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    told = capsys.readouterr().err
    assert "caf\\udce9 has characters that UTF-8 cannot write; give the file another name" in told


@pytest.mark.slow
def test_names_and_tables_of_any_letters_are_written_in_any_locale(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "data: {source: digits, resolution: 8, classes: ['1', '7']}\n"
        "prior: {kind: pixel}\n"
        "objective: {kind: dm, network: convnet3@8, batch: 8}\n"
        "distill: {steps: 2}\n"
        "evaluate: {students: [convnet3@2], seeds: 2, steps: 2, rows: [distilled, random]}\n",
        encoding="utf-8",
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, "PYTHONPATH": ROOT, **locale}
    for words in (["distill", "mine.yaml", "output=run"], ["compare", "run", "--output", "run"]):
        process = command(*words, cwd=tmp_path, env=environment)
        printed, told = process.communicate(timeout=180)
        assert process.returncode == 0 and "Traceback" not in told, told
        assert "\\xb1" in printed
    assert "±" in (tmp_path / "run" / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 2.0, 4.0, 6.0])
def test_an_interrupt_at_any_time_is_one_line(tmp_path, seconds):
    process = command("distill", "digits_ipc1", "distill.steps=100000", cwd=tmp_path)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=180)
    assert process.returncode == 130 and "Traceback" not in told, told
    assert told.count("latentdc: error: interrupted; ") == 1 and told.endswith("to go on.\n")


@pytest.mark.parametrize(
    "words",
    [
        ["push", "set", "user/name"],
        ["export", "set", "out", "--format", "pt"],
        ["measure", "set"],
        ["compare", "run"],
        ["copy", "digits_ipc1"],
        ["train-prior", "priors/digits"],
        ["convert-prior", "a.ckpt", "out", "--config", "a.yaml"],
    ],
)
def test_what_runs_on_one_process_refuses_more(capsys, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, line = ends(capsys, lambda: cli.main(words))
    assert code == 2 and f"latentdc {words[0]} runs on one process, and 2 were started" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a" * 300, "/".join(["a" * 200] * 40), "a\0b", "~nobody-of-that-name/a"]
)
@pytest.mark.parametrize(
    "words",
    [
        ["distill", "digits_ipc1", "output={}"],
        ["distill", "{}"],
        ["prune", "digits_ipc1", "output={}"],
        ["experts", "digits_ipc1", "objective.kind=mtt", "objective.trajectory.experts={}"],
        ["evaluate", "{}"],
        ["measure", "{}"],
        ["export", "{}", "--format", "pt", "out.pt"],
        ["push", "{}", "user/name"],
        ["compare", "{}"],
        ["train-prior", "priors/digits", "output={}"],
    ],
    ids=lambda words: words[0] + " " + words[-1][:8] if isinstance(words, list) else None,
)
def test_a_name_that_no_file_can_have_is_one_line(capsys, monkeypatch, tmp_path, words, name):
    monkeypatch.chdir(tmp_path)
    code, _, line = ends(capsys, lambda: cli.main([word.replace("{}", name) for word in words]))
    assert code in (1, 2) and line.count("\n") == 1 and len(line) < 1000, line
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["distill", "digits_ipc1", "output={}"],
        ["prune", "digits_ipc1", "output={}"],
        ["evaluate", "made", "--recipe", "digits_ipc1", "--output", "{}"],
        ["measure", "made", "--recipe", "digits_ipc1", "--output", "{}"],
        ["compare", "made", "--output", "{}"],
        ["report", "made", "--output", "{}/x.html"],
    ],
    ids=lambda words: words[0],
)
def test_an_output_folder_that_is_a_file_is_refused_before_the_work(
    capsys, monkeypatch, tmp_path, words
):
    monkeypatch.chdir(tmp_path)
    random_set().save_pretrained("made")
    (tmp_path / "file").write_text("mine")
    code, _, line = ends(capsys, lambda: cli.main([w.replace("{}", "file") for w in words]))
    assert code == 2 and "cannot write to file; name another folder with" in line, line
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unknown_command_is_one_line_with_the_nearest(capsys):
    code, _, line = ends(capsys, lambda: cli.main(["distil"]))
    assert code == 2 and line.count("\n") == 1
    assert line.startswith("latentdc: error: unknown command 'distil'; did you mean 'distill'?")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(capsys, arguments):
    code, printed, _ = ends(capsys, lambda: cli.main(arguments))
    assert code == 0 and all(f"  {name} " in printed for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("words", "write"),
    [
        (["distill", "digits_ipc1", "--ipc", "10"], "ipc=10"),
        (["distill", "--ipc=10", "digits_ipc1"], "ipc=10"),
        (["prune", "digits_ipc1", "--prune.keep", "0.2"], "prune.keep=0.2"),
        (["distill", "digits_ipc1", "--seeds", "3"], "evaluate.seeds=3"),
        (["sweep", "sweeps/pca", "--output", "a folder"], "'output=a folder'"),
        (["train-prior", "priors/digits", "--seed"], "seed=..."),
        (["evaluate", "set", "--students", "[alexnet]"], "'evaluate.students=[alexnet]'"),
    ],
)
def test_an_option_that_is_a_key_of_the_recipe_is_answered_with_the_key(capsys, words, write):
    option = next(word for word in words if word.startswith("--")).partition("=")[0]
    told = f"latentdc: error: {option} is no option but a key of the recipe; write {write}.\n"
    assert ends(capsys, lambda: cli.main(words)) == (2, "", told)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_options_and_recipes(capsys, shell):
    pytest.importorskip("shtab")
    code, script, _ = ends(capsys, lambda: cli.main(["--print-completion", shell]))
    assert code == 0 and all(name in script for name in cli.COMMANDS)
    assert "--dry-run" in script and "methods/mgd3_digits" in script


@pytest.mark.skipif(which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["dist"], ["distill"]),
        (["distill", "methods/mgd3_d"], ["methods/mgd3_digits"]),
        (["distill", "digits_ipc1", "--dry"], ["--dry-run"]),
        (["export", "--format", "image"], ["imagefolder"]),
    ],
)
def test_bash_completes_what_is_begun(capsys, tmp_path, words, offered):
    pytest.importorskip("shtab")
    script = tmp_path / "completion.bash"
    script.write_text(ends(capsys, lambda: cli.main(["--print-completion", "bash"]))[1])
    line = f"""
source {script}
COMP_WORDS=(latentdc {" ".join(words)}); COMP_CWORD={len(words)}
_shtab_latentdc latentdc {words[-1]} {["latentdc", *words][-2]} 2> /dev/null
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.stdout.split() == offered, done.stderr


def test_completion_without_its_library_is_refused_in_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, line = ends(capsys, lambda: cli.main(["--print-completion", "zsh"]))
    assert code == 2 and line.count("\n") == 1 and 'pip install "latentdc[completion]"' in line


@pytest.mark.parametrize("order", [["--print-config", "ipc=4"], ["ipc=4", "--print-config"]])
@pytest.mark.parametrize("command", ["distill", "prune"])
def test_the_printed_configuration_is_the_resolved_recipe(capsys, tmp_path, command, order):
    code, printed, _ = ends(capsys, lambda: cli.main([command, "digits_ipc1", *order]))
    (tmp_path / "printed.yaml").write_text(printed)
    wanted = config.load(Recipe, config.find("digits_ipc1", "recipes"), ["ipc=4"])
    assert code == 0 and config.load(Recipe, tmp_path / "printed.yaml") == wanted


def test_a_missing_recipe_is_what_is_missing(capsys):
    code, _, line = ends(capsys, lambda: cli.main(["distill"]))
    assert code == 2 and line.count("\n") == 1
    assert "the following arguments are required: recipe; see latentdc distill --help" in line


def test_a_run_folder_is_named_after_its_recipe_or_as_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.run_folder(None, "digits_ipc1").parts == ("runs", "digits_ipc1")
    assert cli.run_folder("elsewhere", "x").parts == ("elsewhere",)
    assert cli.run_folder("~/x", "y") == tmp_path / "x"


# What a user can be told at once must not wait for the seconds that importing torch takes.
TORCHLESS = [
    ([], 0),
    (["--help"], 0),
    (["--version"], 0),
    (["--print-completion", "bash"], 0 if find_spec("shtab") else 2),
    (["distill", "digits_ipc1", "--ipc", "10"], 2),
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
    config.claim(Recipe(prior=PriorSettings(kind="pixel")), tmp_path / "another")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(TORCHLESS)],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("latentdc: error: ") == sum(code == 2 for _, code in TORCHLESS)
    assert [path.name for path in tmp_path.rglob("*")] == ["another", "recipe.yaml"]


@pytest.mark.parametrize("command", [*cli.COMMANDS])
@pytest.mark.parametrize("words", [["--icp=1"], []], ids=["unknown option", "nothing"])
def test_what_is_no_argument_is_refused_in_one_line(capsys, monkeypatch, tmp_path, command, words):
    if command == "env" and not words:
        pytest.skip("latentdc env needs no argument")
    monkeypatch.chdir(tmp_path)
    code, _, line = ends(capsys, lambda: cli.main([command, *words]))
    assert code == 2 and line.startswith("latentdc: error: ") and line.count("\n") == 1, line
    assert f"see latentdc {command} --help" in line
    assert list(tmp_path.iterdir()) == []
