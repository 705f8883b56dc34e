import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentdc import config, io
from latentdc.distill import main as distill
from latentdc.experts.__main__ import main
from latentdc.experts.files import experts_folder
from latentdc.recipe import Recipe
from latentdc.sweep.__main__ import main as sweep
from tests.methods.command import contents

RECIPE = """
data: {source: digits, resolution: 8}
prior: {kind: pixel}
objective:
  {kind: mtt, network: convnet3@4, trajectory: {syn_steps: 2, expert_epochs: 1, max_start_epoch: 1}}
experts: {count: 2, epochs: 1}
distill: {steps: 2, lr_z: 1.0}
evaluate: {rows: []}
threads: 1
"""
FOLDER = Path("mine")
HERE = f"objective.trajectory.experts={FOLDER}"


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    Path("toy.yaml").write_text(RECIPE)


def refused(capsys, command, *overrides: str) -> str:
    """The one line with which a command ends under code 2, having written nothing."""
    before = contents(Path("."))
    with pytest.raises(SystemExit) as stop:
        command(["toy.yaml", *overrides])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.count("latentdc: error") == 1, told
    assert contents(Path(".")) == before
    return told.splitlines()[-1]


def load(*overrides: str) -> Recipe:
    return config.load(Recipe, Path("toy.yaml"), overrides)


def folder_of(recipe: Recipe) -> Path:
    return experts_folder(recipe.asked_experts)


@pytest.mark.smoke
def test_a_run_follows_the_experts_that_the_command_trained_and_their_core_set(capsys):
    main(["toy.yaml"])
    folder = folder_of(load())
    assert f"experts: {folder}" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "coreset.parquet", "expert-00000.safetensors", "expert-00001.safetensors", "experts.json",
        "metrics.jsonl",
    ]  # fmt: skip
    kept = contents(folder)
    main(["toy.yaml"])
    assert contents(folder) == kept
    distill(["toy.yaml"])
    lines = (Path("runs/toy") / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["learned_lr"] > 0
    assert (Path("runs/toy") / "coreset.parquet").read_bytes() == kept["coreset.parquet"]


def test_a_changed_byte_of_an_expert_is_refused_and_trained_away(capsys):
    main(["toy.yaml"])
    path = folder_of(load()) / "expert-00001.safetensors"
    content = path.read_bytes()
    for at in (9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        capsys.readouterr()
        for command, more in ((distill, ()), (main, ()), (main, ("experts.count=3",))):
            told = refused(capsys, command, *more)
            assert "expert-00001.safetensors is damaged" in told and "remove it, and train" in told
    path.unlink()
    main(["toy.yaml"])
    assert path.read_bytes() == content


def test_the_cells_of_a_sweep_read_the_files_of_their_experts_once(monkeypatch):
    main(["toy.yaml"])
    Path("two.yaml").write_text(
        "{recipe: toy.yaml, axes: {rate: {low: [distill.lr_z=0.1], high: [distill.lr_z=1.0]}}}"
    )
    read, load_tensors = [], io.load_tensors

    def counted(path, **options):
        read.append(path)
        return load_tensors(path, **options)

    monkeypatch.setattr(io, "load_tensors", counted)
    sweep(["two.yaml"])
    files = [path.name for path in read if path.name.startswith("expert-")]
    assert sorted(files) == ["expert-00000.safetensors", "expert-00001.safetensors"]


@pytest.mark.parametrize("other", ["objective.network=convnet3@8", "experts.epochs=2"])
def test_an_expert_of_another_network_or_length_is_refused_before_a_step(capsys, other):
    main(["toy.yaml", HERE])
    main(["toy.yaml", "objective.trajectory.experts=other", other])
    other_file = Path("other/expert-00001.safetensors")
    (FOLDER / other_file.name).write_bytes(other_file.read_bytes())
    capsys.readouterr()
    told = refused(capsys, distill, HERE)
    assert "expert-00001.safetensors is damaged (it is no convnet3@4 of 1 epoch for 10" in told


def test_experts_of_other_classes_are_told_as_such_and_not_as_damaged(capsys):
    main(["toy.yaml", HERE, "data.classes=[0,1,2]"])
    capsys.readouterr()
    told = refused(capsys, distill, HERE)
    assert "the experts in mine were trained with class_names ['0', '1', '2'], and this" in told


def test_a_damaged_manifest_of_experts_is_told_in_one_line(capsys):
    main(["toy.yaml", "experts.count=1"])
    manifest = folder_of(load()) / "experts.json"
    capsys.readouterr()
    for content in ("[]", "null", "7", "[" * 9000, '"text"', "{", "\x00"):
        manifest.write_text(content)
        for command in (main, distill):
            assert "experts.json is damaged" in refused(capsys, command)
    manifest.unlink()
    for command in (main, distill):
        assert "has experts and no experts.json" in refused(capsys, command, "experts.count=1")


def test_a_core_set_of_experts_that_is_gone_is_told_as_missing(capsys):
    main(["toy.yaml", HERE])
    (FOLDER / "coreset.parquet").unlink()
    capsys.readouterr()
    told = refused(capsys, distill, HERE)
    assert "cannot read the core set mine/coreset.parquet: there is no such file" in told


def test_missing_experts_are_named_with_the_command_that_makes_them(capsys):
    told = refused(capsys, distill)
    assert "2 of the 2 experts of this recipe are missing in runs/experts/" in told
    assert "`latentdc experts RECIPE` with the same overrides trains them" in told
    main(["toy.yaml", "experts.count=1"])
    capsys.readouterr()
    assert "1 of the 2 experts" in refused(capsys, distill)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective.network=convnet3@8", "network 'convnet3@4', and this recipe has 'convnet3@8'"),
        ("experts.lr=0.02", r"lr 0.01, and this recipe has 0.02"),
        ("prune.keep=0.5", "pruning {}, and this recipe has {'keep': 0.5}"),
        ("data.std=[0.5,0.5,0.5]", "normalization"),
        ("data.zca=true", "normalization"),
    ],
)
def test_experts_of_another_making_are_refused(capsys, override, told):
    main(["toy.yaml", HERE])
    if override == "data.zca=true":  # whose matrix goes into the cache
        main(["toy.yaml", override])
    capsys.readouterr()
    for command in (distill, main):
        line = refused(capsys, command, HERE, override)
        assert f"the experts in {FOLDER} were trained with {told}" in line


