import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import latentdc
from latentdc.data.open import open_dataset
from latentdc.errors import InputError
from latentdc.prune.__main__ import main
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Data, Prune, Scorer
from latentdc.recipe.prune import check_prune

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


@pytest.mark.smoke
def test_the_core_set_of_a_recipe_is_saved_and_counted_and_the_next_needs_no_scorer(
    recipe, tmp_path, capsys
):
    main([recipe, "prune.order=hard"])
    train = open_dataset(Data(), "train")
    coreset = Coreset.load(tmp_path / "runs/quick/coreset.parquet")
    rows = coreset.indices(train)
    assert (coreset.order, coreset.rule, len(rows)) == ("hard", "loss", 287)
    output, told = capsys.readouterr()
    assert "kept 287 of 1437 images (loss, hard)\n  0: 28 of 142\n" in output
    assert "right on digits test" in told
    page = (tmp_path / "runs/quick/report.html").read_text()
    assert "287 of 1,437 images" in page and "<figcaption>loss: high is hard" in page
    kept = tmp_path / "runs/quick/scores.parquet"
    main([recipe, f"prune.scores={kept}", "prune.score=aum", "prune.keep=0.1", "output=tenth"])
    output, told = capsys.readouterr()
    assert "kept 142 of 1437 images (aum, easy)" in output and "right on" not in told


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


@pytest.mark.smoke
def test_a_report_counts_the_labels_to_check_of_each_class(recipe, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "aum.csv").write_text("aum\n" + "\n".join(str(i % 97) for i in range(1437)))
    main([recipe, "prune.scores=aum.csv", "prune.score=aum", "--report", "pictures"])
    assert "report: pictures/report.md" in capsys.readouterr().out
    head, _, *rows = (tmp_path / "pictures/report.md").read_text().split("\n\n")[2].splitlines()
    assert head.endswith("| labels to check |") and len(rows) == 10
    assert sum(int(row.split("|")[-2]) for row in rows) == 14  # 1 % of 1437


def test_a_scorer_that_is_only_looked_at_is_checked_before_anything(recipe, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([recipe, "prune.keep=1.0", "prune.scorer.network=convet3", "--report", "pictures"])
    assert "did you mean 'convnet3'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prune.score=forgeting"], "did you mean 'forgetting'"),
        (["prune.columns=[loss,aun]"], "prune.columns: there is no rule 'aun'; did you mean 'aum'"),
        (["prune.scores=gone.parquet"], "prune.scores: there is no file gone.parquet"),
        (["prune.scores=quick.yaml"], "quick.yaml is none of .parquet, .csv"),
        (["prune.features=quick.yaml"], "is none of .npy, .safetensors"),
        (["prune.count=9", "prune.keep=0.2"], "three ways to say how much is kept"),
        (["prune.score=herding", "prune.order=hard"], "has no hard end"),
        (["prune.window=[2,9]"], "first and the last of the scorer's 3 epochs"),
        (["prune.columns=[tdds]"], "windows of prune.rules.span=10 epochs and there are 3"),
        (["prune.score=aum", "prune.scorer.weights=w.safetensors"], "aum looks at the training"),
        (["prune.score=ccs", "prune.scorer.weights=w.safetensors"], "(prune.rules.base)"),
        (["prune.rules.base=herding"], "herding chooses sets"),
        (["prune.keep=0.001", "prune.scope=global"], "the budget is 1 of 1437 images"),
        (
            ["prune.score=s3", "prune.rules.groups=1000000"],
            "1,000,000 groups of each of 10 classes, and 100,000 in all at most; lower "
            "prune.rules.groups to 10,000",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    recipe, tmp_path, capsys, overrides, message
):
    with pytest.raises(SystemExit) as stop:
        main([recipe, *overrides])
    error = capsys.readouterr().err.strip()
    lines = [line for line in error.splitlines() if not line.startswith("latentdc: prune: ")]
    assert stop.value.code == 2 and message in error and len(lines) == 1
    assert not (tmp_path / "runs").exists()


def test_results_of_a_newer_version_are_nothing_to_a_command_that_writes_none(
    recipe, tmp_path, capsys
):
    results = tmp_path / "runs/quick/results.json"
    results.parent.mkdir(parents=True)
    results.write_text('{"version": 99}')
    main([recipe, "prune.score=random"])
    assert (
        results.read_text() == '{"version": 99}' and (results.parent / "coreset.parquet").exists()
    )


def test_a_report_is_not_written_among_the_images(recipe, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for name in ("train/cat", "train/dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name / "1.png")
    with pytest.raises(SystemExit):
        main([recipe, "data.source=pets", "--report", "pets/train/cat/report"])
    assert "lies among the images of data.source=pets" in capsys.readouterr().err
    assert not (tmp_path / "pets/train/cat/report").exists()


def test_a_multiple_of_ipc_is_resolved_in_the_recipe(recipe, capsys):
    with pytest.raises(SystemExit):
        main([recipe, "prune.keep=1.0", "prune.times_ipc=3", "ipc=4", "--print-config"])
    printed = capsys.readouterr().out
    assert "count: 12" in printed and "times_ipc: null" in printed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.scorer.lr=inf", "prune.scorer.lr is a finite number"),
        ("prune.scorer.lr=nan", "prune.scorer.lr is a finite number"),
        ("prune.scorer.std=[0.1,0.1,0]", "prune.scorer.std must be positive"),
        ("prune.scorer.mean=[nan,0,0]", "prune.scorer.mean is a finite number"),
        ("prune.scorer.resolution=0", "prune.scorer.resolution is in pixels and at least 8"),
        ("prune.rules.gamma=inf", "prune.rules.gamma is a finite number"),
        ("prune.keep=nan", "prune.keep is a finite number"),
        ("experts.lr=inf", "experts.lr is a finite number"),
        ("evaluate.rows=[random,random]", "evaluate.rows names 'random' twice; name it once"),
        ("evaluate.seeds=0", "evaluate.seeds is at least 1"),
    ],
)
def test_silly_values_are_refused_in_one_line_before_anything_is_opened(capsys, override, message):
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", override])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and message in line


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_scored(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["digits_ipc1", f"output={tmp_path}/run", "--report", f"{tmp_path}/file/deep"])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "name another folder with --report" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scorer": Scorer(network="convet3")}, "did you mean 'convnet3'"),
        ({"scorer": Scorer(network="convnet5")}, "takes images of 32 px or more"),
        ({"scorer": Scorer(weights="nowhere.safetensors")}, r"prune\.scorer\.weights: .*nowhere"),
        ({"coreset": "nowhere.parquet"}, r"prune\.coreset: there is no file nowhere"),
    ],
)
def test_what_a_recipe_names_wrongly_is_found_before_anything_is_loaded(keys, message):
    with pytest.raises(InputError, match=message):
        check_prune(Prune(keep=0.5, **keys), Data())


def test_a_scorer_that_is_not_used_is_not_checked():
    check_prune(Prune(keep=1, scorer=Scorer(network="unknown")), Data())
    check_prune(Prune(keep=0.5, score="random", scorer=Scorer(network="unknown")), Data())
