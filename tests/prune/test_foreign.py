import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.io import file_hash
from latentdc.prune.__main__ import main as prune
from latentdc.prune.features import Features, read_features
from latentdc.prune.foreign import read_scores
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe import Data
from tests.prune.toys import colours

VALUES = [round(0.1 * i, 1) for i in range(12)]


def write(path, values):
    if path.suffix == ".json":
        path.write_text(json.dumps(values))
    elif path.suffix == ".npy":
        np.save(path, np.array(values))
    elif path.suffix == ".csv":
        columns = values if isinstance(values, dict) else {"anything": values}
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]))
    else:
        pq.write_table(pa.table({"el2n": values}), path)
    return path


def test_columns_that_are_named_by_rules_are_taken_by_their_names(tmp_path):
    table = read_scores(write(tmp_path / "s.parquet", VALUES), colours(), "loss")
    assert list(table.columns) == ["el2n"]
    with pytest.raises(InputError, match=r"no column 'loss', only el2n.*prune\.columns=\[loss\]"):
        table.column("loss")


PLACES = ["index", "Index", "INDEX", "idx", "id", "ID", "", "Unnamed: 0", "__index_level_0__"]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("column", ["aum", "score"])
def test_sorted_rows_find_their_images_by_whatever_the_place_is_called(tmp_path, name, column):
    path = write(tmp_path / "s.csv", {name: range(11, -1, -1), column: VALUES})
    found = read_scores(path, colours(), "aum").columns["aum"]
    torch.testing.assert_close(found, torch.tensor(VALUES[::-1]))
    write(path, {name: range(100, 112), column: VALUES})
    with pytest.raises(InputError, match="is not 0 to 11, each once"):
        read_scores(path, colours(), "aum")


def test_a_place_under_another_name_is_warned_of_and_a_rank_is_not(tmp_path, capsys):
    loss = np.cos(9 * np.array(VALUES))
    beside = {"rank": loss.argsort().argsort(), "size": range(36, 12, -2)}
    for places, warned in ((range(11, -1, -1), True), (range(1, 13), False)):
        given = {"loss": loss, "image_id": places} | beside
        read_scores(write(tmp_path / "s.csv", given), colours(), "loss")
        told = capsys.readouterr().err
        assert ("image_id counts the rows in another order" in told) == warned
        assert "rank counts" not in told and "size counts" not in told


def test_columns_are_known_in_any_case_and_stand_there_once(tmp_path):
    given = {"Loss": VALUES, "EL2N": VALUES, "Label": ["red", "blue"] * 6}
    table = read_scores(write(tmp_path / "s.csv", given), colours(), "loss")
    assert list(table.columns) == ["loss", "el2n"]
    with pytest.raises(InputError, match="label differs from colours train in 12 of 12 rows"):
        read_scores(
            write(tmp_path / "s.csv", given | {"Label": ["blue", "red"] * 6}), colours(), "loss"
        )
    for beside in ({"Loss": VALUES[::-1]}, {"Random": ["r"] * 12}, {"Hash": range(12)}):
        table = read_scores(write(tmp_path / "s.csv", {"loss": VALUES} | beside), colours(), "loss")
        assert list(table.columns) == ["loss"]  # the name as it is written here comes first
        assert table.columns["loss"].tolist() == pytest.approx(VALUES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (1 + np.arange(12) * 1e-12, "of 12 different scores in loss, single precision tells 1"),
        (np.arange(12) * 1e300, "11 of 12 scores in loss are not finite"),
    ],
)
def test_scores_that_single_precision_cannot_hold_are_refused(tmp_path, values, message):
    np.save(tmp_path / "s.npy", values)
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / "s.npy", colours(), "loss")


def test_labels_may_be_class_names_and_what_else_stands_beside_the_scores_is_passed_over(tmp_path):
    beside = {"label": ["red", "blue"] * 6, "path": [f"{i}.png" for i in range(12)]}
    table = read_scores(write(tmp_path / "s.csv", {"aum": VALUES} | beside), colours(), "aum")
    assert list(table.columns) == ["aum"]