def test_experts_of_another_core_set_are_refused(capsys):
    main(["toy.yaml", HERE, "prune.keep=0.5", "prune.score=random"])
    main(["toy.yaml", "prune.keep=0.5", "prune.score=random", "seed=1"])
    other = folder_of(load("prune.keep=0.5", "prune.score=random", "seed=1"))
    capsys.readouterr()
    line = refused(capsys, distill, HERE, f"prune.coreset={other / 'coreset.parquet'}")
    assert f"the experts in {FOLDER} were trained with coreset" in line


def test_a_core_set_that_was_given_has_experts_of_its_own(capsys):
    pruned = ["prune.keep=0.5", "prune.score=random"]
    main(["toy.yaml", *pruned, "experts.count=1"])
    Path("given.parquet").write_bytes((folder_of(load(*pruned)) / "coreset.parquet").read_bytes())
    given = "prune.coreset=given.parquet"
    main(["toy.yaml", given])
    folder = folder_of(load(given))
    assert folder not in (folder_of(load()), folder_of(load(*pruned)))
    distill(["toy.yaml", given, "output=given"])
    capsys.readouterr()
    line = refused(capsys, distill, f"objective.trajectory.experts={folder}", "prune.keep=0.6")
    assert f"the experts in {folder} were trained with pruning {{'coreset': '" in line
    assert "and this recipe has {'keep': 0.6}" in line


def test_training_the_rest_forgets_nothing_of_the_first_experts(capsys):
    pruned = ["prune.keep=0.5", "prune.score=random"]
    main(["toy.yaml", HERE, *pruned, "experts.count=1"])
    main(["toy.yaml", HERE, f"prune.coreset={FOLDER / 'coreset.parquet'}"])
    facts = json.loads((FOLDER / "experts.json").read_text())
    assert facts["pruning"] == {"keep": 0.5, "score": "random"} and facts["precision"] == "no"
    distill(["toy.yaml", HERE, *pruned])


def test_a_folder_that_was_begun_in_another_precision_is_not_filled_up(capsys):
    main(["toy.yaml", HERE, "experts.count=1"])
    path = FOLDER / "experts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "precision": "bf16"}))
    capsys.readouterr()
    line = refused(capsys, main, HERE)
    assert "were trained with precision 'bf16', and this recipe has 'no'" in line


def test_a_dry_run_tells_work_and_bytes_and_writes_nothing(capsys):
    main(["toy.yaml", "--dry-run"])
    told = capsys.readouterr().out
    assert "2 of 2 experts" in told and "2 of convnet3@4 in 1 epoch " in told
    assert "7.71 kB of experts" in told  # 482 weights, twice each
    assert sorted(Path(".").iterdir()) == [Path("toy.yaml")]


def test_an_objective_without_experts_is_told_so(capsys):
    assert "objective.kind=dm follows no experts" in refused(capsys, main, "objective.kind=dm")


def test_experts_are_no_networks_of_vectors(capsys):
    assert "mlp is a network of vectors" in refused(capsys, main, "objective.network=mlp")


def test_a_place_that_cannot_be_a_folder_is_refused(capsys):
    line = refused(capsys, main, "objective.trajectory.experts=toy.yaml/experts")
    assert "cannot write to toy.yaml/experts; name another folder" in line
    line = refused(capsys, distill, "objective.trajectory.experts=toy.yaml")
    assert "2 of the 2 experts of this recipe are missing in toy.yaml" in line


def test_recipes_share_experts_where_these_do_not_depend_on_what_differs():
    same = folder_of(load())
    for override in ("prior.clamp=false", "ipc=5", "experts.count=9", "data.cache=x",
                     "objective.trajectory.syn_steps=7"):  # fmt: skip
        assert folder_of(load(override)) == same
    for override in ("objective.network=convnet3", "seed=1", "prune.keep=0.5", "data.zca=true",
                     "experts.epochs=3", "experts.augment=null"):  # fmt: skip
        assert folder_of(load(override)) != same


def test_help_and_refusals_do_not_import_torch():
    code = (
        "import sys\n"
        "from latentdc.experts.__main__ import main\n"
        "try:\n    main(['toy.yaml', 'objective.kind=dm'])\n"
        "except SystemExit as end:\n    assert end.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True,
                   env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
