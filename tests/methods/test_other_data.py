"""A run folder whose data, or whose given core set, has become another one since."""

import pytest

from latentdc.prune.__main__ import main as prune
from tests.methods.command import QUICK, RUN, contents, fails, main
from tests.synthetic.foreign.layouts import named, picture

HALF = ("prune.score=random", "prune.keep=0.5")


@pytest.fixture(autouse=True)
def pets(tmp_path, monkeypatch):
    """Six images of each of two classes, and a recipe of them."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        named(tmp_path / "pets" / split, ["cat", "dog"], ipc=6)
    (tmp_path / "quick.yaml").write_text(QUICK.replace("source: digits", "source: pets"))
    return tmp_path / "pets"


def add(pets):
    picture(99).save(pets / "train/cat/new.png")


def kept_set():
    return {name: found for name, found in contents(RUN).items() if "synthetic" in name}


def test_a_finished_run_is_not_one_of_images_that_were_added_since(pets, capsys):
    main(["quick.yaml"])
    before = kept_set()
    main(["quick.yaml"])
    add(pets)
    said = fails(capsys, 2)
    assert "coreset.parquet holds all 12 images that pets train had as the run began" in said
    assert "and it has 13 now; give this run a folder of its own with output=..." in said
    assert before == kept_set()
    with pytest.raises(SystemExit):
        prune(["quick.yaml"])


def test_a_set_of_a_core_set_is_not_one_of_images_that_were_added_since(pets, capsys):
    main(["quick.yaml", *HALF])
    before = kept_set()
    main(["quick.yaml", *HALF])
    add(pets)
    said = fails(capsys, 2, *HALF)
    assert "the set in runs/quick was made of other training images (hash " in said
    assert before == kept_set()


def test_a_run_is_not_one_of_another_core_set_under_the_same_name(pets, capsys):
    for seed in (1, 2):
        prune(["quick.yaml", *HALF, f"seed={seed}", f"output=kept{seed}"])
    kept, other = (pets.parent / f"kept{seed}/coreset.parquet" for seed in (1, 2))
    given = f"prune.coreset={kept}"
    main(["quick.yaml", given])
    before = kept_set()
    main(["quick.yaml", given])
    kept.write_bytes(other.read_bytes())
    assert "coreset.parquet holds other images than runs/quick/coreset.parquet" in fails(
        capsys, 2, given
    )
    assert before == kept_set()
