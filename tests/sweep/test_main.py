import json
import re
import shutil
from dataclasses import make_dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
import yaml
from filelock import FileLock, Timeout
from PIL import Image

from latentdc import Data, SyntheticSet, config, distill, open_dataset, prune_dataset
from latentdc.errors import InputError
from latentdc.io import write_json
from latentdc.prune import score as module
from latentdc.prune.score_table import ScoreTable
from latentdc.ranks import warn
from latentdc.recipe import Evaluate, Prune, Recipe
from latentdc.results.means import percent, plus_minus
from latentdc.results.result import Result, load
from latentdc.run_folder import claim_folder
from latentdc.sweep import run as sweep_run
from latentdc.sweep.__main__ import main

SWEEP = """
recipe: digits_ipc1
overrides:
  - data.resolution=8
  - prior.kind=pixel
  - prior.weights=null
  - prune.scorer.network=convnet3@8
  - prune.scorer.epochs=3
  - prune.scorer.lr=0.2
  - prune.scorer.batch=64
  - distill.steps=2
  - objective.network=convnet3@4
  - objective.batch=4
  - evaluate.students=[convnet3@4]
  - evaluate.steps=2
  - evaluate.seeds=2
  - evaluate.rows=[distilled,random]
  - threads=1
axes:
  real:
    easy: []
    hard: [prune.order=hard]
    herding: [prune.score=herding]
  kept:
    100 %: [prune.keep=1.0]
    50 %: [prune.keep=0.5]
skip:
  - {real: [herding], kept: [100 %]}
"""
OUT = Path("runs/mine")
RUNS = {
    "easy, 100 % and hard, 100 %": "easy/100",
    "easy, 50 %": "easy/50",
    "hard, 50 %": "hard/50",
    "herding, 50 %": "herding/50",
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory):
    """A folder in which a sweep of five points, four runs, was carried out; and its scorings."""
    folder, scored = tmp_path_factory.mktemp("sweep"), []
    (folder / "mine.yaml").write_text(SWEEP)
    original = module.compute_scores

    def counted(scoring, *given, **named) -> ScoreTable:
        scored.append(scoring)
        return original(scoring, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(module, "compute_scores", counted)
        main(["mine.yaml"])
    return folder, scored


def written(folder: Path) -> dict[Path, int]:
    """When each file of the runs was written."""
    files = [path for path in folder.glob("runs/mine/*/**/*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files if path.suffix != ".lock"}


def found(folder: Path) -> list[Result]:
    return load(folder / OUT / "results.json")


def claiming(done: list[Recipe], recipe: Recipe, title: str, folder: Path, **_) -> None:
    """In the place of a run, of which it leaves the recipe alone."""
    done.append(recipe)
    claim_folder(recipe, folder)


@pytest.mark.smoke
def test_every_point_has_the_accuracies_of_its_own_run(swept):
    results = found(swept[0])
    for run, folder in RUNS.items():
        own = [result for result in results if result.run == run]
        assert min(result.seconds for result in own) > 0
        alone = [replace(result, run=None, seconds=None) for result in own]
        assert alone == load(swept[0] / OUT / folder / "results.json")
    assert {result.run for result in results} == RUNS.keys()
    table = (swept[0] / OUT / "table.md").read_text()
    page = (swept[0] / OUT / "report.html").read_text()
    assert f"<li>{len(RUNS)} synthetic sets of" in page
    assert "minus random" in page and "latentdc sweep mine.yaml" in page
    assert table.startswith("| real | 100 % | 50 % |") and "| herding |  | " in table


def test_one_scoring_serves_all_cells_and_rules(swept):
    folder, scored = swept
    assert [set(plan.columns) for plan in scored] == [{"loss", "herding"}]
    cores = [folder / OUT / real / "50/coreset.parquet" for real in ("easy", "hard", "herding")]
    assert len({core.read_bytes() for core in cores}) == 3


def test_started_again_it_runs_nothing(swept, monkeypatch):
    monkeypatch.chdir(swept[0])
    monkeypatch.setattr(sweep_run, "run", None)
    before = written(swept[0])
    main(["mine.yaml"])
    assert written(swept[0]) == before


def test_cells_are_compared_with_one_and_pooled_over_repetitions(swept, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sweep_run, "run", None)  # the same cells
    (folder / "paired.yaml").write_text(f"{SWEEP}over: kept\nagainst: {{real: easy}}\n")
    before = (OUT / "table.md").read_text()
    main(["paired.yaml", f"output={OUT}"])
    table = (OUT / "table.md").read_text()
    (OUT / "table.md").write_text(before)
    page = (OUT / "report.html").read_text()
    for said in ("3 synthetic sets", "minus easy (ipc 1)", '<td data-key="herding">'):
        assert said in page
    own = {one.run: one.accuracies for one in found(folder) if one.set == "distilled"}
    same = own["easy, 100 % and hard, 100 %"]
    easy, hard, herding = (own[f"{real}, 50 %"] for real in ("easy", "hard", "herding"))
    assert re.search(rf"^\| easy \| 1 .*\| {percent([*same, *easy])} \|$", table, re.M)
    pairs = [0.0, 0.0, *(a - b for a, b in zip(hard, easy, strict=True))]
    told = plus_minus(fmean(pairs), stdev(pairs) / 2, "+")
    assert f"| hard | 1 | {told} |" in table
    pairs = [a - b for a, b in zip(herding, easy, strict=True)]  # of one repetition
    told = plus_minus(fmean(pairs), stdev(pairs) / 2**0.5, "+")
    assert f"| herding | 1 | {told} (2 seeds) |" in table
    assert "| real | matching |" in table and "random" in table and "not finished" not in table
    drawn = next(one.accuracies for one in found(folder) if one.set == "random")
    assert re.search(rf"^\| random \| 1 .*\| {re.escape(percent(drawn))} \|$", table, re.M)
    assert "mean ± sample std over 2 or 4 seeds" in table  # the same two draws beside both
    pairs = [fmean(drawn[seed] - one[seed] for one in (same, easy)) for seed in (0, 1)]
    told = plus_minus(fmean(pairs), stdev(pairs) / 2**0.5, "+")
    assert f"| random | 1 | {told} (2 seeds) |" in table
    (folder / "pooled.yaml").write_text(f"{SWEEP}over: kept\n")
    main(["pooled.yaml", f"output={OUT}"])
    table = (OUT / "table.md").read_text()
    (OUT / "table.md").write_text(before)
    assert re.search(rf"^\| easy \| .*\| {percent([*same, *easy])} \|$", table, re.M)
    assert re.search(rf"^\| random \| .*\| {re.escape(percent(drawn))} \|$", table, re.M)


DAMAGED = ["x", "{}", "[]", '{"seconds": null}', '{"seconds": NaN}', '{"seconds": -1}', "[" * 9000]


def test_damaged_metrics_of_a_cell_leave_out_its_time_alone(swept, monkeypatch, capsys):
    monkeypatch.chdir(swept[0])
    monkeypatch.setattr(sweep_run, "run", None)
    before = found(swept[0])
    contents = {run: (OUT / at / "metrics.jsonl").read_bytes() for run, at in RUNS.items()}
    for lines in (DAMAGED[:4], DAMAGED[4:], []):  # of as many cells at once, then of none
        damaged = dict(zip(RUNS, lines, strict=False))
        for run, content in contents.items():
            line = f"{damaged[run]}\n".encode() if run in damaged else content
            (OUT / RUNS[run] / "metrics.jsonl").write_bytes(line)
        warn.cache_clear()
        main(["mine.yaml"])
        assert capsys.readouterr().err.count("metrics.jsonl is damaged") == len(lines)
        assert found(swept[0]) == [
            replace(result, seconds=None) if result.run in damaged else result for result in before
        ]


def test_a_cell_without_its_results_is_scored_again_and_edited_ones_are_refused(
    swept, monkeypatch, capsys
):
    monkeypatch.chdir(swept[0])
    path, before = OUT / "easy/50/results.json", found(swept[0])
    content = path.read_text()
    path.unlink()
    main(["mine.yaml"])
    assert found(swept[0]) == before and path.read_text() == content
    edited = json.loads(content)
    edited["results"][0]["accuracies"][0] = 0.99
    path.write_text(json.dumps(edited))
    monkeypatch.setattr(sweep_run, "check_cells", None)  # before a missing cell is looked at
    with pytest.raises(SystemExit):
        main(["mine.yaml"])
    assert "and that of its values" in capsys.readouterr().err.splitlines()[-1]
    path.write_text(content)


def test_it_grows_by_what_is_missing_alone(swept, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    monkeypatch.setattr(module, "compute_scores", None)  # the scores are there
    grown = SWEEP.replace("    50 %:", "    25 %: [prune.keep=0.25]\n    50 %:")
    (folder / "mine.yaml").write_text(grown)
    before = written(folder)
    main(["mine.yaml", "--only", "real=easy,hard", "--only", "kept=25,50"])
    after = written(folder)
    assert {path: after[path] for path in before} == before
    new = {path.relative_to(folder / OUT).parts[:2] for path in after.keys() - before.keys()}
    assert {part for part in new if part[0] != "trainings"} == {("easy", "25"), ("hard", "25")}
    assert "1 of 8 cells are not finished." in (folder / OUT / "table.md").read_text()


def test_a_cell_that_another_command_holds_is_left_to_it_and_waited_for(swept, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    lock, waited = FileLock(folder / OUT / "hard/.50.lock"), []
    mark = folder / OUT / "hard/50/cell.json"
    content = mark.read_text()
    mark.unlink()

    def finish(self, timeout=None, **given):
        waited.append(timeout)
        if Path(self.lock_file).name == ".50.lock" and timeout == 0:
            raise Timeout(self.lock_file)
        if Path(self.lock_file).name == ".50.lock":
            mark.write_text(content)  # the other command ends
        return original(self, timeout=timeout, **given)

    original = type(lock).acquire
    monkeypatch.setattr(FileLock, "acquire", finish)
    monkeypatch.setattr(sweep_run, "run", None)
    main(["mine.yaml", "--only", "real=hard", "--only", "kept=50"])
    assert waited == [0, -1]


def test_results_of_a_recipe_that_has_changed_are_not_taken(swept, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    again = []
    monkeypatch.setattr(sweep_run, "run", partial(claiming, again))
    main(["mine.yaml", "--only", "real=hard", "--only", "kept=50", "evaluate.seeds=3"])
    assert [recipe.evaluate.seeds for recipe in again] == [3]


def test_a_cell_that_was_evaluated_by_other_settings_since_is_carried_out_again(
    swept, tmp_path, monkeypatch
):
    shutil.copytree(swept[0] / OUT, tmp_path / OUT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SWEEP)
    words = [*yaml.safe_load(SWEEP)["overrides"], "prune.order=hard", "prune.keep=0.5"]
    distill.main(["digits_ipc1", *words, f"output={OUT}/hard/50", "evaluate.seeds=1"])
    again = []
    monkeypatch.setattr(sweep_run, "run", partial(claiming, again))
    main(["mine.yaml"])
    assert [recipe.evaluate.seeds for recipe in again] == [2]


def test_another_base_is_refused_in_the_same_folder(swept, monkeypatch, capsys):
    monkeypatch.chdir(swept[0])
    with pytest.raises(SystemExit) as stop:
        main(["mine.yaml", "distill.steps=3"])
    assert stop.value.code == 2
    assert "holds a run of another recipe (distill.steps is 3 and was 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("kept=30 %", "--only: kept has no '30 %'"),
        ("keep=50 %", "--only: there is no axis 'keep'; did you mean 'kept'"),
    ],
)
def test_names_that_the_sweep_does_not_have_are_refused(
    only, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SWEEP)
    with pytest.raises(SystemExit) as stop:
        main(["mine.yaml", "--only", only])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_names_of_one_axis_add_up_and_may_hold_any_character(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    axes = "axes: {a=b: {'x,y': [ipc=1], z: [ipc=2], w: [ipc=3]}}"
    (tmp_path / "mine.yaml").write_text(f"recipe: digits_ipc1\n{axes}\n")
    main(["mine.yaml", "--print-config", "--only", "a=b=x,y", "--only", "a=b=w"])
    assert capsys.readouterr().out == "x,y: ipc=1\nw: ipc=3\n2 cells\n"


def test_what_it_would_run_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SWEEP)
    main(["mine.yaml", "--print-config", "--only", "real=hard"])
    printed = capsys.readouterr().out
    assert "hard/50 %: prune.order=hard prune.keep=0.5" in printed and "2 cells" in printed
    assert not Path("runs").exists()


def test_another_recipe_may_be_varied_in_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SWEEP)
    (tmp_path / "other.yaml").write_text("ipc: 3\nseed: 7\n")
    asked = []
    monkeypatch.setattr(sweep_run, "carry_out", lambda *given: asked.append(given))
    main(["mine.yaml", "--recipe", "other.yaml", "--only", "real=hard"])
    ((wanted, cells, name, folder, words),) = asked
    assert {recipe.seed for recipe in cells.values()} == {7} and len(wanted) == 2
    assert (name, folder) == ("mine_other", Path("runs/mine_other"))
    assert words["hard", "50 %"][0] == "other.yaml"
    assert words["hard", "50 %"][-2:] == ["prune.order=hard", "prune.keep=0.5"]


def test_a_recipe_stays_itself_when_keys_are_added_at_their_defaults():
    def later(kind, **added):
        fields = [(name, type(value), value) for name, value in added.items()]
        return make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True)

    known = sweep_run.identity(Recipe(ipc=2))
    prune = later(Prune, hue=0.5)
    newer = later(Recipe, prune=prune(), extra=3)
    assert sweep_run.identity(newer(ipc=2)) == known
    for changes in (
        {"extra": 4},
        {"prune": prune(hue=0.1)},
        {"prune": prune(keep=0.5)},
        {"ipc": 3},
    ):
        assert sweep_run.identity(newer(**{"ipc": 2, **changes})) != known
    together = Recipe(ipc=2, evaluate=Evaluate(together=2))
    assert sweep_run.identity(together) == known


def test_a_finished_cell_whose_protocol_was_moved_says_so(tmp_path):
    protocol = tmp_path / "mine.yaml"
    protocol.write_text("{name: mine, students: [convnet3@4], steps: 2}")
    recipe = Recipe(evaluate=Evaluate(protocol=str(protocol), rows=[]))
    config.save(recipe, tmp_path / config.RECIPE)
    write_json(tmp_path / sweep_run.MARK, {"recipe": sweep_run.identity(recipe)})
    assert sweep_run.is_finished(recipe, tmp_path)
    protocol.rename(tmp_path / "elsewhere.yaml")
    with pytest.raises(InputError, match=r"^no file .*mine\.yaml") as error:
        sweep_run.is_finished(recipe, tmp_path)
    assert "remove" not in str(error.value)


def _core_set(place: Path, version: int) -> None:
    train = open_dataset(Data(resolution=16), "train")
    prune_dataset(train, Prune(score="random", keep=0.1), seed=version).save(place)


def _pool(place: Path, version: int) -> None:
    train = open_dataset(Data(resolution=16), "train")
    firsts = [int(np.flatnonzero(train.labels == label)[version]) for label in range(10)]
    SyntheticSet.from_real(train.select(np.array(firsts))).save_pretrained(place)


def _prior(place: Path, version: int) -> None:
    shutil.copytree(config.shipped_folder("assets/priors/digits"), place)
    settings = place / "scheduler/scheduler_config.json"
    known = json.loads(settings.read_text())
    settings.write_text(json.dumps({**known, "beta_end": known["beta_end"] * (1 + version)}))


def _images(place: Path, version: int) -> None:
    colors = np.random.default_rng(version)
    for split, name in product(("train", "test"), ("one", "two")):
        (place / split / name).mkdir(parents=True)
        for number in range(2):
            image = colors.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(place / split / name / f"{number}.png")


@pytest.mark.parametrize(
    ("make", "named", "message"),
    [
        (_core_set, ["prune.coreset=place"], "other contents of prune.coreset"),
        (_pool, ["selection.pool=place"], "other contents of selection.pool"),
        (
            _prior,
            ["method.kind=sampling", "prior.weights=place", "prior.steps=2"],
            "other contents of prior.weights",
        ),
        (_images, ["data.source=place", "prune.score=random"], "other training images"),
    ],
)
def test_cells_of_other_contents_under_one_path_are_not_laid_side_by_side(
    tmp_path, monkeypatch, capsys, make, named, message
):
    monkeypatch.chdir(tmp_path)
    given = ["data.resolution=16", "method.kind=selection", "prune.keep=1.0", "evaluate.rows=[]"]
    sweep = {"recipe": "digits_ipc1", "overrides": [*given, "threads=1", *named]}
    sweep["axes"] = {"cell": {"a": [], "b": ["seed=1"]}}
    Path("paths.yaml").write_text(yaml.safe_dump(sweep))
    for version in (0, 1):
        make(tmp_path / f"version{version}", version)
    shutil.move("version0", "place")
    main(["paths.yaml", "--only", "cell=a"])
    shutil.move("place", "version0")
    shutil.move("version1", "place")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["paths.yaml"])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and message in told and "runs/paths/a" in told
    assert not Path("runs/paths/b").exists()
    shutil.move("place", "version1")
    shutil.move("version0", "place")
    if Path("place").is_dir() and make is not _images:
        Path("place/README.md").write_text("what people wrote since")
        Path("place/.DS_Store").write_text("")
    main(["paths.yaml"])
    assert Path("runs/paths/b/synthetic").is_dir()