def test_scores_of_ours_are_found_by_content_in_another_order(tmp_path):
    train = colours(20)
    ours = ScoreTable(
        train.hashes, train.labels, train.class_names, {"loss": torch.arange(20.0)}, train.name
    )
    np.save(tmp_path / "features.npy", np.arange(20, dtype=np.float16)[:, None])
    beside = file_hash(tmp_path / "features.npy")
    dataclasses.replace(ours, features_hash=beside).save(tmp_path / "scores.parquet")
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    table = read_scores(tmp_path / "scores.parquet", train.select(order), "loss")
    assert torch.equal(table.columns["loss"], order.float())
    (_, block), *_ = table.features.blocks()
    assert block[:, 0].tolist() == order.tolist()
    with pytest.raises(InputError, match="12 of the 12 images of colours train have no score"):
        read_scores(tmp_path / "scores.parquet", colours(12, seed=5), "loss")


def with_nan(values):
    return [*values[:3], float("nan"), *values[4:]]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("s.json", VALUES[:7], r"has 7 rows .* and colours train has 12 images"),
        ("s.npy", with_nan(VALUES), r"1 of 12 scores in loss are not finite; the first in row 3"),
        ("s.npy", [VALUES, VALUES], r"has shape \(2, 12\), not one per image"),
        ("s.json", {"loss": ["a"] * 12}, "loss is not a list of numbers"),
        ("s.json", {"one": VALUES, "two": VALUES}, "name the scores by a rule, such as 'loss'"),
        ("s.csv", {"loss": VALUES, "label": [0] * 12}, r"label differs .* in 6 of 12 rows"),
        ("s.csv", {"loss": VALUES, "hash": range(12)}, r"hash differs .* another data set"),
        ("s.csv", {"loss": VALUES, "index": [0] * 12}, "index is not 0 to 11, each once"),
        ("s.csv", {"loss": VALUES, "label": ["red"] * 12}, r"label differs .* in 6 of 12 rows"),
        ("s.csv", {"loss": VALUES, "label": ["up"] * 12}, r"label differs .* in 12 of 12 rows"),
        ("s.csv", {"loss": VALUES, "hash": ["aa"] * 12}, "hash is not a list of numbers"),
    ],
)
def test_scores_that_do_not_fit_are_refused_in_one_line(tmp_path, name, values, message):
    path = write(tmp_path / name, values)
    with pytest.raises(InputError, match=message):
        read_scores(path, colours(), "loss")


def test_features_of_another_length_or_kind_are_refused(tmp_path):
    for array, message in (
        (np.zeros((5, 3), np.float16), "features of 5 images and the data set has 12"),
        (np.zeros(12, np.float32), r"float32 of shape \(12,\); features are floats"),
        (np.zeros((12, 3), np.int64), "holds int64"),
        (np.full((12, 3), np.nan), "not finite"),
    ):
        np.save(tmp_path / "f.npy", array)
        with pytest.raises(InputError, match=message):
            read_features(tmp_path / "f.npy", 12)


def test_an_archive_in_the_name_of_an_array_is_refused(tmp_path):
    with (tmp_path / "f.npy").open("wb") as file:
        np.savez(file, features=np.zeros((12, 3), np.float32))
    with pytest.raises(InputError, match="cannot read the features"):
        read_features(tmp_path / "f.npy", 12)


def test_features_are_read_in_blocks_of_any_rows():
    array = np.arange(30, dtype=np.float16).reshape(10, 3)
    some = Features(array).select(torch.tensor([7, 2])).select(torch.tensor([1]))
    assert some.row(0).tolist() == [6, 7, 8] and len(some) == 1
    assert some.mean().tolist() == [6, 7, 8]


