"""A run folder whose data, or whose given core set, has become another one since."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from latentdc.networks.build import new_network
from latentdc.prune import score
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
    said = refused(capsys, *HALF, "evaluate.seeds=1", "threads=1")
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


@pytest.mark.parametrize("key", ["selection.pool", "selection.start"])
def test_a_set_is_not_one_of_a_pool_that_was_exchanged_since(pets, capsys, key):
    for name in ("selection.pool", "selection.start"):
        named(pets.parent / name, ["cat", "dog"], ipc=1 + 3 * (name == "selection.pool"))
    words = ["method.kind=selection", "selection.select.kind=random", "ipc=2"]
    words += [f"{name}={name}" for name in ("selection.pool", "selection.start")]
    main(["quick.yaml", *words])
    main(["quick.yaml", *words, "evaluate.seeds=1"])
    one = sorted((pets.parent / key / "cat").iterdir())[0]
    before = one.read_bytes()
    picture(98).save(one)
    said = refused(capsys, *words)
    assert f"error: {key} names other contents than those that the set in runs/quick was" in said
    one.write_bytes(before)
    main(["quick.yaml", *words])
    shutil.rmtree(pets.parent / key)  # the set stands without
    main(["quick.yaml", *words])


def test_a_core_set_is_not_one_of_scores_that_were_exchanged_since(pets, capsys):
    def write(*columns):
        rows = zip(range(12), *columns, strict=True)
        lines = ["loss,aum"[: 4 * len(columns)], *(",".join(map(str, row[1:])) for row in rows)]
        Path("scores.csv").write_text("\n".join(lines))

    words = ["prune.scores=scores.csv", "prune.keep=0.5"]
    write(range(12))
    main(["quick.yaml", *words])
    write(range(12), range(12))  # scores of another rule beside
    main(["quick.yaml", *words])
    write(range(12, 0, -1), range(12))
    told = "prune.scores names a file of other contents than the one that runs/quick/coreset"
    assert told in refused(capsys, *words)
    with pytest.raises(SystemExit, match="2"):
        prune(["quick.yaml", *words])
    assert told in capsys.readouterr().err
    Path("scores.csv").unlink()
    with pytest.raises(SystemExit, match="2"):
        prune(["quick.yaml", *words])
    assert "there is no file scores.csv" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["prune.features", "prune.scorer.weights"])
def test_a_core_set_is_not_one_of_files_that_were_exchanged_since(pets, monkeypatch, capsys, key):
    monkeypatch.setattr(score, "refuse_chance", lambda *_: None)
    network = new_network("convnet3@8", "scorer", num_classes=2, resolution=8, seed=0)

    def write(seed):
        torch.manual_seed(seed)
        if key == "prune.features":
            np.save("file.npy", torch.randn(12, 3).numpy())
        else:
            state = {name: torch.randn_like(one) for name, one in network.state_dict().items()}
            save_file(state, "file.safetensors")

    write(0)
    words = ["prune.keep=0.5", "prune.score=loss", "prune.scorer.network=convnet3@8", "seed=3"]
    words += [f"{key}=file.safetensors"]
    if key == "prune.features":
        words = ["prune.keep=0.5", "prune.score=herding", f"{key}=file.npy"]
    prune(["quick.yaml", *words])
    prune(["quick.yaml", *words])
    write(1)
    with pytest.raises(SystemExit, match="2"):
        prune(["quick.yaml", *words])
    assert f"{key} names a file of other contents" in capsys.readouterr().err


def test_a_core_set_is_not_one_of_scores_in_another_precision(pets, monkeypatch, capsys):
    monkeypatch.setattr(score, "refuse_chance", lambda *_: None)
    scorer = "prune.scorer={network: convnet3@8, epochs: 1}"
    words = [scorer, "prune.score=loss", "prune.keep=0.5"]
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "mixed_precision", "bf16")
        prune(["quick.yaml", *words])
        prune(["quick.yaml", "prune.score=random", "prune.keep=0.5", "output=drawn"])
        prune(["quick.yaml", *words])
    told = "chosen by scores in precision 'bf16', and this run has 'no'; launch as before, or"
    assert told in refused(capsys, *words)
    with pytest.raises(SystemExit, match="2"):
        prune(["quick.yaml", *words])
    assert told in capsys.readouterr().err
    main(["quick.yaml", *words, f"prune.coreset={RUN}/coreset.parquet", "output=given"])
    main(["quick.yaml", "prune.score=random", "prune.keep=0.5", "output=drawn"])


def test_a_set_of_ones_own_method_is_not_one_of_a_classifier_that_was_exchanged(
    pets, monkeypatch, capsys
):
    Path("mine.py").write_text(
        "import latentdc\n\n\ndef mine(coreset, prior: None, settings, context):\n"
        "    context.real_classifier()\n"
        "    return latentdc.selection(coreset, prior, latentdc.Selection(), context)\n"
    )
    network = new_network("convnet3@8", "scorer", num_classes=2, resolution=8, seed=0)
    save_file(network.state_dict(), "file.safetensors")
    monkeypatch.setattr("latentdc.run_parts.real_classifier", lambda *_, **__: (network, 1.0))
    prune(["quick.yaml", *HALF, "output=kept"])
    words = ["prune.coreset=kept/coreset.parquet", "method.kind=mine:mine"]
    words += ["prune.scorer.network=convnet3@8", "prune.scorer.weights=file.safetensors"]
    main(["quick.yaml", *words])
    main(["quick.yaml", *words, "evaluate.seeds=1"])
    other = {name: one + 1 for name, one in network.state_dict().items()}
    save_file(other, "file.safetensors")
    assert "prune.scorer.weights names other contents" in refused(capsys, *words)
