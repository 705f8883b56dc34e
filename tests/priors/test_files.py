"""Which files of a prior's folder or Hub repo are read, and that its identity is theirs."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from latentdc.errors import InputError
from latentdc.priors.files import prior_folder
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
FORMS = {
    "shards": {"max_shard_size": "10KB"},
    "half": {"variant": "fp16"},
    "bfloat": {"variant": "bf16"},
    "half in shards": {"variant": "fp16", "max_shard_size": "10KB"},
    "not averaged": {"variant": "non_ema"},
    "pickled": {"safe_serialization": False},
    "pickled half": {"safe_serialization": False, "variant": "fp16"},
    "pickled shards": {"safe_serialization": False, "max_shard_size": "10KB"},
    "pickled half in shards": {
        "safe_serialization": False,
        "variant": "fp16",
        "max_shard_size": "10KB",
    },
    "pickled and not averaged": {"safe_serialization": False, "variant": "non_ema"},
}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PROMPTS = {"cat": "a cat", "b": "b"}


def write(unet: UNet2DConditionModel, folder: Path, form: str) -> None:
    """A network's weights in one of the forms, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    options = FORMS[form]
    unet.to(DTYPES.get(options.get("variant"), torch.float32)).save_pretrained(folder, **options)


def load(weights, **options):
    return small.load(weights, **{"prompts": PROMPTS, "steps": 2, **options})


