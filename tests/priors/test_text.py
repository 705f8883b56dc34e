"""Text-conditional priors: Stable Diffusion and SDXL, against diffusers' own pipelines."""

import json

import pytest
import torch
from diffusers import DDIMScheduler

from latentdc.errors import InputError
from latentdc.priors.denoisers import TextDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from tests.priors import small, text_models

PROMPTS = {"feline": "a cat", "n01440764": "a tench", "c": "c"}


def load(folder, **options) -> DiffusionPrior:
    prior = small.load(folder, **{"prompts": PROMPTS, **options})
    assert isinstance(prior, DiffusionPrior) and isinstance(prior.denoiser, TextDenoiser)
    return prior


def draws(prior, count):
    source = torch.Generator().manual_seed(0)
    return torch.randn(2, count, *prior.latent_shape, generator=source)


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def plain_loop(pipeline, prior, z, noise, predict):
    """The image of diffusers' DDIM, which starts where the encoded image is drowned in noise."""
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(len(prior.schedule.timesteps))
    start = scheduler.alphas_cumprod[scheduler.timesteps[0]]
    x = start.sqrt() * z + (1 - start).sqrt() * noise
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, t), t, x).prev_sample
    return pipeline.vae.decode(x / 0.5 + 0.1).sample.clamp(-1, 1)


