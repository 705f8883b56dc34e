import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune.coreset import Coreset
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.open import SetSource, find_set, open_set, row_names
from tests.evaluate.toys import stripes

DATA = stripes(12)


def save_set(folder):
    SyntheticSet(DATA.images[:3], DATA.labels[:3], DATA.class_names).save_pretrained(folder)
    return folder


def save_coreset(folder, data=DATA):
    folder.mkdir(parents=True, exist_ok=True)
    Coreset(
        hashes=data.hashes[::2],
        scores=torch.zeros(6),
        labels=data.labels[::2],
        class_names=data.class_names,
        rule="random",
        order="easy",
        keep=0.5,
        dataset="stripes",
    ).save(folder / "coreset.parquet")
    return folder / "coreset.parquet"


def test_a_run_with_a_set_stands_for_it_and_one_without_for_its_core_set(tmp_path):
    made, pruned = tmp_path / "made", tmp_path / "pruned"
    save_coreset(made), save_coreset(pruned)
    save_set(made / "synthetic")
    assert find_set(str(made)).path == made / "synthetic" and find_set(str(made)).run == made
    assert find_set(str(pruned)).path == pruned / "coreset.parquet"
    assert find_set(str(pruned / "coreset.parquet")).run == pruned
    with pytest.raises(InputError, match="holds no synthetic set"):
        find_set(str(tmp_path))


@pytest.mark.parametrize("begun", ["checkpoints", "metrics.jsonl", "synthetic"])
def test_a_run_that_has_not_ended_is_not_taken_for_its_core_set(tmp_path, begun):
    core = save_coreset(tmp_path / "run")
    (tmp_path / "run" / begun).mkdir()
    with pytest.raises(InputError, match=f"holds {begun} of a run that has not ended"):
        find_set(str(tmp_path / "run"))
    assert find_set(str(core)).is_core


def test_a_folder_of_experts_stands_for_the_core_set_that_they_were_trained_on(tmp_path):
    core = save_coreset(tmp_path / "experts")
    (tmp_path / "experts" / "metrics.jsonl").touch()
    (tmp_path / "experts" / "experts.json").touch()
    assert find_set(str(tmp_path / "experts")).path == core


def test_a_core_set_is_opened_as_the_images_that_it_names(tmp_path):
    opened = open_set(find_set(str(save_coreset(tmp_path))), DATA)[0]
    assert torch.equal(opened.images, DATA.images[::2])
    assert torch.equal(opened.labels, DATA.labels[::2])
    with pytest.raises(InputError, match=r"6 of the 6 images .* missing"):
        open_set(find_set(str(tmp_path)), DATA.select(torch.arange(1, 12, 2)))


def test_rows_are_named_by_their_runs_and_by_their_paths_where_those_are_alike(tmp_path):
    one = save_set(tmp_path / "a" / "x")
    two, core = save_set(tmp_path / "b" / "x"), save_coreset(tmp_path / "y")
    sources = [find_set(str(path)) for path in (one, two, core)]
    assert row_names(sources) == [str(one), str(two), "y"]
    assert row_names(sources[:1]) == ["distilled"] and row_names(sources[2:]) == ["y"]


def test_no_set_is_called_like_a_row_beside_it(tmp_path, monkeypatch):
    full, random = save_set(tmp_path / "full"), save_coreset(tmp_path / "random")
    monkeypatch.chdir(tmp_path)
    save_set(tmp_path / "easy")
    sources = [find_set(str(full)), find_set("random/"), find_set("easy")]
    assert row_names(sources) == [str(full), "./random/", "easy"]
    assert row_names([find_set(str(random))]) == [str(random)]
    assert row_names([find_set("full")]) == ["distilled"]
    (tmp_path / "full").rename(tmp_path / "distilled")
    assert row_names([find_set("distilled"), find_set("easy")]) == ["./distilled", "easy"]


def test_a_set_of_the_hub_is_named_by_its_id_and_not_by_its_snapshot(tmp_path):
    stored = [save_set(tmp_path / name / "snapshots" / ("0a" * 20)) for name in ("one", "two")]
    ids = ("me/digits-ipc1", "me/digits-ipc10")
    sources = [SetSource(given, path) for given, path in zip(ids, stored, strict=True)]
    assert row_names(sources) == ["digits-ipc1", "digits-ipc10"]
