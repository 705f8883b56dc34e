"""What is fetched from the Hub, and what of it counts."""

import shutil
from fnmatch import fnmatch

import pytest
import torch

from latentdc.priors.folder import content_hash, prior_folder, weights_file
from tests.priors import small, text_models

UNET, TEXT = "unet/diffusion_pytorch_model", "text_encoder/model"
CLUTTER = [
    "v1-5-pruned.safetensors",
    "safety_checker/model.safetensors",
    "safety_checker/config.json",
    f"{UNET}.non_ema.safetensors",
    f"{UNET}.non_ema.bin",
    "text_encoder/pytorch_model.bin",
    "README.md",
]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository as large ones are, of which files can be fetched by pattern."""
    remote, local = tmp_path / "remote", tmp_path / "local"
    text_models.save_sd(remote)
    for name in CLUTTER:
        (remote / name).parent.mkdir(exist_ok=True)
        (remote / name).write_text("large")

    def snapshot_download(repo, *, revision, allow_patterns, local_files_only):
        for path in [p for p in remote.rglob("*") if p.is_file()]:
            inside = path.relative_to(remote)
            if any(fnmatch(str(inside), pattern) for pattern in allow_patterns):
                (local / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, local / inside)
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return remote


def fetched():
    folder = prior_folder("someone/prior")
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_networks_tokenizers_and_configs_are_fetched_and_nothing_else(hub):
    for name in (f"{UNET}.fp16.safetensors", f"{TEXT}.fp16.safetensors"):
        (hub / name).write_text("half")
    got = fetched()
    parts = {"vae/diffusion_pytorch_model.safetensors", f"{UNET}.safetensors"}
    assert {name for name in got if name.endswith(("safetensors", "bin"))} == {
        *parts,
        f"{TEXT}.safetensors",
    }
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt", "model_index.json"} <= got
    assert {"text_encoder/config.json", "scheduler/scheduler_config.json"} <= got
    assert not got & set(CLUTTER)


@pytest.mark.parametrize("variant", [".fp16.safetensors", ".bin"])
def test_a_network_without_the_best_file_is_fetched_in_the_next_best(hub, variant):
    (hub / f"{UNET}.safetensors").rename(hub / f"{UNET}{variant}")
    got = fetched()
    assert f"{UNET}{variant}" in got and f"{TEXT}.safetensors" in got
    assert weights_file(prior_folder("someone/prior") / "unet").name.endswith(variant)


def test_the_hash_is_of_what_is_used(tmp_path):
    small.save(tmp_path)
    before = content_hash(tmp_path)
    (tmp_path / f"{UNET}.fp16.safetensors").write_text("a copy in half precision")
    (tmp_path / "pruned.safetensors").write_text("the same in another layout")
    assert content_hash(tmp_path) == before
    torch.save({}, tmp_path / f"{UNET}.bin")
    assert content_hash(tmp_path) == before
    (tmp_path / f"{UNET}.safetensors").unlink()
    assert content_hash(tmp_path) != before
