import errno
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from latentdc.synthetic.export import export_pt, main
from latentdc.synthetic.folder import folder_names
from tests.synthetic.sets import NAMES, float_images, random_set


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
        assert [path.name for path in paths] == ["00000.png", "00001.png"]
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


def test_float_images_go_to_pt_unclamped_and_not_to_pngs(tmp_path, capsys):
    synthetic = random_set(images=float_images(), labels=torch.arange(8) // 2)
    export_pt(synthetic, tmp_path / "out.pt")
    content = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.testing.assert_close(content["images"], (float_images() + 1) / 2)
    synthetic.save_pretrained(tmp_path / "set")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "set"), "--format", "imagefolder", str(tmp_path / "out")])
    assert "use --format pt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["imagefolder", "pt"])
def test_nothing_is_written_over_what_exists(tmp_path, capsys, kind):
    random_set().save_pretrained(tmp_path / "set")
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
