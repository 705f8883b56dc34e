from dataclasses import replace

import pytest
import torch
from torch import nn

from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import ClassDenoiser, without_table
from latentdc.priors.memory import (
    Needs,
    Plan,
    choose_plan,
    describe_plan,
    fixed_plan,
    free_bytes,
    kept_bytes,
    run_steps,
)
from tests.priors import small


def test_kept_bytes_are_those_of_the_tensors_that_backward_reads():
    x, weight = torch.ones(10, 10, requires_grad=True), nn.Parameter(torch.ones(10, 10))
    assert kept_bytes(lambda: x.exp().sin() @ weight) == 2 * 400  # exp's result, sin's argument
    assert kept_bytes(lambda: (x @ x).cos() + x) == 2 * 400  # x, once; cos's argument


def test_attention_is_counted_alike_with_weights_and_without():
    def needs(device):
        prior = small.prior()
        network, table = without_table(small.dit())
        prior.autoencoder.autoencoder.to(device)
        prior.denoiser = ClassDenoiser(network.to(device), table.to(device))
        prior.timesteps = {t: time.to(device) for t, time in prior.timesteps.items()}
        return prior.needs()

    assert needs("meta") == needs("cpu")


def test_attention_of_torch_itself_is_counted_with_all_of_its_arguments():
    """It tells by position what nn.functional names; with a mask, and several heads to a key."""

    def kept(device):
        x, mask = torch.ones(2, 5, 8, device=device), torch.zeros(5, 5, device=device)
        layer = nn.MultiheadAttention(8, 2, batch_first=True, device=device)
        return kept_bytes(lambda: layer(x, x, x, attn_mask=mask, need_weights=False)[0])

    assert kept("meta") == kept("cpu") > 0
    query = torch.ones(2, 4, 5, 8, device="meta", requires_grad=True)
    key, attend = query[:, :2], nn.functional.scaled_dot_product_attention
    assert kept_bytes(lambda: attend(query, key, key, enable_gqa=True)) > 0


NEEDS = Needs(step=20, calls=4, decoder=20)  # 100 of an image


def test_everything_is_kept_where_it_fits_in_its_share():
    assert choose_plan(NEEDS, images=6, free=1000) == Plan("fast")
    assert choose_plan(NEEDS, images=6, free=1000, ipc=2) == Plan("fast")


def test_where_it_does_not_some_classes_are_kept_at_a_time_in_groups_of_one_size():
    groups = {8: 4, 10: 6, 12: 6, 14: 6, 16: 6, 24: 6}  # 8 images as 4 and 4, not as 6 and 2
    found = {n: choose_plan(NEEDS, images=n, free=1000, ipc=2) for n in groups}
    assert found == {n: Plan("fast", group=size) for n, size in groups.items()}
    assert choose_plan(NEEDS, images=8, free=300, ipc=1) == Plan("fast", group=1)


def test_where_a_class_does_not_fit_some_of_its_steps_are_kept():
    plan = choose_plan(NEEDS, images=100, free=1000, ipc=10)
    assert plan == Plan("mixed", chunk=5, decoder_chunk=1, group=10, kept_steps=29)
    assert plan.held(NEEDS, 100) == 600  # 29 steps, and the decoder of an image
    assert list(plan.kept(10, 4)) == [3, 2]
    assert plan.sweeps(100, 4) == 3 - 25 / 40
    assert choose_plan(NEEDS, images=10, free=1000) == replace(plan, group=None)
    assert choose_plan(replace(NEEDS, decoder=400), images=10, free=1000).kept_steps == 10
    few = choose_plan(NEEDS, images=100, free=1000)  # a chunk computes a step again beside all kept
    assert few == Plan("mixed", chunk=7, decoder_chunk=1, kept_steps=23)
    assert few.held(NEEDS, 100) == 600


def test_where_hardly_any_step_fits_none_is_kept():
    assert choose_plan(NEEDS, images=1000, free=1000) == Plan("low", 30)
    assert choose_plan(NEEDS, images=7, free=1) == Plan("low", 1)
    assert choose_plan(NEEDS.of_one_step(), images=70, free=1000) == Plan("low", 30)
    assert choose_plan(NEEDS.of_one_step(), images=30, free=1000) == Plan("fast")
    assert choose_plan(Needs(step=0, calls=0, decoder=20), images=70, free=1000) == Plan("low", 30)


def test_a_large_memory_leaves_a_smaller_share_to_the_objective():
    needs = replace(NEEDS, step=10**9)
    held = [choose_plan(needs, 100, int(free)).held(needs, 100) for free in (16e9, 24e9, 80e9)]
    assert held[0] <= 0.6 * 16e9 and held[1] <= 16e9 and 67e9 < held[2] <= 0.85 * 80e9


