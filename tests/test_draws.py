import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from latentdc.draws import choose, generator, global_draws, key_seed
from latentdc.networks.build import new_network
from latentdc.recipe.own import name_of
from latentdc.training import fit


def test_draws_neither_use_nor_move_the_global_stream():
    torch.manual_seed(1)
    mine = torch.rand(4, generator=generator(0, "z", 3))
    first = torch.rand(4)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(4), first)
    torch.manual_seed(2)
    assert torch.equal(torch.rand(4, generator=generator(0, "z", 3)), mine)


def test_seeds_are_the_same_in_every_process_and_release():
    assert key_seed(0, "z", 3) == 2724420917779299010


def test_numbers_of_numpy_and_torch_draw_what_pythons_draw():
    for number in (np.int64, np.uint8, torch.tensor):
        assert key_seed(number(5), "z", number(3)) == key_seed(5, "z", 3)


def test_every_key_and_their_order_matter():
    keys = [(0,), (1,), (0, "z"), (0, "c"), (0, "z", 1), (0, "z", 2), (0, 1, "z"), (0, "z", "1")]
    assert len({key_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= key_seed(*key) < 2**63 for key in keys)


def test_layers_are_initialised_from_their_keys_and_the_global_stream_goes_on():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with global_draws(0, "network"):
        first = nn.Linear(3, 3).weight
    assert torch.equal(torch.rand(2), expected)
    with global_draws(0, "network"):
        assert torch.equal(nn.Linear(3, 3).weight, first)
    with global_draws(1, "network"):
        assert not torch.equal(nn.Linear(3, 3).weight, first)


def test_threads_initialise_the_same_students_as_one_alone():
    both = threading.Barrier(1)

    def meet():
        with contextlib.suppress(threading.BrokenBarrierError):  # the other one is kept out
            both.wait(0.2)

    class Slow(nn.Module):
        """A student that draws in turns with another one, where a second thread makes one."""

        def __init__(self, num_classes, resolution):
            super().__init__()
            self.linear = nn.Linear(3 * resolution**2, num_classes)
            meet()
            nn.init.normal_(self.linear.bias)
            meet()

        def forward(self, images):
            return self.linear(images.flatten(1))

    def weights(seed):
        sizes = {"num_classes": 2, "resolution": 4, "seed": seed}
        return torch.cat([p.flatten() for p in new_network(name_of(Slow), **sizes).parameters()])

    alone = [weights(seed) for seed in (0, 1)]
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(weights, (0, 1)))
    assert all(map(torch.equal, together, alone))


def test_choose_repeats_nothing_and_takes_all_of_a_small_population():
    some = choose(10, 6, generator(0)).tolist()
    assert len(set(some)) == 6 and set(some) <= set(range(10))
    assert sorted(choose(3, 6, generator(0)).tolist()) == [0, 1, 2]


@pytest.fixture
def gpu(monkeypatch):
    """A generator that stands for the stream of a GPU, which torch seeds with the CPU's."""
    stream = torch.Generator()
    for name, does in {
        "is_initialized": lambda: True,
        "current_device": lambda: 0,
        "get_rng_state": lambda device: stream.get_state(),
        "set_rng_state": lambda state, device: stream.set_state(state),
        "manual_seed_all": stream.manual_seed,
    }.items():
        monkeypatch.setattr(torch.cuda, name, does)
    return stream


def test_the_stream_of_a_gpu_goes_on_after_layers_are_initialised(gpu):
    expected = torch.rand(2, generator=gpu.manual_seed(1))
    gpu.manual_seed(1)
    with global_draws(0, "network"):
        assert gpu.initial_seed() == key_seed(0, "network")
    assert torch.equal(torch.rand(2, generator=gpu), expected)


def test_dropout_on_a_gpu_is_drawn_by_key_whatever_is_drawn_between_the_steps(gpu):
    def drawn(between):
        network, values = nn.Linear(1, 1), []

        def loss(forward, _):
            values.append(torch.rand((), generator=gpu).item())
            return forward(torch.ones(1, 1)).sum()

        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        for _ in fit(network, range(3), loss, optimizer, dropout=(0, "test")):
            between()
        return values

    one = drawn(lambda: None)
    assert len(set(one)) == 3 and drawn(lambda: gpu.manual_seed(5)) == one