def weight(prior) -> torch.Tensor:
    return prior.denoiser.network.conv_out.weight


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository as large ones are, of which files can be fetched by pattern."""
    remote, local = tmp_path / "remote", tmp_path / "local"
    text_models.copy_sd(remote)
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


def fetched(local: Path) -> set[str]:
    return {str(p.relative_to(local)) for p in local.rglob("*") if p.is_file()}


def test_networks_tokenizers_and_configs_are_fetched_and_nothing_else(hub, tmp_path):
    for name in (f"{UNET}.fp16.safetensors", f"{TEXT}.fp16.safetensors"):
        (hub / name).write_text("half")
    load("someone/prior")
    got = fetched(tmp_path / "local")
    parts = {"vae/diffusion_pytorch_model.safetensors", f"{UNET}.safetensors"}
    assert {name for name in got if name.endswith(("safetensors", "bin"))} == {
        *parts,
        f"{TEXT}.safetensors",
    }
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt", "model_index.json"} <= got
    assert {"text_encoder/config.json", "scheduler/scheduler_config.json"} <= got
    assert not got & set(CLUTTER)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_weights_is_read_from_a_folder_and_from_the_hub_alike(hub, tmp_path, form):
    unet = text_models.unet(8)
    wanted = unet.conv_out.weight.detach().clone()
    write(unet, hub / "unet", form)
    here, there = load(hub), load("someone/prior")
    tolerance = 0.01 if FORMS[form].get("variant") in DTYPES else 0.0
    torch.testing.assert_close(weight(here), wanted, rtol=tolerance, atol=0.0)
    assert weight(here).equal(weight(there)) and here.identity == there.identity
    assert load(hub, prompts={"cat": "c"}).identity == here.identity


@pytest.mark.parametrize("form", FORMS)
def test_the_identity_follows_every_file_of_weights(tmp_path, form):
    small.save(tmp_path)
    unet, seen = small.unet(), {load(tmp_path).identity}
    write(unet, tmp_path / "unet", form)
    seen.add(load(tmp_path).identity)
    for parameter in (unet.conv_in.weight, unet.time_embedding.linear_2.bias):
        parameter.data += 0.5
        write(unet, tmp_path / "unet", form)
        seen.add(load(tmp_path).identity)
    assert len(seen) == 4


@pytest.mark.parametrize("form", [".bin", ".fp16.safetensors", "shards"])
def test_the_identity_follows_the_text_encoder(tmp_path, form):
    text_models.copy_sd(tmp_path)
    folder, seen = tmp_path / "text_encoder", []
    for value in (0.0, 1.0):
        encoder = text_models.encoder(8)
        encoder.get_input_embeddings().weight.data += value
        (folder / "model.safetensors").unlink(missing_ok=True)
        if form == "shards":
            encoder.save_pretrained(folder, max_shard_size="1KB")
        elif form == ".bin":
            torch.save(encoder.state_dict(), folder / "pytorch_model.bin")
        else:
            encoder.half().save_pretrained(folder, variant="fp16")
        seen.append(load(tmp_path))
    assert seen[0].identity != seen[1].identity
    assert not seen[0].condition(torch.tensor([0])).allclose(seen[1].condition(torch.tensor([0])))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("scheduler/scheduler_config.json", {"beta_end": 0.013}),
        ("vae/config.json", {"scaling_factor": 0.51}),
        ("unet/config.json", {"freq_shift": 1}),
        ("model_index.json", {"force_zeros_for_empty_prompt": False}),
        ("tokenizer/special_tokens_map.json", {"pad_token": "a"}),
    ],
)
def test_the_identity_follows_every_config_that_decides_the_computation(tmp_path, name, values):
    text_models.copy_sd(tmp_path)
    before = load(tmp_path).identity
    (tmp_path / name).write_text(json.dumps(json.loads((tmp_path / name).read_text()) | values))
    assert load(tmp_path).identity != before


def test_the_identity_is_of_what_is_read_alone(tmp_path):
    text_models.copy_sd(tmp_path / "a")
    before = load(tmp_path / "a").identity
    unet = tmp_path / "a/unet"
    text_models.unet(8).half().save_pretrained(unet, variant="fp16", max_shard_size="10KB")
    (unet / "diffusion_pytorch_model.bin").write_bytes(b"the same, pickled")
    (tmp_path / "a/pruned.safetensors").write_text("the same in another layout")
    (tmp_path / "a/training.json").write_text("{}")
    (tmp_path / "a/text_encoder/adapter_config.json").write_text("{}")
    assert load(tmp_path / "a").identity == before
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").identity == before
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert load(tmp_path / "link").identity == before


def test_an_autoencoder_does_not_depend_on_the_denoiser_beside_it(tmp_path):
    small.save(tmp_path)
    space = small.load(tmp_path, "autoencoder")
    whole = small.load(tmp_path)
    small.unet(seed=1).save_pretrained(tmp_path / "unet")
    assert small.load(tmp_path, "autoencoder").identity == space.identity
    assert len({space.identity, whole.identity}) == 2
    small.autoencoder(seed=1).save_pretrained(tmp_path / "vae")
    assert small.load(tmp_path, "autoencoder").identity != space.identity


def test_what_lies_in_the_cache_does_not_choose_what_is_read(hub, tmp_path):
    wanted = load(hub)
    cached = tmp_path / "local/unet"
    text_models.unet(8).half().save_pretrained(cached, variant="fp16")
    assert load("someone/prior").identity == wanted.identity


def break_weights(folder: Path, how: str) -> None:
    shards = sorted(folder.glob("*-of-*"))
    if how == "lost":
        shards[0].unlink()
    elif how == "all lost":
        for shard in shards:
            shard.unlink()
    elif how == "pointer":
        shards[0].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif how == "cut":
        shards[0].write_bytes(shards[0].read_bytes()[:100])
    elif how == "empty":
        shards[0].write_bytes(b"")
    else:
        index = next(folder.glob("*.index.json"))
        named = json.loads(index.read_text())
        key = next(iter(named["weight_map"]))
        named["weight_map"][key] = {"outside": "../x.safetensors"}.get(how, 3)
        index.write_text(json.dumps(named if how != "no map" else []))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("lost", "1 of the 31 shards in .* are not there .*; fetch them again"),
        ("all lost", "shards in .* are not there .*; fetch them again"),
        ("pointer", "is a pointer of Git LFS and not the weights; run `git lfs pull`"),
        ("cut", "cannot load the prior's .*unet: "),
        ("empty", "cannot load the prior's .*unet: "),
        ("outside", "names no shards of the folder that it lies in"),
        ("number", "cannot load the prior's .*unet: "),
        ("no map", "index.json holds a list, not keys"),
    ],
)
def test_broken_shards_are_one_line(tmp_path, how, told):
    small.save(tmp_path)
    write(small.unet(), tmp_path / "unet", "shards")
    break_weights(tmp_path / "unet", how)
    with pytest.raises(InputError, match=told) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    small.save(tmp_path)
    (tmp_path / f"{UNET}.safetensors").unlink()
    torch.save({"conv_in.weight": Path("/")}, tmp_path / f"{UNET}.bin")
    with pytest.raises(InputError, match=r"cannot load the prior's .*unet"):
        load(tmp_path)


def test_a_network_without_weights_says_how_they_are_called(tmp_path):
    small.save(tmp_path)
    (tmp_path / f"{UNET}.safetensors").rename(tmp_path / f"{UNET}.int8.safetensors")
    with pytest.raises(InputError, match=r"no weights; they are diffusion_pytorch_model\.safet"):
        load(tmp_path)


def test_the_run_folder_of_a_prior_says_where_the_prior_lies(tmp_path):
    (tmp_path / "mine" / "prior" / "vae").mkdir(parents=True)
    with pytest.raises(InputError, match=r"which lies in it; name .*/mine/prior\.$"):
        prior_folder(str(tmp_path / "mine"))
    assert prior_folder(str(tmp_path / "mine" / "prior")) == tmp_path / "mine" / "prior"