def lists(scores, folder):
    """The same scores as the files that others save."""
    made = {
        "list.json": lambda path: path.write_text(json.dumps(scores.tolist())),
        "by_id.json": lambda path: path.write_text(
            json.dumps({str(i): v for i, v in reversed(list(enumerate(scores.tolist())))})
        ),
        "marked.json": lambda path: path.write_text(
            json.dumps(scores.tolist()), encoding="utf-8-sig"
        ),
        "list.npy": lambda path: np.save(path, scores),
        "half.npy": lambda path: np.save(path, scores.astype(np.float16)),
        "list.npz": lambda path: np.savez(path, anything=scores),
        "named.npz": lambda path: np.savez(path, loss=scores, el2n=scores),
        "bare.csv": lambda path: path.write_text("\n".join(map(str, scores.tolist()))),
        "named.csv": lambda path: path.write_text("loss\n" + "\n".join(map(str, scores.tolist()))),
    }
    for name, write_file in made.items():
        write_file(folder / name)
    return [folder / name for name in made]


def test_lists_are_read_from_every_kind_of_file_and_their_order_is_said_to_be_taken_on_trust(
    tmp_path, capsys
):
    train = colours()
    for path in lists(np.array(VALUES), tmp_path):
        found = read_scores(path, train, "loss").columns["loss"]
        torch.testing.assert_close(found, torch.tensor(VALUES), rtol=1e-3, atol=0)
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1 and told[0].startswith(f"latentdc: note: {path.name} does not say")
        assert "the order of colours train is taken on trust" in told[0]


def test_an_order_that_hashes_or_mixed_labels_show_is_not_talked_about(tmp_path, capsys):
    train = colours()
    for column in ({"label": train.labels.tolist()}, {"hash": train.hashes.tolist()}):
        read_scores(write(tmp_path / "s.csv", {"loss": VALUES} | column), train, "loss")
        assert capsys.readouterr().err == ""
    order = train.labels.argsort(stable=True)
    sorted_by_class = train.select(order)
    labels = {"label": sorted_by_class.labels.tolist()}  # say nothing of the order inside a class
    read_scores(write(tmp_path / "s.csv", {"loss": VALUES} | labels), sorted_by_class, "loss")
    assert "taken on trust" in capsys.readouterr().err


def test_labels_may_be_classes_that_are_called_numbers(tmp_path):
    names = ("10", "9")
    given = {"loss": VALUES, "label": [10, 9] * 6}
    read_scores(write(tmp_path / "s.csv", given), colours(names=names), "loss")
    with pytest.raises(InputError, match="label differs"):
        given = {"loss": VALUES, "label": [9, 10] * 6}
        read_scores(write(tmp_path / "s.csv", given), colours(names=names), "loss")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toy.yaml").write_text(
        "data: {source: digits, resolution: 8}\nprior: {kind: pixel}\nthreads: 1\n"
        "prune: {count: 5, scorer: {network: convnet3@8, epochs: 4, lr: 0.2, batch: 64}}\n"
    )
    return tmp_path


def test_lists_in_data_set_order_do_not_warn_and_shuffled_ones_do(desk, capsys):
    prune(["toy.yaml", "output=scored"])
    train, _ = open_splits(Data(source="digits", resolution=8))
    table = pq.read_table("scored/scores.parquet").to_pandas()
    shuffle = np.random.default_rng(0).permutation(len(table))
    for rule in ("loss", "el2n", "aum", "forgetting", "entropy", "margin"):
        for name, order in (("right", slice(None)), ("shuffled", shuffle)):
            np.save("list.npy", table[rule].to_numpy()[order])
            capsys.readouterr()
            read_scores(Path("list.npy"), train, rule)
            told = capsys.readouterr().err
            assert told.count("taken on trust") == 1
            assert told.count("warning: the scores in") == (name == "shuffled"), told
            assert "depend no more on the class than shuffled ones" in told or name == "right"


def test_a_list_that_was_read_is_kept_by_content_and_fits_a_copy_in_another_order(desk, capsys):
    np.save("list.npy", np.arange(1437.0))
    prune(["toy.yaml", "prune.scores=list.npy", "output=run"])
    train, _ = open_splits(Data(source="digits", resolution=8))
    copy = train.select(torch.randperm(1437, generator=torch.Generator().manual_seed(0)))
    table = read_scores(Path("run/scores.parquet"), copy, "loss")
    assert torch.equal(table.fitted(train).columns["loss"], torch.arange(1437.0))
    capsys.readouterr()
    prune(["toy.yaml", "prune.scores=run/scores.parquet", "output=again"])
    assert "taken on trust" not in capsys.readouterr().err
    one, other = (Path(f"{run}/coreset.parquet").read_bytes() for run in ("run", "again"))
    assert one == other


