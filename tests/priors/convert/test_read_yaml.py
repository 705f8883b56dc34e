import pytest

from latentdc.errors import InputError
from latentdc.priors.convert.shape import read_yaml
from tests.priors.convert import yamls


def test_the_shape_of_the_papers_prior_is_read(tmp_path):
    model = read_yaml(yamls.write(yamls.CIN256, tmp_path / "cin256-v2.yaml"))
    assert model.unet.widths == (192, 384, 576, 960)
    assert model.unet.attends == (False, True, True, True)
    assert [model.unet.heads(width) for width in model.unet.widths] == [1, 1, 1, 1]
    assert model.first_stage.coder.widths == (128, 256, 512)
    assert model.first_stage.coder.attends == (False, False, False)
    assert model.first_stage.n_embed == 8192 and model.classes.n_classes == 1001
    process = model.process
    assert (process.linear_start, process.linear_end) == (0.0015, 0.0195)
    assert process.scale_factor == 1.0


def test_a_model_without_classes_is_read(tmp_path):
    model = read_yaml(yamls.write(yamls.UNCONDITIONAL_KL, tmp_path / "ffhq.yaml"))
    assert model.classes is None and model.first_stage.n_embed is None
    assert model.process.scale_by_std and model.unet.heads(64) == 4
    assert model.first_stage.coder.attends == (False, True)


UNET, STAGE = "unet_config__params__", "first_stage_config__params__"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{UNET}model_chanels": 32}, "unknown key 'model_chanels'; did you mean"),
        ({f"{UNET}model_channels": "many"}, "model_channels takes a whole number, got 'many'"),
        ({f"{UNET}model_channels": None}, "unet_config.params: it lacks model_channels"),
        ({f"{UNET}model_channels": 48}, r"multiple of 32, got the width 48"),
        ({f"{UNET}channel_mult": []}, r"at least one level .* the levels \[\]"),
        ({f"{STAGE}ddconfig__num_res_blocks": 0}, r"ddconfig has positive numbers"),
        ({f"{UNET}resblock_updown": True}, "resblock_updown is True; only False"),
        ({f"{UNET}use_new_attention_order": True}, "use_new_attention_order is True"),
        ({f"{UNET}num_heads": 5}, r"divides the widths .*\(384, 576, 960\)\), got 5"),
        ({f"{UNET}context_dim": 64}, "context_dim=64 and embed_dim=512"),
        ({f"{UNET}in_channels": 4}, "the embed_dim of first_stage_config"),
        ({f"{STAGE}n_embed": None}, "VQModelInterface has the whole numbers embed_dim and n_embed"),
        ({f"{STAGE}ddconfig__double_z": True}, "ddconfig.double_z is True; only False"),
        ({f"{STAGE}ddconfig__attn_type": "linear"}, "attn_type is linear; only vanilla"),
        ({"cond_stage_config": "__is_unconditional__"}, "an unconditional one neither"),
        ({"cond_stage_config": "__is_first_stage__"}, "'__is_first_stage__'"),
        ({"cond_stage_config__target": "a.FrozenCLIPEmbedder"}, "in diffusers layout already"),
        ({"unet_config": None}, "there is no mapping unet_config"),
        ({"beta_schedule": "cosine"}, "beta_schedule takes 'linear', got 'cosine'"),
        ({"parameterization": "x0"}, "parameterization takes one of 'eps', 'v', got 'x0'"),
    ],
)
def test_what_a_yaml_cannot_be_is_one_line_with_its_file(tmp_path, changes, message):
    path = yamls.write(yamls.CIN256, tmp_path / "cin256-v2.yaml", **changes)
    with pytest.raises(InputError, match=rf"^cin256-v2.yaml: .*{message}"):
        read_yaml(path)


def test_what_is_no_yaml_of_a_model_is_one_line(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(InputError, match=r"cannot read .*a\.yaml"):
        read_yaml(path)
    for text in ("a: [1", "- 1\n- 2", "", "model: 3"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"cannot read|there is no mapping model"):
            read_yaml(path)
