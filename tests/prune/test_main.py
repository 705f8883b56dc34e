import subprocess
import sys
from pathlib import Path

import pytest

import latentdc
from latentdc.data.open import open_dataset
from latentdc.prune.__main__ import main
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Data

QUICK = """
data: {resolution: 8}
prune: {keep: 0.2, scorer: {network: convnet3@16, epochs: 3, lr: 0.2, batch: 64}}
prior: {kind: pixel}
threads: 1
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text(QUICK)
    return "quick.yaml"


def test_the_core_set_of_a_recipe_is_saved_and_counted(recipe, tmp_path, capsys):
    main([recipe, "prune.order=hard"])
    train = open_dataset(Data(), "train")
    coreset = Coreset.load(tmp_path / "runs/quick/coreset.parquet")
    rows = coreset.indices(train)
    assert (coreset.order, coreset.rule, len(rows)) == ("hard", "loss", 287)
    output = capsys.readouterr().out
    assert "kept 287 of 1437 images (loss, hard)\n  0: 28 of 142\n" in output
    assert "right on digits test" in output


def test_a_broken_recipe_leaves_one_line_code_two_and_no_files(recipe, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([recipe, "prune.keep=20"])
    assert stop.value.code == 2
    assert "for 20 % write 0.2" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_help_and_a_wrong_network_answer_without_torch(recipe):
    code = (
        "import sys; from latentdc.prune.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules)"
    )
    root = Path(latentdc.__file__).parents[1]
    path = str(Path(recipe).resolve())
    for arguments in (["--help"], [path, "--print-config"], [path, "prune.scorer.network=vt"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.stdout.endswith("False\n"), done.stderr
