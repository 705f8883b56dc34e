import datasets
import pytest
import torch
from huggingface_hub import DatasetCard

from latentdc.errors import InputError
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.export import export_imagefolder, export_pt
from tests.synthetic.sets import random_set


def vectors(**changes) -> SyntheticSet:
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(8, 5, generator=draw) * 1e5
    z = torch.randn(8, 5, generator=draw)
    return random_set(images=values, z=z, c=None, noise=None, **changes)


def test_a_set_of_vectors_comes_back_bit_by_bit(tmp_path):
    made = vectors()
    made.save_pretrained(tmp_path / "set", recipe="ipc: 2")
    back = SyntheticSet.from_pretrained(tmp_path / "set")
    for name in ("images", "labels", "z"):
        assert torch.equal(getattr(back, name), getattr(made, name)), name
    assert back.kind == "vectors" and back.class_names == made.class_names
    assert back.provenance == made.provenance and not (tmp_path / "set/grid.png").exists()


def test_datasets_reads_the_vectors_and_the_card_tells_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    made = vectors()
    made.save_pretrained(tmp_path / "set")
    read = datasets.load_dataset(str(tmp_path / "set"), split="train")
    assert torch.equal(torch.tensor(read["features"]), made.images)
    assert read.features["label"].names == list(made.class_names)
    card = DatasetCard.load(tmp_path / "set/README.md")
    assert "8 feature vectors of 5 values" in card.text and "grid.png" not in card.text
    assert "pixels" not in card.text and card.data.task_categories == ["tabular-classification"]


def test_storage_and_exports_are_of_floats(tmp_path):
    made = vectors()
    assert made.storage() == {
        "vectors/float32": 160,
        "labels/int64": 64,
        "z/float32": 160,
    }
    export_pt(made, tmp_path / "set.pt")
    content = torch.load(tmp_path / "set.pt")
    order = made.labels.argsort(stable=True)
    assert torch.equal(content["vectors"], made.images[order]) and "images" not in content
    with pytest.raises(InputError, match="imagefolder is for images, and this set holds feature"):
        export_imagefolder(made, tmp_path / "folder")


def test_vectors_of_another_type_are_refused():
    with pytest.raises(InputError, match=r"vectors \(N, D\) of float32, got \(8, 5\) of torch.f"):
        SyntheticSet(vectors().images.double(), vectors().labels, vectors().class_names)
