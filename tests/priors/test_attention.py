import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from latentdc.priors.attention import OneToken
from latentdc.priors.denoisers import UNetDenoiser
from tests.priors import small


def inputs(count=3, tokens=1):
    source = torch.Generator().manual_seed(0)
    x = torch.randn(count, 2, 4, 4, generator=source, dtype=torch.float64)
    c = torch.randn(count, tokens, 6, generator=source, dtype=torch.float64)
    return x.requires_grad_(), c.requires_grad_()


def gradients(prediction, x, c):
    return torch.autograd.grad((prediction * torch.arange(16.0).view(4, 4)).sum(), (x, c))


def test_one_token_is_attended_to_as_by_the_plain_network():
    x, c = inputs()
    plain, short = small.unet().double().eval(), small.unet().double().eval()
    context = OneToken(short)
    wanted = plain(x, 401, encoder_hidden_states=c).sample
    found = short(x, 401, encoder_hidden_states=context(c)).sample
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    for one, other in zip(gradients(found, x, c), gradients(wanted, x, c), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)


def test_the_null_and_the_other_branch_share_one_call():
    x, c = (t.detach().float() for t in inputs())
    plain, denoiser = small.unet().eval(), UNetDenoiser(small.unet(), small.embedding())
    null = denoiser.null.expand_as(c)
    both = torch.cat([denoiser.prepare(denoiser.null).expand(3, -1, -1), denoiser.prepare(c)])
    found = denoiser(torch.cat([x, x]), torch.tensor(401), both)
    for part, condition in zip(found.chunk(2), (null, c), strict=True):
        wanted = plain(x, 401, encoder_hidden_states=condition).sample
        torch.testing.assert_close(part, wanted, rtol=1e-4, atol=1e-5)


def test_steps_spend_nothing_on_the_cross_attention():
    x, c = (t.detach().float() for t in inputs())
    plain, short = small.unet().eval(), small.unet().eval()
    with torch.no_grad():
        context = OneToken(short)(c)
    work = []
    for unet, states in ((plain, c), (short, context)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(x, 401, encoder_hidden_states=states)
        work.append(counter.get_total_flops())
    # per block: 2 * positions * width^2 for each of W_q and W_o, 2 * width * 6 for W_k and W_v,
    # 2 * positions * width for each of the two products of attention; 4 blocks (width, positions)
    spent = sum(
        2 * (positions * width**2 * 2 + 2 * width * 6 + 2 * positions * width)
        for width, positions in [(16, 4)] * 4
    )
    assert work[0] - work[1] == 3 * spent


def test_self_attention_is_torchs_fused_one(monkeypatch):
    called = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: called.append(0) or fused(*a, **k),
    )
    denoiser = UNetDenoiser(small.unet(), small.embedding())
    denoiser(torch.randn(1, 2, 4, 4), torch.tensor(401), denoiser.prepare(denoiser.null))
    assert called


def test_a_network_that_conditions_enter_otherwise_is_left_alone():
    other = UNet2DConditionModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("SimpleCrossAttnDownBlock2D",),
        up_block_types=("SimpleCrossAttnUpBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=6,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    assert not OneToken.possible(other)
    with pytest.raises(ValueError, match="otherwise than by plain cross-attention"):
        OneToken(other)