def test_1000_images_of_the_size_of_dit_xl_take_2_4_sweeps_at_80_gb_at_most():
    """As counted on the networks of `facebook/DiT-XL-2-256`, beside 3 GB of weights."""
    needs = Needs(step=933_087_232, calls=10, decoder=1_491_906_048)
    plan = choose_plan(needs, 1000, int(77e9), ipc=10)
    assert plan.memory == "mixed" and plan.group == 10
    assert plan.held(needs, 1000) < 66e9
    assert plan.sweeps(1000, 10) <= 2.4


def test_sweeps_count_the_steps_that_are_kept():
    assert Plan("fast", group=2).sweeps(9, 4) == 2 and Plan("low", 3).sweeps(9, 4) == 3
    mixed = Plan("mixed", chunk=2, group=4, kept_steps=10)
    assert list(mixed.kept(4, 4)) == [3, 2] and list(mixed.kept(1, 4)) == [4]
    assert mixed.sweeps(9, 4) == 3 - (10 + 10 + 4) / 36
    assert list(Plan("low", 2).kept(3, 4)) == [0, 0] and list(Plan("fast").kept(3, 4)) == [None]


def test_a_choice_of_ones_own_is_taken_as_it_is():
    assert fixed_plan("auto", 10) is None
    assert fixed_plan("fast", 10) == Plan("fast")
    assert fixed_plan("low", 3) == Plan("low", 3)
    assert Plan("fast").together(7) == 7 and Plan("low", 3).together(7) == 3
    assert Plan("low", 3).decoded(7) == 3 and Plan("mixed", 3, 2).decoded(7) == 2


def test_the_line_names_mode_images_and_sizes():
    needs = Needs(step=4 * 10**5, calls=4, decoder=4 * 10**5)
    line = describe_plan(Plan("low", 30), needs, images=70, free=10**9)
    assert line == "low (30 at a time) for 70 images of 2 MB each, 1.0 GB free"
    line = describe_plan(Plan("mixed", 1, 1, 10, 20), needs, images=70, free=10**9)
    assert line.startswith(
        "mixed (10 at a time, activations of 20 of their 40 denoising steps kept, 2.50 "
        "sweeps of the denoiser) for 70 images"
    )
    line = describe_plan(Plan("fast", group=35), needs, images=70, free=10**9)
    assert line.startswith("fast (keeps all activations, 35 at a time) for 70 images")


@pytest.mark.parametrize("options", [{}, {"skip": "mean"}])
def test_needs_foresee_what_a_whole_decode_keeps(options):
    prior = small.prior(steps=5, **options)
    z = torch.zeros(1, *prior.latent_shape, requires_grad=True)
    c = prior.condition(torch.tensor([0])).detach().requires_grad_()
    really = kept_bytes(lambda: prior.decode(z, c, torch.zeros_like(z)))
    assert prior.needs().whole == pytest.approx(really, rel=0.1)
    space = AutoencoderPrior(small.autoencoder(), resolution=8)
    assert space.needs().whole == space.needs().largest == kept_bytes(lambda: space.decode(z))


def test_processes_of_a_machine_share_its_memory(monkeypatch):
    alone = free_bytes(torch.device("cpu"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_bytes(torch.device("cpu")) == pytest.approx(alone / 4, rel=0.2)


WEIGHTS = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kept", "runs"), [(None, 3), (0, 6), (1, 5), (3, 3)])
def test_all_ways_follow_the_chain_rule_and_run_steps_once_or_once_more(kept, runs):
    calls = []
    draws = torch.Generator().manual_seed(1)
    x, a, b = (
        torch.randn(s, dtype=torch.float64, generator=draws).requires_grad_()
        for s in ((2, 4), (2, 4), (4,))
    )
    steps = [lambda x, w=w: calls.append(0) or torch.tanh(x @ w + a) * b for w in WEIGHTS]
    made = run_steps(steps, x, kept=kept)
    assert len(calls) == 3
    gradient = torch.arange(8, dtype=torch.float64).view(2, 4)
    found = torch.autograd.grad(made, (x, a, b), gradient)
    assert len(calls) == runs
    with torch.no_grad():
        xs, tanhs = [x], []
        for w in WEIGHTS:
            tanhs.append(torch.tanh(xs[-1] @ w + a))
            xs.append(tanhs[-1] * b)
        to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
        for w, tanh in zip(WEIGHTS.flip(0), tanhs[::-1], strict=True):
            to_b += (gradient * tanh).sum(0)
            before = gradient * b * (1 - tanh**2)
            to_a += before
            gradient = before @ w.T
    torch.testing.assert_close(found, (gradient, to_a, to_b))


def test_a_step_is_computed_again_in_the_precision_of_the_forward_pass():
    seen = []
    x = torch.ones(2, 2).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        made = run_steps([lambda x: seen.append((x @ x.T).dtype) or x * x], x, kept=0)
    made.sum().backward()
    assert seen == [torch.bfloat16] * 2
