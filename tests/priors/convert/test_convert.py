import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel

from latentdc.draws import generator
from latentdc.estimates import parameters
from latentdc.io import file_hash
from latentdc.priors.convert.__main__ import main
from latentdc.priors.convert.networks import FIRST_STAGE, UNET, build_scheduler
from latentdc.priors.convert.shape import LatentDiffusion, read_yaml
from latentdc.priors.convert.weights import build_parts
from latentdc.priors.denoisers import ClassEmbedding
from latentdc.priors.files import CONFIGS
from tests.priors.convert import reference, toy, yamls


def convert(folder: Path, yaml: dict, state: dict, *flags: str, **changes: object) -> Path:
    """Convert what is saved to `folder/model.ckpt` into `folder/out`."""
    checkpoint = toy.save(folder / "model.ckpt", state)
    config = yamls.write(yaml, folder / "model.yaml", **changes)
    main([str(checkpoint), "--config", str(config), str(folder / "out"), *flags])
    return folder / "out"


def refusal(capsys, *arguments: object, **options: object) -> str:
    with pytest.raises(SystemExit) as stop:
        convert(*arguments, **options)
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.count("\n") == 1
    return line


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "input", *shape))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_an_unconditional_unet_computes_the_same(tmp_path):
    state = toy.weights()
    out = convert(tmp_path, yamls.UNCONDITIONAL, state)
    x, t = draw(2, 3, 8, 8), torch.tensor([901, 3])
    converted = UNet2DModel.from_pretrained(out / "unet")
    expected = reference.unet(toy.inside(state, UNET), x, t, None, head_channels=16)
    close(converted(x, t).sample, expected)


@pytest.mark.smoke
@torch.no_grad()
def test_a_class_conditional_unet_computes_the_same(tmp_path):
    state = toy.weights(classes=4)
    out = convert(tmp_path, yamls.CONDITIONAL, state)
    x, t, c = draw(2, 3, 8, 8), torch.tensor([901, 3]), draw(2, 1, 6)
    converted = UNet2DConditionModel.from_pretrained(out / "unet")
    expected = reference.unet(toy.inside(state, UNET), x, t, c, head_channels=16)
    close(converted(x, t, encoder_hidden_states=c).sample, expected)
    embedding = ClassEmbedding.from_pretrained(out / "class_embedding")
    assert embedding.embedding.weight.equal(state["cond_stage_model.embedding.weight"])
    assert list(embedding.config["class_names"]) == ["class_0", "class_1", "class_2"]


@pytest.mark.smoke
@torch.no_grad()
def test_a_first_stage_with_a_codebook_computes_the_same(tmp_path):
    state = toy.weights()
    converted = VQModel.from_pretrained(convert(tmp_path, yamls.UNCONDITIONAL, state) / "vqvae")
    theirs = toy.inside(state, FIRST_STAGE)
    x, z = draw(2, 3, 16, 16), draw(2, 3, 8, 8)
    close(converted.encode(x).latents, reference.encode(theirs, x, levels=2, blocks=1))
    close(converted.decode(z).sample, reference.decode(theirs, z, levels=2, blocks=1))
    assert converted.config["scaling_factor"] == 1.0


@torch.no_grad()
def test_a_kl_first_stage_computes_the_same_with_its_measured_scale(tmp_path):
    state = toy.weights(codes=None) | {"scale_factor": torch.tensor(0.25)}
    out = convert(tmp_path, yamls.UNCONDITIONAL_KL, state)
    converted = AutoencoderKL.from_pretrained(out / "vae")
    theirs = toy.inside(state, FIRST_STAGE)
    x, z = draw(2, 3, 16, 16), draw(2, 3, 8, 8)
    mean = reference.encode(theirs, x, levels=2, blocks=1)[:, :3]
    close(converted.encode(x).latent_dist.mode(), mean)
    close(converted.decode(z).sample, reference.decode(theirs, z, levels=2, blocks=1))
    assert converted.config["scaling_factor"] == 0.25


