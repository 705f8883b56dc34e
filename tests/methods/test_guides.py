"""Each guide against its formula written out, on one step of a small network."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn
from torch.nn import functional as F

from latentdc.methods import guides
from latentdc.objectives.gradient import class_gradient, rowwise_cosine
from latentdc.priors.sampler import Guide, Prediction, StepState, sample
from latentdc.priors.schedule import make_schedule

SCHEDULE = make_schedule(DDIMScheduler(), 5)
SHAPE = (2, 3, 3)


def draw(*keys, count=2):
    source = torch.Generator().manual_seed(sum(keys))
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=source)


def network(x, timestep):
    """Guided by 3, of two branches that see x alike."""
    without, under = torch.tanh(x + timestep / 1000), torch.sin(2 * x)
    return Prediction(without + 3 * (under - without), text=under, guidance=3.0)


def corrected(guide: Guide, *, eta: float = 1.0) -> tuple[StepState, StepState]:
    """The state of the third step before and after a guide."""
    found = []

    def watch(state):
        found.append(state)
        return state

    guide = replace(guide, steps={2})
    spies = [Guide(watch, guide.through, {2}), guide, Guide(watch, steps={2})]
    sample(network, draw(1), SCHEDULE, eta=eta, noise=lambda index: draw(2, index), guides=spies)
    return found[0], found[1]


def slope(function, x, step=1e-6):
    """Gradient of a number by central differences."""
    gradient = torch.zeros_like(x)
    for place in range(x.numel()):
        ends = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved.view(-1)[place] += sign * step
            ends.append(float(function(moved).detach()))
        gradient.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def x0_of(x, timestep, alpha):
    return (x - (1 - alpha) ** 0.5 * network(x, timestep).guided) / alpha**0.5


def test_the_pull_to_a_mode_is_mgd3s():
    anchors = draw(5)
    before, after = corrected(guides.mode(anchors, 0.1))
    wanted = before.mean - 0.1 * (before.x0 - anchors) * before.std
    torch.testing.assert_close(after.mean, wanted)


def test_where_the_mean_is_x0_and_the_step_as_long_as_the_noise_the_mode_is_reached():
    x, anchors = draw(1), draw(5)
    state = StepState(x, x, torch.zeros_like(x), 4.0, 2, SCHEDULE).with_mean(x)
    torch.testing.assert_close(guides.mode(anchors, 0.25).correct(state).mean, anchors)


def test_without_ancestral_noise_the_pull_is_manifoldgds():
    anchors = draw(5)
    before, after = corrected(guides.mode(anchors, 0.1, ancestral=False), eta=0.0)
    torch.testing.assert_close(after.x0, before.x0 - 0.1 * (before.x0 - anchors))
    alpha = before.alpha
    torch.testing.assert_close(alpha**0.5 * after.x0 + (1 - alpha) ** 0.5 * after.eps, before.x)


def test_the_pull_of_the_conditional_branch_is_codas():
    """e_c - sqrt(a / (1 - a)) gamma sigma (anchor - x0_c), then guided, with Euler's sigma."""
    anchors = draw(5)
    before, after = corrected(guides.text_mode(anchors, 0.1))
    told, alpha = network(before.x, before.timestep), before.alpha
    sigma = ((1 - alpha) / alpha) ** 0.5
    clean = (before.x - (1 - alpha) ** 0.5 * told.text) / alpha**0.5
    text = told.text - (alpha / (1 - alpha)) ** 0.5 * 0.1 * sigma * (anchors - clean)
    without = (3 * told.text - told.guided) / 2
    torch.testing.assert_close(after.eps, without + 3 * (text - without))


def test_the_pull_to_real_features_is_daps():
    weight, real = draw(7, count=4), draw(8, count=3)

    def embed(x, index):
        return torch.tanh(torch.einsum("kchw,bchw->bk", weight, x) * (1 + index))

    before, after = corrected(guides.features(embed, lambda index: real * index, 0.5))

    def distance(x):
        apart = embed(x, 2)[:, None] - embed(real * 2, 2)[None]
        return apart.norm(dim=2).mean(dim=1).sum()

    torch.testing.assert_close(after.mean, before.mean - 0.5 * slope(distance, before.x))


class Student(nn.Module):
    def __init__(self, seed):
        super().__init__()
        source = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, 18, dtype=torch.float64, generator=source))

    def forward(self, images):
        return torch.tanh(images.flatten(1)) @ self.weight.T


