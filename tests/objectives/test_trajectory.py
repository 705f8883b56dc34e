import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.draws import generator, global_draws
from latentdc.errors import InputError
from latentdc.objectives.build import build_objective
from latentdc.objectives.trajectory import MOMENTUM, RANGE
from latentdc.preprocessing import Normalization
from latentdc.recipe import ObjectiveSettings, Trajectory
from tests.experts.toys import Wanderers

NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def objective(experts=None, *, network="convnet3@8", **settings):
    trajectory = Trajectory(**{"syn_steps": 3, "lr_student": 0.05, "lr_lr": 1e-4, **settings})
    return build_objective(
        ObjectiveSettings(kind="mtt", network=network, augment=STRATEGY, trajectory=trajectory),
        num_classes=3,
        resolution=8,
        normalization=NORMALIZATION,
        experts=experts or Wanderers(),
        seed=4,
    )


def synthetic():
    images = torch.rand(6, 3, 8, 8, generator=generator(1)) * 2 - 1
    return images.requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])


def step(goal, index: int = 0) -> torch.Tensor:
    """Gradient of one step."""
    images, labels = synthetic()
    goal.accumulate(index, images, labels, None)
    return images.grad


class Fused(nn.Module):
    """Attention by torch's own function, which prefers kernels without a double backward."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(3, 12)
        self.linear = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(images.flatten(2).mT).chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return self.linear(out.squeeze(1).mean(dim=1))


def attentive(**settings):
    """An objective whose students attend; being smooth, they also have finite differences."""
    with global_draws(0):
        network = Fused()

    class Experts:
        count = 1

        def weights(self, expert, epoch):
            return {n: w.detach() + 0.01 * epoch for n, w in network.named_parameters()}

    goal = objective(Experts(), **settings)
    goal.student = copy.deepcopy(network)
    return goal


def test_a_step_is_a_training_by_sgd_from_one_expert_s_weights_towards_its_later_ones():
    experts = Wanderers()
    goal = objective(experts, batch_syn=4, max_start_epoch=3)
    images, labels = synthetic()
    loss = goal.accumulate(5, images, labels, None)
    (expert, first), (same, last) = experts.asked
    assert (same, last) == (expert, first + 2) and first < 3

    network = experts.new(expert)
    network.load_state_dict(experts.weights(expert, first))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for lap, sizes in enumerate([(4, 2), (4,)]):
        source = generator(4, "inner", 5, lap)
        order = torch.randperm(6, generator=source)
        for place, size in enumerate(sizes):
            rows = order[4 * place :][:size]
            draw = draw_augmentation(STRATEGY, source, samples=size)
            inputs = augment(NORMALIZATION(images.detach()[rows]), draw)
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), labels[rows]).backward()
            optimizer.step()
    start, target = experts.weights(expert, first), experts.weights(expert, last)
    reached = dict(network.named_parameters())
    left = sum((reached[name] - target[name]).square().sum() for name in target)
    whole = sum((start[name] - target[name]).square().sum() for name in target)
    torch.testing.assert_close(loss, (left / whole).detach(), rtol=1e-4, atol=0)
    assert images.grad.abs().sum((1, 2, 3)).min() > 0


@pytest.mark.smoke
@pytest.mark.parametrize("form", ["replayed", "constant"])
def test_the_forms_differ_in_how_the_gradient_is_computed_and_not_in_the_draws(form):
    exact, other = (step(objective(form=f, lr_student=1e-4)) for f in ("unrolled", form))
    assert float((other - exact).norm() / exact.norm()) < 0.05


def test_every_expert_is_followed_once_before_any_is_followed_again():
    experts = Wanderers(count=4)
    goal = objective(experts, syn_steps=1)
    for index in range(8):
        step(goal, index)
    followed = [expert for expert, _ in experts.asked[::2]]
    assert sorted(followed[:4]) == sorted(followed[4:]) == [0, 1, 2, 3]


def test_a_student_starts_at_any_epoch_below_the_latest_one():
    experts = Wanderers()
    known = experts.weights(0, 1)
    asked: list[int] = []
    experts.weights = lambda expert, epoch: asked.append(epoch) or known
    goal = objective(experts, syn_steps=1, max_start_epoch=3)
    for index in range(30):
        step(goal, index)
    assert {*asked[::2]} == {0, 1, 2}


def test_the_student_s_learning_rate_is_learned_by_sgd_with_momentum():
    goal, fixed = attentive(lr_lr=0.02), attentive(lr_lr=0.0)
    lr, velocity, h = 0.05, 0.0, 2e-3
    for index in range(3):
        images, labels = synthetic()
        ends = []
        for moved in (lr + h, lr - h):
            fixed.restore({"learned_lr": torch.tensor(moved), "lr_velocity": torch.zeros(())})
            ends.append(float(fixed.accumulate(index, images, labels, None)))
        velocity = MOMENTUM * velocity + (ends[0] - ends[1]) / (2 * h)
        before, lr = lr, lr - 0.02 * velocity
        goal.accumulate(index, images, labels, None)
        assert float(goal.state()["learned_lr"]) == pytest.approx(lr, abs=0.02 * abs(lr - before))
        assert lr > 0.05 / RANGE


def test_the_learning_rate_stays_positive_however_strong_the_push():
    goal = objective(lr_lr=1.0)
    for push in (1e9, -1e12):
        goal.restore({"learned_lr": torch.tensor(0.05), "lr_velocity": torch.tensor(push)})
        step(goal)
        expected = 0.05 / RANGE if push > 0 else 0.05 * RANGE
        assert float(goal.state()["learned_lr"]) == pytest.approx(expected)


def test_an_objective_that_goes_on_from_its_state_takes_the_same_steps():
    whole, parts = objective(), objective()
    for index in range(2):
        step(whole, index)
        step(parts, index)
    continued = objective()
    continued.restore({name: part.clone() for name, part in parts.state().items()})
    assert torch.equal(step(continued, 2), step(whole, 2))
    assert continued.state() == whole.state() != objective().state()


def test_networks_with_dropout_are_followed_without_it():
    experts = Wanderers(network="vit@8")
    first, second = (step(objective(experts, network="vit@8")) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.smoke
def test_networks_with_fused_attention_are_unrolled_with_its_plain_kernel():
    assert step(attentive()).abs().sum() > 0
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(RuntimeError):
        x = torch.randn(1, 1, 8, 4, requires_grad=True)
        (g,) = torch.autograd.grad(
            F.scaled_dot_product_attention(x, x, x).square().sum(), x, create_graph=True
        )
        g.sum().backward()


def test_experts_are_asked_for_at_once():
    with pytest.raises(InputError, match="mtt follows experts"):
        build_objective(ObjectiveSettings(kind="mtt"), num_classes=3, resolution=8)


def test_another_step_draws_other_batches_and_the_same_step_the_same():
    assert torch.equal(step(objective(), 3), step(objective(), 3))
    assert not torch.equal(step(objective(), 3), step(objective(), 5))