@pytest.mark.smoke
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_stable_diffusion_decodes_as_diffusers_own_loop_does(tmp_path, prediction):
    pipeline = text_models.save_sd(tmp_path, prediction)
    prior = load(tmp_path, steps=3, guidance=4.0, skip="none")
    texts, null = pipeline.encode_prompt(list(PROMPTS.values()), "cpu", 1, True)
    c = prior.condition(torch.tensor([0, 1, 2]))
    torch.testing.assert_close(c, texts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(prior.denoiser.null, null[:1], rtol=1e-5, atol=1e-6)

    def predict(x, t):
        without = pipeline.unet(x, t, encoder_hidden_states=null).sample
        return without + 4 * (pipeline.unet(x, t, encoder_hidden_states=texts).sample - without)

    z, noise = draws(prior, 3)
    wanted = plain_loop(pipeline, prior, z, noise, predict)
    torch.testing.assert_close(prior.decode(z, c, noise), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.smoke
@pytest.mark.parametrize("zeros", [True, False])
@torch.no_grad()
def test_sdxl_decodes_as_diffusers_own_loop_does(tmp_path, zeros):
    pipeline = text_models.save_sdxl(tmp_path)
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    change(tmp_path / "model_index.json", force_zeros_for_empty_prompt=zeros)
    prior = load(tmp_path, steps=3, guidance=4.0, skip="none")
    texts, null, pooled, null_pooled = pipeline.encode_prompt(list(PROMPTS.values()), device="cpu")
    c = prior.condition(torch.tensor([0, 1, 2]))
    torch.testing.assert_close(c[:, :-1], texts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c[:, -1, :5], pooled, rtol=1e-5, atol=1e-6)
    assert c.shape == (3, text_models.LENGTH + 1, 20) and c[:, -1, 5:].eq(0).all()
    assert (null == 0).all() == zeros
    times = pipeline._get_add_time_ids((8, 8), (0, 0), (8, 8), texts.dtype, 5).expand(3, -1)

    def predict(x, t):
        def under(tokens, last):
            added = {"text_embeds": last, "time_ids": times}
            made = pipeline.unet(x, t, encoder_hidden_states=tokens, added_cond_kwargs=added)
            return made.sample

        without = under(null, null_pooled)
        return without + 4 * (under(texts, pooled) - without)

    z, noise = draws(prior, 3)
    wanted = plain_loop(pipeline, prior, z, noise, predict)
    torch.testing.assert_close(prior.decode(z, c, noise), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_gradients_reach_z_and_every_token(tmp_path, kind, memory):
    getattr(text_models, f"save_{kind}")(tmp_path)
    prior = load(tmp_path, steps=2, memory=memory, chunk=1)
    c = prior.condition(torch.tensor([0, 2])).detach().requires_grad_()
    z, noise = draws(prior, 2)
    z.requires_grad_()
    prior.decode(z, c, noise).square().sum().backward()
    assert z.grad.isfinite().all() and (z.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert c.grad.isfinite().all() and (c.grad.abs().sum(dim=2) > 0).all()
    if kind == "sdxl":  # the padding of the pooled embedding stays what it is
        assert c.grad[:, -1, 5:].eq(0).all()


def test_classes_are_those_of_the_prompts_and_the_encoders_are_gone(tmp_path):
    text_models.save_sdxl(tmp_path)
    prior = load(tmp_path)
    assert prior.class_names == tuple(PROMPTS)
    modules = [v for v in vars(prior.denoiser).values() if isinstance(v, torch.nn.Module)]
    assert modules == [prior.denoiser.network]


def test_sdxls_decoder_stays_in_float32(tmp_path):
    text_models.save_sdxl(tmp_path)
    prior, seen = load(tmp_path, steps=2, precision="bf16"), []
    prior.denoiser.network.conv_in.register_forward_hook(lambda *a: seen.append(a[-1].dtype))
    decoder = prior.autoencoder.autoencoder.decoder
    decoder.conv_in.register_forward_hook(lambda *a: seen.append(a[-1].dtype))
    z, noise = draws(prior, 1)
    with torch.autocast("cpu", torch.bfloat16):  # as inside of a launched loop
        prior.decode(z, prior.condition(torch.tensor([0])), noise)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_half_precision_weights_serve_where_there_are_no_others(tmp_path):
    pipeline = text_models.save_sd(tmp_path)
    for path in list(tmp_path.rglob("*.safetensors")):
        path.unlink()
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path, variant="fp16")
    text_models.tokenizer(tmp_path / "tokenizer", pad="<|endoftext|>")
    prior = load(tmp_path)
    assert prior.denoiser.network.dtype == prior.autoencoder.autoencoder.dtype == torch.float32
    wanted = pipeline.unet.conv_in.weight.float()
    assert prior.denoiser.network.conv_in.weight.equal(wanted)


@pytest.mark.smoke
def test_on_meta_shapes_are_known_without_weights_tokenizers_or_prompts(tmp_path):
    text_models.save_sdxl(tmp_path)
    for path in [*tmp_path.rglob("*.safetensors"), *tmp_path.glob("tokenizer*/*")]:
        path.unlink()
    prior = load(tmp_path, prompts=None, device="meta")
    labels = torch.zeros(4, dtype=torch.long, device="meta")
    c = prior.condition(labels)
    assert c.shape == (4, text_models.LENGTH + 1, 20)
    z = torch.empty(4, *prior.latent_shape, device="meta")
    assert prior.decode(z, c, z).shape == (4, 3, 8, 8)


def test_a_text_prior_without_prompts_says_what_it_needs(tmp_path):
    text_models.copy_sd(tmp_path)
    with pytest.raises(InputError, match=r"load_prior needs `class_names`, from which its"):
        load(tmp_path, prompts=None)


def test_a_prompt_is_never_cut(tmp_path):
    text_models.copy_sd(tmp_path)
    with pytest.raises(InputError, match=r"has 13 tokens, and the prior reads 10; shorten"):
        load(tmp_path, prompts={"long": "abcdefghijklm"})


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("text_encoder", {"model_type": "t5"}, "is a t5; texts are encoded by"),
        ("unet", {"cross_attention_dim": 9}, "attends to tokens of width 9.*8 wide"),
        ("unet", {"class_embed_type": "projection"}, "it wants more than a text"),
        ("unet", {"num_class_embeds": 5}, "num_class_embeds=5: it wants more than a text"),
        ("unet", {"time_cond_proj_dim": 8}, "time_cond_proj_dim=.*: it wants more than"),
        ("unet", {"addition_embed_type": "text"}, "addition_embed_type=text: it wants more"),
        ("unet", {"addition_embed_type": "text_time"}, "lacks text_encoder_2"),
        ("unet", {"encoder_hid_dim": 8}, "encoder_hid_dim.*: it wants more than"),
        (
            "unet",
            {"encoder_hid_dim_type": "ip_image_proj"},
            "encoder_hid_dim.*: it wants more than",
        ),
        ("unet", {"dual_cross_attention": True}, "dual_cross_attention=True: it wants more"),
        ("unet", {"attention_type": "gated"}, "attention_type=gated: it wants more"),
        ("unet", {"cross_attention_dim": [8, 8]}, r"attends to tokens of width \[8, 8\]"),
        ("unet", {"in_channels": 5}, "takes 5 channels and predicts 2, .* as for inpainting"),
        (
            "unet",
            {"in_channels": 4, "out_channels": 4},
            "takes 4 channels and predicts 4, of latents of 2",
        ),
        ("unet", {"out_channels": 3}, "takes 2 channels and predicts 3, of latents of 2"),
        ("unet", {"_class_name": "UNet3DConditionModel"}, "is a UNet3DConditionModel; known are"),
        ("unet", {"_class_name": "FluxTransformer2DModel"}, "is a FluxTransformer2DModel; known"),
        ("unet", {"_class_name": "Transformer2DModel"}, "is no DiT, which takes class labels"),
        ("unet", {"_class_name": ["UNet2DModel"]}, "known are a UNet2DConditionModel"),
        ("scheduler", {"prediction_type": "sample"}, "predicts sample"),
    ],
)
def test_models_that_are_conditioned_otherwise_are_refused(tmp_path, part, values, told):
    text_models.copy_sd(tmp_path)
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    change(tmp_path / part / name, **values)
    for device in ("cpu", "meta"):
        with pytest.raises(InputError, match=told):
            load(tmp_path, device=device)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"num_class_embeds": 3}, "num_class_embeds=3: it wants more than a class token"),
        ({"addition_embed_type": "text_time"}, "text_time: it wants more than a class token"),
        ({"time_cond_proj_dim": 8}, "time_cond_proj_dim=.*: it wants more than"),
        ({"time_cond_proj_dim": 0}, "time_cond_proj_dim=.*: it wants more than"),
        ({"num_class_embeds": 0}, "num_class_embeds=0: it wants more than a class token"),
        ({"class_embeddings_concat": True}, "class_embeddings_concat=True: it wants more than"),
        ({"encoder_hid_dim_type": "text_proj"}, "encoder_hid_dim.*: it wants more than"),
        ({"cross_attention_dim": 8}, "tokens of width 8, and its class_embedding makes them 6"),
        ({"in_channels": 5}, "takes 5 channels and predicts 2"),
    ],
)
def test_a_class_token_alone_is_fed(tmp_path, values, told):
    small.save(tmp_path)
    change(tmp_path / "unet/config.json", **values)
    with pytest.raises(InputError, match=told):
        load(tmp_path, denoiser="random")