def test_the_influence_of_real_gradients_is_igds():
    networks = [Student(1), Student(2)]
    targets = [
        [g.detach() for g in class_gradient(one, [one.weight], draw(9, count=4), 1)]
        for one in networks
    ]
    guide = guides.influence(networks, targets, 1, partial(torch.mul, 2.0), 5.0)
    before, after = corrected(guide)

    def loss(x):
        images = 2.0 * x0_of(x, before.timestep, before.alpha)
        total = torch.zeros(())
        for one, wanted in zip(networks, targets, strict=True):
            for image in images.split(1):
                made = class_gradient(one, [one.weight], image, 1)
                total = total + rowwise_cosine(made, wanted) / 2
        return total

    gradient = slope(loss, before.x)
    rms = [
        part.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() for part in (before.eps, gradient)
    ]
    rho = 0.0015 * rms[0] / rms[1] * (1 - before.alpha) ** 0.5
    torch.testing.assert_close(after.mean, before.mean - 5.0 * rho * gradient, rtol=1e-5, atol=1e-6)


def test_the_push_from_finished_latents_is_igds_deviation():
    finished = draw(11, count=4)
    before, after = corrected(guides.deviation(finished, 0.3))

    def alike(x):
        return F.cosine_similarity(x.flatten(1)[:, None], finished.flatten(1)[None], dim=2)

    near = alike(before.x).argmax(dim=1)
    assert near.tolist() == [2, 3]
    gradient = slope(lambda x: alike(x)[torch.arange(2), near].sum(), before.x)
    torch.testing.assert_close(after.mean, before.mean - 0.3 * gradient)
    unmoved = corrected(guides.deviation(finished[:0], 0.3))
    assert unmoved[0].mean.equal(unmoved[1].mean)


def test_harder_images_are_uags_and_the_noise_is_a_constant():
    student = Student(3).requires_grad_(False)
    before, after = corrected(guides.entropy(student, partial(torch.mul, 2.0), 10.0))

    def entropy(x):
        x0 = (x - (1 - before.alpha) ** 0.5 * before.eps) / before.alpha**0.5
        p = student(2.0 * x0).softmax(dim=1)
        return -(p * p.log()).sum()

    wanted = before.eps - 10.0 * (1 - before.alpha) ** 0.5 * slope(entropy, before.x)
    torch.testing.assert_close(after.eps, wanted, rtol=1e-5, atol=1e-6)


def test_what_a_student_has_yet_to_learn_is_lgds_score_and_rises():
    student, teacher = (Student(seed).requires_grad_(False) for seed in (3, 4))
    labels, decode = torch.tensor([0, 2]), partial(torch.mul, 0.01)
    guide = guides.learnability(student, teacher, labels, decode, 0.7, weight=0.25)
    before, after = corrected(guide)

    def score(x):
        images = 0.01 * x0_of(x, before.timestep, before.alpha)
        return F.cross_entropy(student(images), labels, reduction="sum") - 0.25 * F.cross_entropy(
            teacher(images), labels, reduction="sum"
        )

    gradient = slope(score, before.x)
    sizes = [t.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1) for t in (before.eps, gradient)]
    rho = sizes[0] / sizes[1] * (1 - before.alpha) ** 0.5
    torch.testing.assert_close(after.eps, before.eps - 0.7 * rho * gradient, rtol=1e-5, atol=1e-6)
    assert ((after.x0 - before.x0) * gradient).sum() > 0  # the way in which the score rises


def test_by_the_printed_sign_lgds_score_falls():
    networks = [Student(seed).requires_grad_(False) for seed in (3, 4)]
    options = (torch.tensor([0, 2]), partial(torch.mul, 0.01), 0.7)
    states = [
        corrected(guides.learnability(*networks, *options, lowers=lowers))
        for lowers in (False, True)
    ]
    (before, raised), (_, lowered) = states
    torch.testing.assert_close(raised.eps - before.eps, before.eps - lowered.eps)


def conditions(form, scale=1.0):
    """Own and other conditions, the noise of a step, and what the semantic guide makes of them."""
    own, other = draw(5).flatten(2), draw(6).flatten(2)

    def noise(index):
        return draw(7, index).flatten(2)

    made = guides.semantic(own, other, noise, scale, (1, 5), weights=(0.2, 0.3), form=form)
    return own, other, noise, made


def test_conditions_become_the_classs_own_as_dmgd_writes_it():
    own, other, noise, made = conditions("paper")
    torch.testing.assert_close(made(0), 0.2 * other + 0.3 * noise(0))
    s = 0.25  # step 2 of the window from 1 to 5
    wanted = s**0.5 * own + (1 - s**0.5) * (0.2 * other + 0.3 * noise(2))
    torch.testing.assert_close(made(2), wanted)
    assert made(5) is own and made(9) is own
    torch.testing.assert_close(conditions("paper", 0.4)[3](2), own + 0.4 * (wanted - own))