def hostile(name, content):
    def save(path):
        if isinstance(content, (bytes, str)):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        elif path.suffix == ".npz":
            np.savez(path, **content)
        elif path.suffix == ".npy":
            np.save(path, content)
        elif path.suffix == ".parquet":
            pq.write_table(content, path)
        else:
            path.write_text(json.dumps(content))

    return pytest.param(name, save, id=name)


NUMBERS = [0.5] * 1437


@pytest.mark.parametrize(
    ("name", "save"),
    [
        hostile("complex.npy", np.array(NUMBERS, dtype=np.complex64)),
        hostile("complex.npz", {"loss": np.array(NUMBERS, dtype=np.complex128)}),
        hostile("nan.npy", np.array([*NUMBERS[1:], np.nan])),
        hostile("inf.json", "[" + "Infinity," * 1436 + "1]"),
        hostile("huge.json", [*NUMBERS[1:], 10**400]),
        hostile("large.npy", np.array([*NUMBERS[1:], 1e300])),
        hostile("short.json", NUMBERS[1:]),
        hostile("empty.json", []),
        hostile("nothing.json", {}),
        hostile("number.json", 3),
        hostile("null.json", None),
        hostile("nulls.json", [*NUMBERS[1:], None]),
        hostile("strings.json", ["0.5"] * 1437),
        hostile("strings.npy", np.array(["0.5"] * 1437)),
        hostile("words.csv", "loss\n" + "up\n" * 1437),
        hostile("nested.json", [[0.5]] * 1437),
        hostile("ragged.json", [*([[0.5]] * 1436), [0.5, 1]]),
        hostile("records.json", [{"loss": 0.5}] * 1437),
        hostile("twice.json", "{" + '"0": 1, ' * 1436 + '"1": 2}'),
        hostile("two_columns.json", '{"loss": [1], "loss": [2]}'),
        hostile("ids.json", {str(i + 1): 0.5 for i in range(1437)}),
        hostile("files.json", {f"{i}.png": 0.5 for i in range(1437)}),
        hostile("index.csv", "index,loss\n" + "7,0.5\n" * 1437),
        hostile("halves.csv", "index,loss\n" + "".join(f"{i}.5,1\n" for i in range(1437))),
        hostile("two.csv", "loss,loss\n" + "1,2\n" * 1437),
        hostile("two.parquet", pa.table([NUMBERS, NUMBERS], names=["loss", "loss"])),
        hostile("lists.parquet", pa.table({"loss": [[1.0]] * 1437})),
        hostile("dates.npy", np.array([0] * 1437, dtype="datetime64[s]")),
        hostile("objects.npy", np.array([{}] * 1437, dtype=object)),
        hostile("empty.npy", b""),
        hostile("cut.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, "),
        hostile(
            "promise.npy",
            b"\x93NUMPY\x01\x00\x76\x00"
            + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9000000000000000,), }".ljust(117)
            + b"\n",
        ),
        hostile("cut.npz", b"PK\x03\x04"),
        hostile("deep.json", "[" * 100000),
        hostile("latin.json", b'["\xe9"]'),
        hostile("empty.csv", b""),
        hostile("empty.parquet", b""),
        hostile("bool.json", "true"),
    ],
)
def test_lists_that_hold_no_scores_are_refused_in_one_line(desk, capsys, name, save):
    save(Path(name))
    with pytest.raises(SystemExit) as stop:
        prune(["toy.yaml", f"prune.scores={name}", "output=run"])
    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if "error" in line]
    assert stop.value.code == 2 and len(errors) == 1 and name in errors[0], told
    assert "Traceback" not in told and not Path("run").exists()
