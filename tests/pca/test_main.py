"""The command, on digits."""

import json
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

from latentdc.data.open import open_splits
from latentdc.evaluate.__main__ import main as evaluate
from latentdc.pca.__main__ import main
from latentdc.pca.mosaics import shaped
from latentdc.pca.originals import whole_pictures
from latentdc.prune.foreign import read_scores
from latentdc.recipe import Data
from latentdc.synthetic import SyntheticSet
from tests.pca.calls import CALL, SMALL
from tests.processes import run_two


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which all variants ran once."""
    folder = tmp_path_factory.mktemp("pca")
    main([*CALL, "--variants", "all", f"output={folder / 'run'}"])
    return folder


@pytest.mark.smoke
def test_one_table_holds_the_ablation_rded_and_random_images(made):
    rows = json.loads((made / "run/evaluation.json").read_text())["results"]
    assert [row["set"] for row in rows] == ["P", "P+C", "RDED", "random", "P+C+A", "RDED+A"]
    assert len({row["protocol_hash"] for row in rows}) == 2
    assert (made / "run/table.md").read_text().count("\n| ") == 7


def test_the_mosaics_hold_the_easiest_images_of_each_class_whole(made):
    train, _ = open_splits(Data(resolution=16))
    mosaics = SyntheticSet.from_pretrained(made / "run")
    assert mosaics.grid == 2 and mosaics.provenance["combine"]["fit"] == "squash"
    table = read_scores(made / "run/scores.parquet", train, "el2n")
    scores = table.fitted(train).column("el2n")
    picture = whole_pictures(Data(resolution=16), train)
    for label, image in zip(mosaics.labels.tolist(), mosaics.images, strict=True):
        members = train.members(label)
        easiest = members[scores[members].argsort(stable=True)[:4]].tolist()
        cells = [image[:, y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]
        for row, cell in zip(easiest, cells, strict=True):
            whole = shaped(picture(row), (8, 8), "squash")
            shown = Image.fromarray(cell.permute(1, 2, 0).contiguous().numpy())
            assert shown.tobytes() == whole.tobytes()
    pruned = SyntheticSet.from_pretrained(made / "run/pruned")
    first = [train.members(k)[scores[train.members(k)].argmin()] for k in range(10)]
    assert pruned.grid == 1 and torch.equal(pruned.images, train.images[torch.stack(first)])


def test_started_again_it_trains_and_makes_nothing(made):
    def written():
        return {p: p.stat().st_mtime_ns for p in (made / "run").rglob("*.*") if "rows" in str(p)}

    sets = [(made / "run" / name / "provenance.json") for name in ("pruned", "synthetic", "rded")]
    before, older = written(), [path.stat().st_mtime_ns for path in sets]
    main([*CALL, "--variants", "all", f"output={made / 'run'}"])
    assert written() == before and [path.stat().st_mtime_ns for path in sets] == older


@pytest.mark.slow
def test_several_sizes_and_protocols_stand_in_one_table_that_shares_the_scores(tmp_path, capsys):
    call = [*CALL, "--variants", "P,P+C+A,RDED", f"output={tmp_path}"]
    call = [word for word in call if "steps" not in word]
    soft = "protocol.rdc-soft.labels.teachers=[{network: convnet3@4, epochs: 1, batch: 32}]"
    call += ["protocol=[rdc-hard,rdc-soft]", "protocol.epochs=2", soft, "--ipcs", "1,2"]
    main(call)
    printed = capsys.readouterr().out
    lines = re.findall(r"^(\S+) +(\d) +(rdc-\w+) with .*\d$", printed, re.M)
    names = ["P", "RDED", "random", "P+C+A"]
    assert lines == [
        (name, ipc, protocol)
        for ipc in "12"
        for protocol in ("rdc-hard", "rdc-soft")
        for name in names
    ]
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["scores.parquet"]
    for ipc in (1, 2):
        assert len(SyntheticSet.from_pretrained(tmp_path / f"ipc{ipc}/rded").labels) == 10 * ipc
    rows = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    main([*call[:-1], "2"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()} == rows


def test_single_crops_of_rded_are_no_mosaics(tmp_path):
    main([*CALL, "--variants", "RDED", "rded.mosaic=false", f"output={tmp_path}"])
    rded = SyntheticSet.from_pretrained(tmp_path / "rded")
    assert rded.grid == 1 and rded.provenance["teacher_accuracy_on_crops"] > 0.1


@pytest.mark.slow
def test_two_processes_make_the_same_sets_and_rows_as_one(made, tmp_path):
    run_two("tests.pca.two_processes", tmp_path)
    for name in ("pruned", "synthetic", "rded"):
        alone, both = (SyntheticSet.from_pretrained(f / "run" / name) for f in (made, tmp_path))
        assert torch.equal(alone.images, both.images) and alone.provenance == both.provenance

    def rows(folder):
        return {p.name: p.read_bytes() for p in (folder / "run/rows").glob("*.json")}

    assert rows(made) == rows(tmp_path) and len(rows(made)) == 6


def test_the_sets_can_be_evaluated_and_no_other_grid_is_taken(made, capsys):
    call = [str(made / "run/rded"), *SMALL, "evaluate.rows=[distilled,random]", "protocol=pca"]
    evaluate([*call, "--output", str(made / "again")])
    assert re.search(
        r"distilled +[\d,]+ +\d+\.\d\nrandom +[\d,]+ +\d+\.\d", capsys.readouterr().out
    )
    with pytest.raises(SystemExit) as end:
        evaluate([*call, "protocol.views.cells=3", "--output", str(made / "again")])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert "mosaics of 2 x 2 and the protocol crops in cells of 3 x 3" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["combine.gird=2"], "did you mean 'combine.grid'"),
        (["ipc=40"], "prune.count keeps 160 images of each class"),
        (["--variants", "Q"], "unknown variant 'Q'"),
        (["evaluate.protocol=quick"], "has no views.crop"),
        (["rded.pool=2", "--variants", "RDED"], "its pool has 2"),
        (["combine.grid=3"], "holds a run of another recipe"),
    ],
)
def test_wrong_calls_end_with_one_line(made, tmp_path, capsys, arguments, message):
    output = made / "run" if arguments == ["combine.grid=3"] else tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main([*CALL, *arguments, f"output={output}"])
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["pca_digits", "--print-config"]])
def test_help_and_config_come_without_torch(arguments):
    code = (
        "import sys\nfrom latentdc.pca.__main__ import main\n"
        f"try: main({arguments!r})\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