def cin256(folder: Path) -> LatentDiffusion:
    return read_yaml(yamls.write(yamls.CIN256, folder / "cin256-v2.yaml"))


def test_the_papers_prior_has_its_published_size(tmp_path):
    parts = build_parts(cin256(tmp_path), 1.0, tuple(map(str, range(1000))))
    first_stage = parts["vqvae"].network
    halves = (first_stage.encoder, first_stage.quant_conv, first_stage.quantize)
    assert round(parameters(parts["unet"].network) / 1e6, 2) == 400.92
    assert round(sum(map(parameters, halves[:2])) / 1e6, 1) == 22.3
    assert parameters(halves[2]) == 8192 * 3
    assert round(parameters(first_stage.decoder) / 1e6, 1) == 33.0
    assert parameters(parts["class_embedding"].network) == 1001 * 512


@pytest.mark.parametrize(
    ("prior", "yaml", "classes"), [("cin256", yamls.CIN256, 1000), ("ffhq", yamls.FFHQ, 0)]
)
def test_the_outline_that_dry_runs_count_on_is_of_the_same_networks(tmp_path, prior, yaml, classes):
    model = read_yaml(yamls.write(yaml, tmp_path / "model.yaml"))
    parts = build_parts(model, 1.0, tuple(map(str, range(classes))) or None)
    assert {path.name for path in (CONFIGS / prior).iterdir()} == {*parts, "scheduler"}
    for name, part in parts.items():
        kind = type(part.network)
        with torch.device("meta"):
            outline = kind.from_config(kind.load_config(CONFIGS / prior / name))
        shapes = [
            {key: tensor.shape for key, tensor in network.state_dict().items()}
            for network in (outline, part.network)
        ]
        assert shapes[0] == shapes[1]
        assert name == "class_embedding" or settings(outline) == settings(part.network)
    walked = DDIMScheduler.from_config(DDIMScheduler.load_config(CONFIGS / prior / "scheduler"))
    assert settings(walked) == settings(build_scheduler(model.process))


def settings(component) -> dict:
    """Of a config, which says more than the shapes of weights, such as heads and scale."""
    named = {key: value for key, value in component.config.items() if not key.startswith("_")}
    return json.loads(json.dumps(named))


def test_every_key_that_does_not_fit_is_named_in_one_line(tmp_path, capsys):
    state = toy.weights()
    lost = f"{UNET}middle_block.1.qkv.weight"
    codebook = f"{FIRST_STAGE}quantize.embedding.weight"
    long = f"{UNET}out.2.bias"
    del state[lost], state[codebook]
    state |= {
        long: torch.zeros(4),
        f"{UNET}label_emb.weight": torch.zeros(1),
        "extra": torch.ones(1),
    }
    line = refusal(capsys, tmp_path, yamls.UNCONDITIONAL, state)
    assert f"2 missing: {codebook}, {lost}; 2 unexpected: extra, {UNET}label_emb.weight" in line
    assert f"1 misshapen: {long} is [4] where the YAML says [3]." in line
    assert not (tmp_path / "out").exists()


def test_a_yaml_of_another_model_is_refused(tmp_path, capsys):
    state = toy.weights()
    wide = {"unet_config__params__model_channels": 64}
    line = refusal(capsys, tmp_path, yamls.UNCONDITIONAL, state, **wide)
    assert (
        f"{UNET}conv_in" not in line and f"{UNET}input_blocks.0.0.weight is [32, 3, 3, 3]" in line
    )
    assert "1 misshapen" in refusal(
        capsys,
        tmp_path,
        yamls.UNCONDITIONAL,
        state,
        first_stage_config__params__n_embed=32,
    )


