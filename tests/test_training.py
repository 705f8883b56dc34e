"""Every training loop: a last batch of one image, dropout drawn by key, small gradients in fp16."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional

from latentdc.data.dataset import Dataset
from latentdc.draws import generator
from latentdc.errors import InputError, RunError
from latentdc.evaluate import EvalProtocol
from latentdc.evaluate.training import train_student
from latentdc.experts.training import ExpertTraining
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.networks.build import new_network
from latentdc.objectives.build import build_objective
from latentdc.preprocessing import Normalization
from latentdc.priors.pixel import PixelPrior
from latentdc.prune.scorer_training import ScorerTraining
from latentdc.recipe import Experts, Loops, Matching, ObjectiveSettings, Scorer, Trajectory
from latentdc.synthetic import SyntheticSet
from latentdc.training import (
    InfoBatch,
    RandomSubsets,
    fit,
    moving_average,
    needs_two_images,
    require_finite,
    split,
)
from tests.evaluate.toys import setting
from tests.experts.toys import Wanderers

NARROW = "torchvision/shufflenet_v2_x0_5"  # whose batch norms see one value per channel at 32 px
DROPS = "torchvision/mobilenet_v2"  # likewise, and it has dropout
NORMALIZATION = Normalization()


def noise(count: int, size: int = 32) -> Dataset:
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator(0)).byte()
    return Dataset(images, torch.arange(count) % 2, ("a", "b"), torch.arange(count), "noise")


def scorer(network: str, count: int, batch: int, size: int = 32, **keys):
    run = ScorerTraining(
        noise(count, size), Scorer(network=network, epochs=1, lr=0.1, batch=batch, **keys),
        normalization=NORMALIZATION, seed=3, accelerator=Accelerator(),
    )  # fmt: skip
    list(run.run())
    return run.classifier.network


def student(network: str, count: int, batch: int, size: int = 32, **keys):
    data, accelerator = noise(count, size), keys.pop("accelerator", Accelerator())
    chosen = EvalProtocol(name="toy", students=[network], epochs=2, batch=batch, **keys)
    return train_student(
        SyntheticSet.from_real(data),
        network,
        chosen.resolve(count, 2),
        setting(accelerator=accelerator),
        seed=3,
    )


def expert(network: str, count: int, batch: int, size: int = 32, **keys):
    data, accelerator = noise(count, size), keys.pop("accelerator", Accelerator())
    settings = Experts(epochs=1, batch=batch, augment="flip", **keys)
    return ExpertTraining(data, settings, network, NORMALIZATION, 3, accelerator).train(0)


def dc(network: str, ipc: int, batch: int, size: int = 32):
    """Two steps, between which the student is trained on `2 * ipc` images."""
    made = build_objective(
        ObjectiveSettings(
            kind="dc",
            network=network,
            augment=None,
            batch=2,
            loops=Loops(outer=2, inner=1, batch_syn=batch),
        ),
        num_classes=2,
        resolution=size,
        seed=3,
    )
    settings, context = Matching(steps=2, lr_z=0.1), Context(ipc=ipc)
    data = noise(4 * ipc, size)
    return match(data, PixelPrior(size), made, settings, context).images


def mtt(network: str, ipc: int, batch: int, size: int = 32):
    experts = Wanderers(network=network, num_classes=2, size=size)
    made = build_objective(
        ObjectiveSettings(
            kind="mtt",
            network=network,
            augment=None,
            trajectory=Trajectory(syn_steps=3, batch_syn=batch, expert_epochs=1, max_start_epoch=1),
        ),
        num_classes=2,
        resolution=size,
        normalization=NORMALIZATION,
        experts=experts,
        seed=3,
    )
    settings, context = Matching(steps=1, lr_z=0.1), Context(ipc=ipc)
    data = noise(4 * ipc, size)
    return match(data, PixelPrior(size), made, settings, context).images


LOOPS = {
    "scorer": lambda network, **size: scorer(network, 5, 4, **size),
    "student": lambda network, **size: student(network, 5, 4, **size),
    "expert": lambda network, **size: expert(network, 5, 4, **size),
    "dc": lambda network, **size: dc(network, 2, 3, **size),
    "mtt": lambda network, **size: mtt(network, 2, 3, **size),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_single_image_left_over_breaks_no_batch_norm(loop):
    LOOPS[loop](NARROW)


@pytest.mark.parametrize("infobatch", [0.3, 0.7])
def test_nor_does_one_that_infobatch_leaves_over(infobatch):
    for count in (8, 9):
        student(NARROW, count, 3, infobatch=infobatch)
        scorer(NARROW, count, 3, infobatch=infobatch)


@pytest.mark.parametrize("train", [scorer, student, expert])
def test_batches_of_one_image_are_refused_for_such_a_network_alone(train):
    for count, batch in ((5, 1), (1, 4)):
        with pytest.raises(InputError, match=r"shufflenet_v2_x0_5 cannot learn from one image .*;"):
            train(NARROW, count, batch)
    train("convnet3@2", 5, 1, size=8)


def test_only_networks_that_need_it_join_a_single_image():
    assert [len(part) for part in split(torch.arange(129), 128, join=True)] == [129]
    assert [len(part) for part in split(torch.arange(129), 128, join=False)] == [128, 1]
    assert [len(part) for part in split(torch.arange(130), 128, join=True)] == [128, 2]
    assert [len(part) for part in split(torch.arange(3), 1, join=True)] == [1, 1, 1]
    assert needs_two_images(NARROW, 10, 32) and needs_two_images("torchvision/resnet18", 10, 32)
    for network, size in (("convnet3-bn", 32), ("resnet18-bn", 16), ("convnet3", 8), ("mlp", 64)):
        assert not needs_two_images(network, 10, size)


def different(one, other) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("loop", ["scorer", "student"])
def test_dropout_follows_from_the_seed_and_leaves_the_global_stream_alone(loop):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = LOOPS[loop](DROPS)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert not different(one, LOOPS[loop](DROPS))


def test_dropout_of_experts_follows_from_the_seed():
    torch.manual_seed(1)
    one = expert(DROPS, 4, 4)
    torch.manual_seed(2)
    other = expert(DROPS, 4, 4)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_dropping_scorer_that_was_put_away_goes_on_bit_by_bit():
    def begun() -> ScorerTraining:
        return ScorerTraining(
            noise(4), Scorer(network=DROPS, epochs=2, lr=0.1, batch=4),
            normalization=NORMALIZATION, seed=3, accelerator=Accelerator(),
        )  # fmt: skip

    whole, first, second = begun(), begun(), begun()
    list(whole.run())
    list(first.run(1))
    second.restore(first.state())
    torch.manual_seed(9)
    list(second.run())
    assert not different(whole.classifier, second.classifier)


def half() -> SimpleNamespace:
    """fp16 as Accelerate has it on a GPU, on this CPU."""
    return SimpleNamespace(
        device=torch.device("cpu"),
        mixed_precision="fp16",
        num_processes=1,
        autocast=lambda: torch.autocast("cpu", torch.float16),
    )


@pytest.mark.parametrize("train", [student, expert])
def test_gradients_below_the_range_of_fp16_move_weights_as_those_of_float32(train, monkeypatch):
    """The loss is divided by 2**28, which makes gradients that fp16 would take for zero."""
    loss = functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", lambda *a, **k: loss(*a, **k) * 2**-28)
    given = {"size": 8, "lr": 2.0**28} | ({"weight_decay": 0.0} if train is student else {})
    ends = [train("convnet3@2", 4, 4, **given, accelerator=a) for a in (half(), Accelerator())]
    if train is expert:
        start, *ends = ends[1]["linear.weight"][0], *(end["linear.weight"][-1] for end in ends)
    else:
        new = new_network("convnet3@2", "student", num_classes=2, resolution=8, seed=3)
        start, *ends = (network.linear.weight.detach() for network in (new, *ends))
    moved = [end - start for end in ends]
    assert float(moved[1].abs().max()) > 0.02
    torch.testing.assert_close(moved[0], moved[1], rtol=0.1, atol=0.01)


def test_distilling_in_fp16_is_refused_in_python_too(monkeypatch):
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    made = build_objective(ObjectiveSettings(network="convnet3@2"), num_classes=2, resolution=8)
    with pytest.raises(InputError, match="gradients that pass through a prior vanish; launch"):
        context = Context(accelerator=Accelerator(cpu=True))
        match(noise(4, 8), PixelPrior(8), made, context=context)


def sampler(**keys):
    made = InfoBatch(1000, 8, seed=0, **keys)
    made.update(torch.arange(1000), torch.arange(1000.0))
    return made


def test_random_subsets_deal_out_all_images_before_any_comes_again():
    deal = RandomSubsets(10, 4, seed=3)
    first, second, third = (deal.epoch(epoch)[0].tolist() for epoch in range(3))
    assert sorted(first + second + third[:2]) == list(range(10)) and third[2:] == first[:2]
    again = [deal.epoch(epoch)[0].tolist() for epoch in range(3, 6)]
    assert set().union(*again) == set(range(10)) and again[0] != first


def test_the_first_epoch_sees_everything():
    rows, weights = InfoBatch(10, 8).epoch(0)
    assert rows.tolist() == list(range(10)) and (weights == 1).all()


def test_only_images_below_the_mean_loss_are_left_out_and_the_rest_of_them_count_more():
    rows, weights = sampler(rho=0.75).epoch(3)
    assert set(range(500, 1000)) <= set(rows.tolist())
    easy = rows < 500
    assert (weights[easy] == 4).all() and (weights[~easy] == 1).all()
    assert 90 < int(easy.sum()) < 160  # 125 expected


def test_the_weighted_sum_of_gradients_has_the_mean_of_the_whole():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    made = InfoBatch(1000, 10**6, rho=0.5, delta=1, seed=0)
    made.update(torch.arange(1000), values)
    sums = []
    for epoch in range(400):
        rows, weights = made.epoch(epoch)
        sums.append(float((weights * values[rows]).sum()))
    assert abs(sum(sums) / 400 / float(values.sum()) - 1) < 0.005


def test_losses_of_infobatch_are_fetched_once_in_an_epoch(monkeypatch):
    """Each fetch would have a step wait for the GPU."""
    made, fetched, fetch = InfoBatch(6, 8), [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: fetched.append(self) or fetch(self))
    for rows in ([5, 1], [0, 2], [3]):
        made.update(torch.tensor(rows), torch.tensor(rows, dtype=torch.float64))
    assert not fetched
    made.epoch(1)
    assert len(fetched) == 1 and made.losses[:4].tolist() == [0, 1, 2, 3]
    assert made.losses[4].isnan() and made.losses.dtype == torch.float32


def test_the_last_epochs_see_everything_with_weight_one_for_any_number_of_epochs():
    for epochs in (8, 9, 90, 100):
        made = InfoBatch(20, epochs, delta=0.875)
        made.update(torch.arange(20), torch.arange(20.0))
        rows, weights = made.epoch(epochs - 1)
        assert len(rows) == 20 and (weights == 1).all()
        assert len(made.epoch(epochs // 2)[0]) < 20


def test_draws_follow_from_seed_and_epoch():
    one = sampler()
    assert torch.equal(one.epoch(2)[0], sampler().epoch(2)[0])
    assert not torch.equal(one.epoch(2)[0], one.epoch(3)[0])


def line() -> torch.nn.Linear:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    return network


def test_a_fit_steps_once_for_each_batch_at_its_rate_and_yields_after_it():
    network, seen = line(), []
    steps = fit(
        network,
        [1.0, 2.0],
        lambda forward, batch: forward(torch.tensor([[batch]])).sum(),  # gradient: the batch
        torch.optim.SGD(network.parameters(), lr=9.0),
        lr=lambda batch: 0.1 * batch,
    )
    for batch, loss in steps:
        seen.append((batch, loss.item(), network.weight.item()))
    assert seen == [(1.0, 1.0, pytest.approx(0.9)), (2.0, pytest.approx(1.8), pytest.approx(0.5))]


def test_gradients_are_clipped_by_their_common_norm():
    network = line()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    list(fit(network, [8.0], lambda f, b: f(torch.tensor([[b]])).sum(), optimizer, clip=0.5))
    assert network.weight.item() == pytest.approx(0.5)


def test_draws_between_the_steps_are_the_callers_and_move_no_dropout():
    def drawn(between):
        network, values = line(), []

        def loss(forward, _):
            values.append(torch.rand(()).item())
            return forward(torch.ones(1, 1)).sum()

        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        for _ in fit(network, range(3), loss, optimizer, dropout=(0, "test")):
            between()
        return values

    torch.manual_seed(1)
    one = drawn(lambda: None)
    after = torch.rand(())
    assert drawn(lambda: torch.rand(7)) == one and len(set(one)) == 3
    torch.manual_seed(1)
    line()  # draws its first weights
    assert torch.equal(after, torch.rand(()))


def test_an_average_begins_with_the_first_weights_unless_told_otherwise():
    network = line()
    average, constant = (moving_average(network, lambda count: 0.75) for _ in range(2))
    constant.n_averaged.fill_(1)
    for weight in (2.0, 6.0):
        torch.nn.init.constant_(network.weight, weight)
        for one in (average, constant):
            one.update_parameters(network)
    assert average.module.weight.item() == 0.75 * 2 + 0.25 * 6
    assert constant.module.weight.item() == 0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 6


def test_what_ended_as_nan_is_said_with_what_to_do():
    network = line()
    require_finite(torch.ones(()), network, "a line", "Wait.")
    with pytest.raises(RunError, match=r"of a line ended with a loss of nan; Wait\."):
        require_finite(torch.tensor(torch.nan), network, "a line", "Wait.")
    torch.nn.init.constant_(network.weight, torch.inf)
    with pytest.raises(RunError, match=r"a loss of 1.0 and weights that are not finite; Wait\."):
        require_finite(torch.ones(()), network, "a line", "Wait.")
