import pytest
import torch

from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.memory import (
    Needs,
    Plan,
    choose_plan,
    describe_plan,
    fixed_plan,
    free_bytes,
    kept_bytes,
)
from tests.priors import small


def test_kept_bytes_are_those_of_the_tensors_that_backward_reads():
    x, weight = torch.ones(10, 10, requires_grad=True), torch.nn.Parameter(torch.ones(10, 10))
    assert kept_bytes(lambda: x.exp().sin() @ weight) == 2 * 400  # exp's result, sin's argument
    assert kept_bytes(lambda: (x @ x).cos() + x) == 2 * 400  # x, once; cos's argument


def test_everything_is_kept_where_it_fits_in_its_share():
    needs = Needs(whole=100, largest=20)
    assert choose_plan(needs, images=6, free=1000) == Plan("fast")
    assert choose_plan(needs, images=7, free=1000) == Plan("replay", 7)  # 7 * 20 fit
    assert choose_plan(needs, images=70, free=1000) == Plan("replay", 30)
    assert choose_plan(needs, images=7, free=1) == Plan("replay", 1)


def test_a_choice_of_ones_own_is_taken_as_it_is():
    assert fixed_plan("auto", 10) is None
    assert fixed_plan("fast", 10) == Plan("fast")
    assert fixed_plan("low", 3) == Plan("low", 3)
    assert Plan("fast").together(7) == 7 and Plan("low", 3).together(7) == 3


def test_the_line_names_mode_images_and_sizes():
    line = describe_plan(Plan("replay", 30), Needs(2_000_000, 1), images=70, free=10**9)
    assert line == "memory: replay (30 at a time) for 70 images of 2 MB each, 1.0 GB free"


@pytest.mark.parametrize("options", [{}, {"truncate": 2}, {"skip": "mean"}])
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
