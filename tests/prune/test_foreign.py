import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune.features import Features, read_features
from latentdc.prune.foreign import read_scores
from latentdc.prune.score_table import ScoreTable
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


@pytest.mark.parametrize("suffix", [".json", ".npy", ".csv"])
def test_a_list_in_data_set_order_is_the_rule_that_the_recipe_says(tmp_path, suffix):
    path = write(tmp_path / f"scores{suffix}", VALUES)
    table = read_scores(path, colours(), "loss")
    torch.testing.assert_close(table.columns["loss"], torch.tensor(VALUES))


def test_columns_that_are_named_by_rules_are_taken_by_their_names(tmp_path):
    table = read_scores(write(tmp_path / "s.parquet", VALUES), colours(), "loss")
    assert list(table.columns) == ["el2n"]
    with pytest.raises(InputError, match=r"no column 'loss', only el2n.*prune\.columns=\[loss\]"):
        table.column("loss")


def test_an_index_puts_rows_into_order(tmp_path):
    path = write(tmp_path / "s.csv", {"index": range(11, -1, -1), "aum": VALUES})
    assert read_scores(path, colours(), "aum").columns["aum"][0] == pytest.approx(1.1)


def test_labels_may_be_class_names_and_what_else_stands_beside_the_scores_is_passed_over(tmp_path):
    beside = {"label": ["red", "blue"] * 6, "path": [f"{i}.png" for i in range(12)]}
    table = read_scores(write(tmp_path / "s.csv", {"aum": VALUES} | beside), colours(), "aum")
    assert list(table.columns) == ["aum"]


def test_scores_of_ours_are_found_by_content_in_another_order(tmp_path):
    train = colours(20)
    ours = ScoreTable(
        train.hashes, train.labels, train.class_names, {"loss": torch.arange(20.0)}, train.name
    )
    ours.save(tmp_path / "scores.parquet")
    np.save(tmp_path / "features.npy", np.arange(20, dtype=np.float16)[:, None])
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


def test_files_that_hold_no_scores_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("[1, 2")
    (tmp_path / "broken.parquet").write_text("text")
    for name in ("broken.json", "broken.parquet", "absent.npy"):
        with pytest.raises(InputError, match=f"cannot read the scores .*{name}"):
            read_scores(tmp_path / name, colours(), "loss")


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


def test_features_are_read_in_blocks_of_any_rows():
    array = np.arange(30, dtype=np.float16).reshape(10, 3)
    some = Features(array).select(torch.tensor([7, 2])).select(torch.tensor([1]))
    assert some.row(0).tolist() == [6, 7, 8] and len(some) == 1
    assert some.mean().tolist() == [6, 7, 8]