def test_the_noise_schedule_must_be_the_checkpoints(tmp_path, capsys):
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    state = toy.weights() | {"alphas_cumprod": (1 - betas).cumprod(0).float()}
    assert convert(tmp_path, yamls.UNCONDITIONAL, state).is_dir()
    line = refusal(capsys, tmp_path / "out", yamls.UNCONDITIONAL, state, linear_end=0.0155)
    assert "alphas_cumprod (1000, ending at 0.000142) is not what timesteps" in line


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (FIRST_STAGE, "is no latent diffusion model: it has no UNet (model.diffusion_model....)"),
        (UNET, "it has no first stage (first_stage_model....), but"),
    ],
)
def test_another_kind_of_checkpoint_is_named(tmp_path, capsys, keep, message):
    state = {key: tensor for key, tensor in toy.weights().items() if key.startswith(keep)}
    assert message in refusal(capsys, tmp_path, yamls.UNCONDITIONAL, state)


def averages(state: dict) -> dict:
    names = {k: f"model_ema.{k.removeprefix('model.').replace('.', '')}" for k in state}
    return {names[k]: tensor + 1 for k, tensor in state.items() if k.startswith(UNET)}


def test_averaged_weights_are_taken_if_asked_for(tmp_path, capsys):
    state = toy.weights()
    both = state | averages(state) | {"model_ema.decay": torch.tensor(0.9999)}
    last = convert(tmp_path, yamls.UNCONDITIONAL, both)
    assert "left out: averaged weights of the UNet" in capsys.readouterr().out
    (tmp_path / "ema").mkdir()
    mean = convert(tmp_path / "ema", yamls.UNCONDITIONAL, both, "--ema")
    before, after = (UNet2DModel.from_pretrained(x / "unet").state_dict() for x in (last, mean))
    for key in before:
        torch.testing.assert_close(after[key], before[key] + 1)
    (tmp_path / "without").mkdir()
    line = refusal(capsys, tmp_path / "without", yamls.UNCONDITIONAL, state, "--ema")
    assert "--ema: the checkpoint has no averages" in line


def test_the_card_says_where_the_prior_comes_from_and_what_is_not_in_it(tmp_path):
    state = toy.weights(classes=4) | {
        "betas": torch.zeros(1000),
        f"{FIRST_STAGE}loss.discriminator.weight": torch.zeros(3),
    }
    out = convert(tmp_path, yamls.CONDITIONAL, state)
    card = (out / "README.md").read_text()
    assert file_hash(tmp_path / "model.ckpt") in card and file_hash(tmp_path / "model.yaml") in card
    assert "`latentdc convert-prior model.ckpt --config model.yaml out`" in card
    assert "the first stage's training loss (1 tensors)" in card and "global_step" in card
    assert "| scaling factor | 0.5 |" in card and "| classes | 3," in card
    index = json.loads((out / "model_index.json").read_text())
    assert index["vqvae"] == ["diffusers", "VQModel"]


def test_classes_get_names_from_a_file_or_imagenets_ids(tmp_path, capsys):
    names = tmp_path / "classes.txt"
    names.write_text("cat\ndog\ncow\n")
    state = toy.weights(classes=4)
    out = convert(tmp_path, yamls.CONDITIONAL, state, "--classes", str(names))
    embedding = ClassEmbedding.from_pretrained(out / "class_embedding")
    assert list(embedding.config["class_names"]) == ["cat", "dog", "cow"]
    (tmp_path / "b").mkdir()
    names.write_text("cat\ncat\n")
    line = refusal(capsys, tmp_path / "b", yamls.CONDITIONAL, state, "--classes", str(names))
    assert "has 2 lines, 1 different names" in line and "give 3 names" in line
    line = refusal(
        capsys,
        tmp_path / "b",
        yamls.CONDITIONAL,
        state,
        cond_stage_config__params__n_classes=1000,
    )
    assert "ImageNet without a row for no class" in line
    big = toy.weights(classes=1001)
    out = convert(tmp_path / "b", yamls.CONDITIONAL, big, cond_stage_config__params__n_classes=1001)
    embedding = ClassEmbedding.from_pretrained(out / "class_embedding")
    ids = embedding.config["class_names"]
    assert (len(ids), ids[0], ids[701], ids[999]) == (1000, "n01440764", "n03888257", "n15075141")
    line = refusal(capsys, tmp_path / "b", yamls.UNCONDITIONAL, state, "--classes", str(names))
    assert "exists and is not an empty folder" in line
