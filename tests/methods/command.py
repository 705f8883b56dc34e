"""A quick recipe for the command line, and what a call of it leaves behind."""

from pathlib import Path

import pytest

from latentdc.distill import main

QUICK = """
data: {source: digits, resolution: 8}
prior: {kind: pixel}
objective: {kind: dm, network: convnet3@8, batch: 8}
distill: {steps: 4, lr_z: 1.0, checkpoint_every: 2}
evaluate: {students: [convnet3@2], seeds: 2, steps: 2, rows: []}
threads: 1
"""
RUN = Path("runs/quick")


def write_recipe(folder: Path) -> None:
    """`quick.yaml`, whose run goes to `RUN`."""
    (folder / "quick.yaml").write_text(QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    """All files under a folder, by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fails(capsys: pytest.CaptureFixture[str], code: int, *overrides: str) -> str:
    """The line with which the quick recipe, changed, ends under the given exit code."""
    with pytest.raises(SystemExit) as stop:
        main(["quick.yaml", *overrides])
    told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("latentdc: error: ")]
    assert stop.value.code == code, told
    assert len(lines) == 1 and told.endswith(f"{lines[0]}\n") and "Traceback" not in told, told
    return lines[0]


def refused(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """As `fails` with code 2, after which no run folder was made or changed."""
    before = contents(Path("runs"))
    line = fails(capsys, 2, *overrides)
    assert contents(Path("runs")) == before and Path("runs").exists() == bool(before)
    return line
