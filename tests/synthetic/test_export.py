import errno
import subprocess
import sys
import tarfile
import unicodedata

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from latentdc import cli
from latentdc.preprocessing import Normalization, fit_whitening
from latentdc.synthetic.export import export_npz, export_pt, export_webdataset
from latentdc.synthetic.folder import folder_names
from latentdc.synthetic.foreign.tensors import read_tensors
from tests.synthetic.sets import NAMES, float_images, random_set

main = cli.entry("export")


@pytest.mark.smoke
def test_imagefolder_holds_the_stored_pixels_by_class_name(tmp_path):
    synthetic = random_set()
    synthetic.save_pretrained(tmp_path / "run" / "synthetic")
    main([str(tmp_path / "run"), "--format", "imagefolder", str(tmp_path / "out")])
    folders = dict(zip(NAMES, ["no", "01", "crème brûlée", "a_ _b_"], strict=True))
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(folders.values())
    for label, name in enumerate(NAMES):
        members = synthetic.images[synthetic.labels == label]
        paths = sorted((tmp_path / "out" / folders[name]).iterdir())
        assert [path.name for path in paths] == [f"{folders[name]}_0000{n}.png" for n in (0, 1)]
        for path, image in zip(paths, members, strict=True):
            assert torch.equal(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1), image)


def test_pt_holds_unnormalised_images_in_class_order(tmp_path):
    synthetic = random_set(weights=torch.arange(1.0, 9.0))
    synthetic.save_pretrained(tmp_path / "set")
    main([str(tmp_path / "set"), "--format", "pt", str(tmp_path / "out.pt")])
    content = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(content["weights"][:2], synthetic.weights[synthetic.labels == 0])
    assert content["labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert content["class_names"] == list(NAMES)
    first = synthetic.images[synthetic.labels == 0]
    torch.testing.assert_close(content["images"][:2], first / 255)


@pytest.mark.parametrize("kind", ["imagefolder", "pt"])
def test_nothing_is_written_among_the_real_images_of_the_run(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets/train/cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("pets/train/cat/1.png")
    random_set().save_pretrained(tmp_path / "run" / "synthetic")
    (tmp_path / "run/recipe.yaml").write_text("data: {source: pets}")
    for name in ("run", "run/synthetic"):
        with pytest.raises(SystemExit, match="2"):
            main([name, "--format", kind, f"pets/train/cat/out.{kind}"])
        told = capsys.readouterr().err
        assert "lies among the images of data.source=pets" in told and "another OUT" in told
        assert [path.name for path in (tmp_path / "pets/train/cat").iterdir()] == ["1.png"]
    (tmp_path / "run/recipe.yaml").write_text("data: {source: pets, of_a_newer_version: 1}")
    main(["run", "--format", kind, f"out.{kind}"])


def test_float_images_go_to_pt_unclamped_and_not_to_pngs(tmp_path, capsys):
    synthetic = random_set(images=float_images(), labels=torch.arange(8) // 2)
    export_pt(synthetic, tmp_path / "out.pt")
    content = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(content["images"], (float_images() + 1) / 2)
    synthetic.save_pretrained(tmp_path / "set")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "set"), "--format", "imagefolder", str(tmp_path / "out")])
    assert "add --round, or use --format pt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    main([str(tmp_path / "set"), "--round", "--format", "imagefolder", str(tmp_path / "out")])
    assert "rounded to 8 bits: 63.8 %" in capsys.readouterr().err
    path = tmp_path / "out" / "no" / "no_00001.png"
    shown = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    assert torch.equal(shown, synthetic.levels()[1])


def read_back(path, names=NAMES, seen=None):
    """What `latentdc evaluate` reads of an export."""
    return read_tensors(path, names, None, "positions", seen or Normalization())[0]