def test_the_released_conditions_have_the_moments_of_the_classs_own():
    own, other, noise, made = conditions("released")
    normal = torch.distributions.Normal(0, 1)
    for index, s, near in ((0, 0.0, 0.0), (1, 0.0, 0.2), (3, 0.5, 0.2)):
        blend = s**0.5 * own + (1 - s) ** 0.5 * (near * other + 0.3 * normal.cdf(noise(index)))
        wanted = [
            (one - one.mean()) / one.std() * image.std() + image.mean()
            for one, image in zip(blend, own, strict=True)
        ]
        torch.testing.assert_close(made(index), torch.stack(wanted))
    assert made(5) is own


def test_a_transport_plan_has_both_marginals_and_lowers_the_cost():
    cost, masses = torch.rand(4, 3, dtype=torch.float64), torch.tensor([0.5, 0.3, 0.2]).double()
    plan = guides.sinkhorn(cost, masses, 0.05, 2000)
    torch.testing.assert_close(plan.sum(dim=1), torch.full((4,), 0.25).double())
    torch.testing.assert_close(plan.sum(dim=0), masses, rtol=1e-4, atol=1e-6)
    assert (plan * cost).sum() < (masses * cost).mean(dim=0).sum()


def test_a_plan_of_hardly_any_entropy_sends_each_point_where_it_costs_least():
    cost, masses = torch.eye(3)[[2, 0, 1]] * 0.5, torch.ones(3) / 3
    plan = guides.sinkhorn(1 - cost, masses, 1e-9, 5)
    torch.testing.assert_close(plan, torch.eye(3)[[2, 0, 1]] / 3)


def test_images_are_transported_along_the_gradient_of_the_entropic_cost():
    support, masses, finished = draw(3, count=3), torch.tensor([0.5, 0.3, 0.2]).double(), draw(4)
    guide = guides.transport(support, masses, finished, 0.2, epsilon=0.5, iterations=200)
    before, after = corrected(guide)

    def value(x0):
        """Of the entropic transport problem, with squared differences, of 4 points of mass 1/4."""
        points = torch.cat([x0, finished]).flatten(1)
        cost = (points[:, None] - support.flatten(1)[None]).square().sum(dim=2)
        plan = guides.sinkhorn(cost / 18, masses, 0.5, 200)
        return (plan * cost).sum() + 18 * 0.5 * (plan * plan.log()).sum()

    wanted = before.x0 - 0.2 * 4 / 2 * slope(value, before.x0, 1e-4)
    torch.testing.assert_close(after.x0, wanted, rtol=1e-4, atol=1e-5)


def test_spreading_and_the_mean_are_cgss():
    mean, finished = draw(3, count=1)[0], draw(4)
    before, after = corrected(guides.diversity(mean, finished, 0.1, 0.2, epsilon=0.05))

    def loss(x):
        x0 = (x - (1 - before.alpha) ** 0.5 * before.eps) / before.alpha**0.5
        rows = F.normalize(torch.cat([x0, finished]).flatten(1), dim=1)
        off = x.mean(dim=0) - before.alpha**0.5 * mean
        kernel = rows @ rows.T + 0.05 * torch.eye(4)
        return -0.1 * kernel.logdet() + 0.2 * len(x) / 2 * off.square().sum()

    torch.testing.assert_close(after.mean, before.mean - slope(loss, before.x))


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_leads_the_mean_a_share_of_the_way(count):
    x, mean = draw(1, count=count), draw(3, count=1)[0]
    state = StepState(x, x, torch.zeros_like(x), 0.1, 2, SCHEDULE).with_mean(x)
    after = guides.diversity(mean, draw(4, count=0), 0.0, 0.3).correct(state)
    way = state.alpha**0.5 * mean - x.mean(dim=0)
    torch.testing.assert_close((after.mean - x).mean(dim=0), 0.3 * way)


@pytest.mark.parametrize("order", [1, -1])
def test_guides_add_up(order):
    anchors = draw(5)
    two = [guides.mode(anchors, 0.1), guides.deviation(draw(6), 0.3)]
    alone = [corrected(guide) for guide in two]
    first, second = two[::order]
    both = Guide(lambda state: second.correct(first.correct(state)))
    before, after = corrected(both)
    moved = sum(done.mean - start.mean for start, done in alone)
    torch.testing.assert_close(after.mean, before.mean + moved)