@pytest.mark.parametrize("kind", ["timestep", "identity"])
def test_an_embedding_from_elsewhere_is_not_a_class(tmp_path, kind):
    small.save(tmp_path)
    change(tmp_path / "unet/config.json", _class_name="UNet2DModel", class_embed_type=kind)
    with pytest.raises(InputError, match=f"class_embed_type={kind}: it wants an embedding that"):
        load(tmp_path, guidance=1)


def test_sdxls_refiner_is_refused(tmp_path):
    text_models.save_sdxl(tmp_path)
    change(tmp_path / "unet/config.json", projection_class_embeddings_input_dim=5 + 5 * 4)
    with pytest.raises(InputError, match=r"takes 25 numbers beside the tokens, .* 29 here"):
        load(tmp_path)


def test_a_pixart_transformer_of_an_older_diffusers_is_no_dit(tmp_path):
    small.autoencoder().save_pretrained(tmp_path / "vae")
    small.dit().save_pretrained(tmp_path / "transformer")
    small.build_scheduler().save_pretrained(tmp_path / "scheduler")
    change(
        tmp_path / "transformer/config.json",
        _class_name="Transformer2DModel",
        norm_type="ada_norm_single",
        num_embeds_ada_norm=1000,
        caption_channels=4096,
    )
    with pytest.raises(InputError, match="is no DiT, which takes class labels alone"):
        load(tmp_path)


def test_flow_matching_is_not_guessed(tmp_path):
    text_models.copy_sd(tmp_path)
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(flow))
    with pytest.raises(InputError, match="this prior is a flow, and published flows differ in"):
        load(tmp_path)


PUBLISHED = {  # parameters of UNet and autoencoder, and shape of a condition
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (859_520_964, (77, 768)),
    "stabilityai/stable-diffusion-2-1-base": (865_910_724, (77, 1024)),
    "stabilityai/sdxl-turbo": (2_567_463_684, (78, 2048)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_outlines_have_the_published_sizes(name):
    prior = load(name, resolution=512, prompts=None, device="meta")
    parameters, shape = PUBLISHED[name]
    assert sum(p.numel() for p in prior.denoiser.network.parameters()) == parameters
    assert sum(p.numel() for p in prior.autoencoder.autoencoder.parameters()) == 83_653_863
    assert prior.condition(torch.zeros(1, dtype=torch.long, device="meta")).shape[1:] == shape


def test_the_autoencoder_can_be_another(tmp_path):
    pipeline = text_models.save_sd(tmp_path / "prior")
    other = small.autoencoder(seed=1)
    other.save_pretrained(tmp_path / "other")
    own = load(tmp_path / "prior", steps=2)
    taken = load(tmp_path / "prior", steps=2, autoencoder=str(tmp_path / "other"))
    weights = taken.autoencoder.autoencoder.state_dict()
    assert all(weights[key].equal(tensor) for key, tensor in other.state_dict().items())
    assert not weights["decoder.conv_in.weight"].equal(pipeline.vae.decoder.conv_in.weight)
    assert own.identity != taken.identity