def test_npz_holds_levels_and_is_read_back(tmp_path):
    synthetic = random_set(soft_labels=torch.randn(8, 4), learned_lr=0.5)
    synthetic.save_pretrained(tmp_path / "set")
    main([str(tmp_path / "set"), "--format", "npz", str(tmp_path / "out.npz")])
    content = np.load(tmp_path / "out.npz")
    by_class = synthetic.labels.argsort(stable=True)
    assert (content["images"].shape, content["images"].dtype) == ((8, 8, 8, 3), np.uint8)
    assert content["hard_labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert tuple(content["class_names"]) == NAMES
    again = read_back(tmp_path / "out.npz")
    assert torch.equal(again.images, synthetic.images[by_class])
    assert torch.equal(again.soft_labels, synthetic.soft_labels[by_class])
    assert again.learned_lr == 0.5


def test_npz_of_floats_and_of_vectors(tmp_path):
    export_npz(random_set(images=float_images(), labels=torch.arange(8) // 2), tmp_path / "a.npz")
    images = torch.from_numpy(np.load(tmp_path / "a.npz")["images"]).permute(0, 3, 1, 2)
    torch.testing.assert_close(images, (float_images() + 1) / 2)
    vectors = random_set(images=torch.randn(8, 5), labels=torch.arange(8) // 2)
    export_npz(vectors, tmp_path / "b.npz")
    assert torch.equal(torch.from_numpy(np.load(tmp_path / "b.npz")["vectors"]), vectors.images)


RECIPE = "data: {source: digits, resolution: 16, mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6]}\n"
SEEN = Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("kind", ["dc", "mtt"])
def test_the_layouts_of_dc_and_mtt_hold_what_students_see_and_are_read_back(tmp_path, kind):
    synthetic = random_set(learned_lr=0.25 if kind == "mtt" else None)
    synthetic.save_pretrained(tmp_path / "set", recipe=RECIPE)
    main([str(tmp_path / "set"), "--format", kind, str(tmp_path / "out.pt")])
    by_class = synthetic.labels.argsort(stable=True)
    if kind == "dc":
        [[images, labels]] = torch.load(tmp_path / "out.pt", weights_only=True)["data"]
    else:
        images = torch.load(tmp_path / "out.pt" / "images_best.pt", weights_only=True)
        labels = torch.load(tmp_path / "out.pt" / "labels_best.pt", weights_only=True)
    torch.testing.assert_close(images, SEEN(synthetic.floats()[by_class]))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    again = read_back(tmp_path / "out.pt", seen=SEEN)
    torch.testing.assert_close(again.images, synthetic.floats()[by_class], atol=1e-6, rtol=0)
    assert again.learned_lr == synthetic.learned_lr


def test_whitened_images_are_exported_whitened(tmp_path):
    whitening = fit_whitening(random_set().images, Normalization(), name="noise")
    synthetic = random_set(images=float_images(), whitening=whitening)
    synthetic.save_pretrained(tmp_path / "set")
    main([str(tmp_path / "set"), "--format", "mtt", str(tmp_path / "out")])
    images = torch.load(tmp_path / "out" / "images_best.pt", weights_only=True)
    ordered = synthetic.images[synthetic.labels.argsort(stable=True)]
    torch.testing.assert_close(images, whitening(ordered))


SOFT = {"soft_labels": torch.zeros(8, 4)}
VECTORS = {"images": torch.zeros(8, 5)}


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({}, ["--format", "dc"], "no recipe.yaml lies with this set to say by which mean and std"),
        (
            {"soft_labels": torch.zeros(8, 4)},
            ["--format", "dc"],
            "DC's file has classes; use --format mtt",
        ),
        (VECTORS, ["--format", "mtt"], "--format mtt is for images"),
        (VECTORS, ["--format", "webdataset"], "webdataset is for images"),
        (VECTORS, ["--format", "pt", "--round"], "--round is for images"),
        ({}, ["--format", "npz"], "a file of --format npz ends in .npz"),
        ({}, ["--format", "pt"], "a file of --format pt ends in .pt or .pth, got"),
        ({}, ["--format", "webdataset"], "a file of --format webdataset ends in .tar, got"),
    ],
)
def test_what_a_layout_has_no_place_for_is_refused(tmp_path, capsys, changes, words, said):
    recipe = RECIPE if changes else None
    random_set(**changes).save_pretrained(tmp_path / "set", recipe=recipe)
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "set"), *words, str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_webdataset_says_class_and_index_and_is_read_by_datasets(tmp_path, capsys):
    names = ("a.b", "a_b", "crème brûlée", "x" * 200)
    synthetic = random_set(class_names=names, weights=torch.arange(1.0, 9.0))
    synthetic.save_pretrained(tmp_path / "set")
    main([str(tmp_path / "set"), "--format", "webdataset", str(tmp_path / "out.tar")])
    assert "without weights: only pt and npz hold them all" in capsys.readouterr().err
    with tarfile.open(tmp_path / "out.tar") as tar:
        members = tar.getnames()
    assert len(members) == 24 and sum("crème brûlée_00001" in name for name in members) == 3
    rows = datasets.load_dataset(
        "webdataset", data_files=str(tmp_path / "out.tar"), split="train", cache_dir=str(tmp_path)
    )
    for row, image, label in zip(rows, synthetic.images, synthetic.labels.tolist(), strict=True):
        assert torch.equal(torch.from_numpy(np.array(row["png"])).permute(2, 0, 1), image)
        assert (int(row["cls"]), row["json"]["class_name"]) == (label, names[label])
    export_webdataset(synthetic, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()


OUTPUTS = {"imagefolder": "o", "webdataset": "o.tar", "pt": "o.pt", "npz": "o.npz", "mtt": "o"}


@pytest.mark.parametrize("kind", [*OUTPUTS, "dc"])
def test_evaluate_takes_every_layout_but_the_tar(tmp_path, capsys, kind):
    random_set().save_pretrained(tmp_path / "set", recipe=RECIPE)
    out = str(tmp_path / OUTPUTS.get(kind, "o.pt"))
    main([str(tmp_path / "set"), "--format", kind, out])
    words = ["evaluate", out, "--recipe", "digits_ipc1", "--print-config"]
    if kind != "webdataset":
        cli.main(words)
        return
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert "unpack archives to CLASS/*.png" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["imagefolder", "webdataset", "pt", "mtt"])
def test_nothing_is_written_over_what_exists(tmp_path, capsys, kind):
    random_set().save_pretrained(tmp_path / "set", recipe=RECIPE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "set"), "--format", kind, str(tmp_path / "out")])
    assert "choose a new" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        export_pt(random_set(), tmp_path / "out.pt")
    assert list(tmp_path.iterdir()) == []


def test_folder_names_are_safe_and_different_on_every_file_system():
    names = ["tench, Tinca", "a/b", "a:b", "Crane", "crane", "..", "../x", "plain"]
    assert folder_names(names) == [
        "tench_ Tinca",
        "a_b_1",
        "a_b_2",
        "Crane_3",
        "crane_4",
        "_",
        "_x",
        "plain",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["x/y", "x:y", "x_y_1"],
        ["a", "A", "a_1", "A_0"],
        ["cafe\u0301", "caf\u00e9"],
        ["n" * 300 + "a", "n" * 300 + "b"],
        ["é" * 300, "..", "/", ""],
        ["a", "a ", "a.", " a"],
    ],
)
def test_no_two_classes_share_a_folder_and_every_name_fits(names):
    folders = folder_names(names)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in folders}) == len(names)
    assert all(0 < len(name.encode()) <= 255 and name.strip(" .") == name for name in folders)


def test_the_commands_answer_without_importing_torch():
    script = (
        "import sys, latentdc.synthetic.push, latentdc.synthetic.export\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'datasets', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
