"""A run folder whose data, or whose given core set, has become another one since."""

from dataclasses import replace

import pytest

from latentdc.prune.__main__ import main as prune
from latentdc.prune.coreset import Coreset
from latentdc.synthetic import SyntheticSet
from tests.methods.command import QUICK, RUN, contents, fails, main, refused
from tests.synthetic.foreign.layouts import named, picture

HALF = ("prune.score=random", "prune.keep=0.5")
OTHER = "coreset.parquet was kept of other training images (hash "


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


def of_earlier_version(name="coreset.parquet"):
    """Forget of which training images the core set is."""
    kept = Coreset.load(RUN / name)
    assert kept.data_hash is not None
    replace(kept, data_hash=None).save(RUN / name)


@pytest.mark.parametrize("keys", [(), HALF])
def test_a_finished_run_is_not_one_of_images_that_were_added_since(pets, capsys, keys):
    main(["quick.yaml", *keys])
    before = contents(RUN)["coreset.parquet"]
    main(["quick.yaml", *keys, "evaluate.seeds=1"])
    assert contents(RUN)["coreset.parquet"] == before
    add(pets)
    said = refused(capsys, *keys, "evaluate.seeds=2")
    assert OTHER in said and ") than the 13 that pets train has now (" in said
    assert said.endswith("; give this run a folder of its own with output=...")
    kept = contents(RUN)
    with pytest.raises(SystemExit, match="2"):
        prune(["quick.yaml", *keys])
    assert capsys.readouterr().err.splitlines()[-1] == said and contents(RUN) == kept


def test_an_unfinished_run_does_not_go_on_with_images_that_were_added_since(
    pets, monkeypatch, capsys
):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SyntheticSet, "save_pretrained", stopped)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            main(["quick.yaml", *HALF])
    capsys.readouterr()
    assert list(RUN.glob("checkpoints/step-*")) and not (RUN / "synthetic").exists()
    add(pets)
    assert OTHER in refused(capsys, *HALF)
    (pets / "train/cat/new.png").rename(pets / "train/dog/new.png")  # as many images
    assert OTHER in refused(capsys, *HALF)
    (pets / "train/dog/new.png").unlink()
    (pets / "train").rename(pets.parent / "moved")
    (pets / "train").symlink_to(pets.parent / "moved")
    main(["quick.yaml", *HALF])


def test_a_set_of_an_earlier_version_is_not_one_of_other_images(pets, capsys):
    main(["quick.yaml", *HALF])
    of_earlier_version()
    main(["quick.yaml", *HALF])
    add(pets)
    said = refused(capsys, *HALF, "evaluate.seeds=1", "trackers=[tensorboard]")
    assert "the set in runs/quick was made of other training images (hash " in said


def test_a_whole_core_set_of_an_earlier_version_is_not_one_of_more_images(pets, capsys):
    prune(["quick.yaml"])
    of_earlier_version()
    prune(["quick.yaml"])
    add(pets)
    said = fails(capsys, 2)
    assert "coreset.parquet holds all 12 images that pets train had as the run began" in said
    assert "and it has 13 now; give this run a folder of its own with output=..." in said


def test_a_run_is_not_one_of_another_core_set_under_the_same_name(pets, capsys):
    for seed in (1, 2):
        prune(["quick.yaml", *HALF, f"seed={seed}", f"output=kept{seed}"])
    kept, other = (pets.parent / f"kept{seed}/coreset.parquet" for seed in (1, 2))
    given = f"prune.coreset={kept}"
    main(["quick.yaml", given])
    main(["quick.yaml", given])
    of_given = Coreset.load(kept)
    kept.write_bytes(other.read_bytes())
    changed = "holds other images, or other labels of them, than runs/quick/coreset.parquet does"
    assert changed in refused(capsys, given)
    replace(of_given, labels=1 - of_given.labels).save(kept)
    assert changed in refused(capsys, given)
    turned = of_given.class_names[::-1]  # the same, said in another order
    replace(of_given, labels=1 - of_given.labels, class_names=turned).save(kept)
    main(["quick.yaml", given])
