import io

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from latentdc.errors import InputError
from latentdc.synthetic.foreign.pictures import read_pictures, table_pictures
from latentdc.synthetic.open import find_set
from tests.synthetic.foreign.layouts import picture

NAMES = ("cat", "dog", "owl")


def read_rows(folder, names, ipc, label=None):
    return read_pictures(table_pictures(folder, label), names, ipc)


def encoded(shade, size=(8, 8)):
    buffer = io.BytesIO()
    picture(shade, size).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rethinkdc_of(folder, images, labels):
    """One file with these (8, 8, 3) images, and numbers for classes."""
    schema = Features({"image": Image(), "class_id": Value("int64")}).arrow_schema
    rows = []
    for image in images:
        buffer = io.BytesIO()
        PIL.Image.fromarray(image).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    folder.mkdir()
    table = pa.Table.from_pydict({"image": rows, "class_id": labels}, schema=schema)
    pq.write_table(table, folder / "train.parquet")


def rethinkdc(folder, labels, *, column="class_id", feature=None, sizes=(), files=2):
    """Shards under data/, columns `image` and `class_id`, as the Hub keeps them."""
    schema = Features({"image": Image(), column: feature or Value("int64")}).arrow_schema
    (folder / "data").mkdir(parents=True)
    shades = [encoded(row, sizes[row] if sizes else (8, 8)) for row in range(len(labels))]
    half = -(-len(labels) // files)
    for index in range(files):
        here = slice(index * half, (index + 1) * half)
        table = pa.Table.from_pydict({"image": shades[here], column: labels[here]}, schema=schema)
        pq.write_table(table, folder / f"data/train-{index:05d}-of-{files:05d}.parquet")
    return folder


def test_the_columns_of_rethinkdc_are_read_from_all_shards(tmp_path):
    found, _ = read_rows(rethinkdc(tmp_path, [2, 0, 1, 2, 0, 1]), NAMES, None)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.images[:, 0, 0, 0].tolist() == [1, 4, 2, 5, 0, 3]
    assert read_rows(tmp_path, NAMES, 1)[0].images[:, 0, 0, 0].tolist() == [1, 2, 0]


def test_images_are_found_where_the_note_of_their_type_is_lost(tmp_path):
    rethinkdc(tmp_path, [0, 1, 2], files=1)
    (path,) = tmp_path.glob("data/*.parquet")
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert read_rows(tmp_path, NAMES, None)[0].images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_column_that_brings_its_names_is_put_into_the_test_sets_order(tmp_path):
    feature = ClassLabel(names=["owl", "dog", "cat"])
    rethinkdc(tmp_path, [0, 1, 2], column="label", feature=feature)
    found, _ = read_rows(tmp_path, NAMES, None)
    assert found.images[:, 0, 0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ({"labels": [0, 1, 1, 0]}, "lacks 1 of the test set's 3 classes: owl"),
        ({"labels": [0, 1, 2, 3]}, "has 1 class that the test set has not: 3"),
        (
            {"labels": [0, 1, 2], "column": "kind"},
            r"no label column; a set has one.*kind \(int64\)",
        ),
        ({"labels": [0, 1, 2], "sizes": [(8, 8), (8, 8), (4, 8)]}, r"different sizes: 8x8.*4x8"),
        (
            {"labels": [0, 1], "column": "label", "feature": ClassLabel(names=list(NAMES))},
            "no images of 1 of the test set's 3 classes: owl",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        read_rows(rethinkdc(tmp_path, **make), NAMES, None)


def test_parquet_files_of_which_some_are_missing_are_refused(tmp_path):
    rethinkdc(tmp_path, [0, 1, 2] * 2)
    (tmp_path / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"1 of the 2 files of train; train-00001-of-00002 is mis"):
        read_rows(tmp_path, NAMES, None)


@pytest.mark.parametrize(
    ("own", "other"), [("train", "test"), ("distilled", "val"), ("retrained", "validation")]
)
def test_other_splits_beside_a_set_are_not_part_of_it(tmp_path, own, other):
    rethinkdc(tmp_path, [0, 1, 2], files=1)
    (path,) = tmp_path.glob("data/*.parquet")
    (tmp_path / f"{other}.parquet").write_bytes(path.read_bytes())
    path.rename(tmp_path / f"{own}.parquet")
    assert len(read_rows(tmp_path, NAMES, None)[0].labels) == 3
    (tmp_path / f"{other}.parquet").rename(tmp_path / "dev.parquet")
    (tmp_path / f"{own}.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"splits validation, test and none of train; rename"):
        read_rows(tmp_path, NAMES, None)


def test_rows_without_a_label_are_counted_and_a_pointer_says_what_to_run(tmp_path):
    rethinkdc(tmp_path, [0, 1, 2, -1], files=1)
    with pytest.raises(InputError, match=r"1 of 4 rows have no label, first row 3; leave"):
        read_rows(tmp_path, NAMES, None)
    (path,) = tmp_path.glob("data/*.parquet")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(InputError, match="Git LFS pointer; run `git lfs pull`"):
        read_rows(tmp_path, NAMES, None)


def test_of_two_label_columns_that_of_the_real_data_is_read(tmp_path):
    rethinkdc(tmp_path, [0, 1, 2], files=1)
    (path,) = tmp_path.glob("data/*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.append_column("fine_label", table["class_id"]), path)
    with pytest.raises(InputError, match=r"2 label columns \(class_id, fine_label\)"):
        read_rows(tmp_path, NAMES, None)
    found, _ = read_rows(tmp_path, NAMES, None, label="fine_label")
    assert found.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("split", [None, "train"])
def test_what_save_to_disk_wrote_is_read(tmp_path, split):
    rows = {"image": [encoded(row) for row in range(3)], "label": [2, 0, 1]}
    features = Features({"image": Image(), "label": ClassLabel(names=list(NAMES))})
    table = Dataset.from_dict(rows, features=features)
    whole = DatasetDict({"train": table, "test": table}) if split else table
    whole.save_to_disk(str(tmp_path / "set"))
    assert find_set(str(tmp_path / "set")).kind == "rows"
    found, _ = read_rows(tmp_path / "set", NAMES, None)
    assert found.labels.tolist() == [0, 1, 2]
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 0]
    for file in (tmp_path / "set").rglob("*.arrow"):
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="save the data set again"):
        read_rows(tmp_path / "set", NAMES, None)
