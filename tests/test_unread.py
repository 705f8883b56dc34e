"""Keys of a command line that change nothing are told."""

import pytest

from latentdc import cli

KEPT = "beside prune.keep=1, which keeps all"
CASES = {  # words of a command -> what it tells
    "distill digits_ipc1 method.kind=selection prune.keep=1 distill.steps=5 prior.steps=4": (
        "distill.steps, prior.steps: without effect beside method.kind=selection"
    ),
    "distill digits_ipc1 objective.loops={outer: 3} objective.batch=4": (
        "objective.loops.outer: without effect beside objective.kind=dm"
    ),
    "distill digits_ipc1 prune.keep=1 prune.score=el2n": f"prune.score: without effect {KEPT}",
    "prune digits_ipc1 prune.keep=1 prune.order=hard": f"prune.order: without effect {KEPT}",
    "train-prior priors/digits --from digits unet.channels=[32,64] unet.lr=0.1": (
        "unet.channels: without effect beside start=digits, whose autoencoder and shape"
    ),
    "experts ld3m_mtt output=mine": (
        "output: without effect beside objective.trajectory.experts, the folder of experts (here "
    ),
}


@pytest.mark.parametrize("words", CASES)
def test_keys_that_nothing_reads_are_told(words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    given = words.replace("{outer: 3}", "{outer:_3}").split()
    cli.main([*(word.replace("_3", " 3") for word in given), "--dry-run"])
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "without effect" in one]
    assert line.startswith(f"latentdc: note: {CASES[words]}")


@pytest.mark.parametrize(
    "words",
    [
        "distill digits_ipc1 objective.kind=dc objective.loops.outer=2 objective.loops.inner=1",
        "distill digits_ipc1 prune.keep=0.5 prune.score=el2n distill.steps=3",
        "prune digits_ipc1 prune.keep=0.5 prune.order=hard distill.steps=3",
        "distill pca_digits method.kind=rded prune.keep=1 prune.scorer.epochs=2",
    ],
)
def test_keys_that_are_read_are_not(words, capsys):
    cli.main([*words.split(), "--dry-run"])
    assert "without effect" not in capsys.readouterr().err
