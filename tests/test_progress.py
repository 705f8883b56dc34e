"""What the main process tells while it works: bars, lines in their place, and how much of both."""

import io
import logging
import subprocess
import sys

import pytest

from latentdc import cli, ranks
from latentdc.synthetic import folder as layout
from tests.methods.command import write_recipe
from tests.test_readme import pretend_set


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def level():
    yield
    ranks.LOG.setLevel(logging.INFO)


@pytest.fixture
def every(monkeypatch):
    """Seconds between lines, and none told yet."""
    monkeypatch.setattr(ranks._Lines, "last", 0.0)
    return lambda seconds: monkeypatch.setattr(ranks, "EVERY", seconds)


def test_without_a_terminal_progress_is_plain_lines(capsys, every):
    every(0)
    bar = ranks.progress(None, "distil", total=3, unit=" steps")
    for loss in (0.5, 0.25, 0.125):
        bar.update()
        bar.set_postfix(loss=loss)
    bar.close()
    told = capsys.readouterr().err
    assert "\r" not in told and "\x1b" not in told
    assert "latentdc: distil: 1 of 3 steps in 00:00, " in told
    assert told.splitlines()[-1].startswith("latentdc: distil: 3 of 3 steps in 00:00, 00:00 to go")
    assert told.splitlines()[-1].endswith(", loss=0.125")


def test_lines_of_all_bars_together_are_half_a_minute_apart(capsys, every, monkeypatch):
    every(30)
    now = [1000.0]
    monkeypatch.setattr(ranks.time, "monotonic", lambda: now[0])
    file = ranks._Lines()
    for second in range(100):
        now[0] += 1
        file.write(f"\r{second}")
        ranks._Lines().write(f"other {second}")
    assert capsys.readouterr().err.split("\n")[:-1] == [
        f"latentdc: {second}" for second in (0, 30, 60, 90)
    ]


def test_short_work_tells_nothing_without_a_terminal(capsys, every):
    every(30)
    assert list(ranks.progress(range(3), "short")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    list(ranks.progress(range(3), "short"))
    assert "short: 100%|" in sys.stderr.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("by", ["quiet", "TQDM_DISABLE"])
def test_bars_and_lines_are_left_out_on_demand(monkeypatch, capsys, every, terminal, by):
    every(0)
    if by == "quiet":
        ranks.set_level(logging.WARNING)
    else:
        monkeypatch.setenv(by, "1")
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    assert list(ranks.progress(range(3), "short")) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_quiet_leaves_warnings_and_verbose_adds_details(capsys):
    for level, told in (
        (logging.WARNING, ["warning: w"]),
        (logging.INFO, ["note: n", "warning: w"]),
        (logging.DEBUG, ["note: n", "warning: w", "data: d"]),
    ):
        ranks.set_level(level)
        ranks.say("note", "n")
        ranks.say("warning", "w")
        ranks.detail("data", "d")
        assert capsys.readouterr().err == "".join(f"latentdc: {line}\n" for line in told)


def test_the_main_process_alone_tells(monkeypatch, capsys, every):
    every(0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    ranks.say("warning", "w")
    list(ranks.progress(range(3), "short"))
    assert capsys.readouterr().err == ""


STARTS = (  # words, and what the first line says
    (("distill", "digits_ipc1"), "distill: digits_ipc1 by matching, in runs/digits_ipc1"),
    (("sweep", "sweeps/ablation"), "sweep: ablation, 15 cells, in runs/ablation"),
    (("prune", "digits_ipc1"), "prune: digits_ipc1 by loss, in runs/digits_ipc1"),
    (("train-prior", "priors/digits"), "train-prior: digits, in runs/priors/digits"),
    (("experts", "ld3m_mtt"), "experts: 5000 convnet for ld3m_mtt, 15 epochs each"),
    (("evaluate", "images", "--recipe", "digits_ipc1"), "evaluate: images under quick"),
    (("measure", "images", "--recipe", "digits_ipc1"), "measure: images"),
    (("verify", "published"), "verify: published"),
)
SLOW = "accelerate", "datasets", "diffusers", "pandas", "sklearn", "torch", "transformers"


@pytest.mark.parametrize(("words", "said"), STARTS)
def test_the_first_line_comes_before_anything_slow_is_imported(words, said, tmp_path):
    (tmp_path / "images/zero").mkdir(parents=True)
    (tmp_path / "images/zero/1.jpg").touch()
    pretend_set(tmp_path / "published")
    (tmp_path / "published" / layout.RESULTS).touch()
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {SLOW}:
            raise SystemExit(f"imports {{name}}")
sys.meta_path.insert(0, Refuse())
from latentdc import cli
cli.main({list(words)})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    first, *_, last = done.stderr.splitlines()
    assert (first, last[:8]) == (f"latentdc: {said}", "imports "), done.stderr


def test_pixels_and_selection_need_no_diffusion_library(tmp_path):
    write_recipe(tmp_path)
    script = """
import sys
from latentdc import cli
cli.main(["distill", "quick.yaml", "--dry-run"])
cli.main(["distill", "quick.yaml", "distill.steps=1", "prune.keep=1.0"])
cli.main(["distill", "quick.yaml", "method.kind=selection", "prune.score=random", "output=chosen"])
print(*{"diffusers", "transformers"} & {*sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""


def test_quiet_and_verbose_are_of_every_long_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    words = ["distill", "quick.yaml", "method.kind=selection", "prune.score=random"]
    told = {}
    for option in ("-q", "-v"):
        cli.main([*words, option, f"output={option[1]}"])
        printed = capsys.readouterr()
        assert "report: " in printed.out  # results are printed all the same
        told[option] = printed.err
    assert told["-q"] == ""
    assert "latentdc: machine: latentdc " in told["-v"]
    assert "latentdc: data: 1,437 samples to train on\n" in told["-v"]  # no row is scored
    for name, command in cli.COMMANDS.items():
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        assert ("-q, --quiet" in capsys.readouterr().out) == command.dry_run
    started = {words[0] for words, _ in STARTS}
    assert started == {n for n, command in cli.COMMANDS.items() if command.dry_run}
