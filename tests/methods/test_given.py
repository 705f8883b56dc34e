"""What guides and choices are given: the settings, and what is known of the class, by its name."""

import pytest
import torch

from latentdc import draws
from latentdc.images import as_floats, to_uint8
from latentdc.methods import guides, pools, sampled
from latentdc.methods.anchors import clustered, encoded, rows_by_hash
from latentdc.objectives.gradient import real_gradient
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.sampler import Guide, keyed_draw, noised
from tests.methods import setup
from tests.methods.test_sampling import CENTRES, classifier, run
from tests.priors import small

DATA, PRIOR = setup.dataset(), small.prior(steps=4)
NAMES = DATA.class_names


@pytest.fixture
def given(monkeypatch):
    """By guide, the arguments that it was made with, each time; none of them does anything.

    Under `steps`, for each batch those that its guides act in.
    """
    found, ask = {}, DiffusionPrior.sample

    def watch(name):
        def make(*arguments, **options):
            found.setdefault(name, []).append((arguments, options))
            return Guide(lambda state: state)

        return make

    for name in ("mode", "features", "influence", "learnability", "transport", "diversity"):
        monkeypatch.setattr(guides, name, watch(name))

    def sample(self, *arguments, guides, **options):
        found.setdefault("steps", []).append([guide.steps for guide in guides])
        return ask(self, *arguments, guides=guides, **options)

    monkeypatch.setattr(DiffusionPrior, "sample", sample)
    return found


def real_latents(label):
    return encoded(DATA, rows_by_hash(DATA, label), PRIOR.encode, torch.device("cpu"))


def test_numbers_of_a_recipe_reach_their_guides(given):
    run(
        anchors=CENTRES,
        eta=0,
        mode={"scale": 0.5, "window": [1, 3]},
        transport={"scale": 0.4, "window": [0, 2], "clusters": 2, "epsilon": 0.3, "iterations": 7},
        diversity={"scale": 0.2, "mean_scale": 0.6, "epsilon": 0.05},
        learnability={"scale": 3.0, "start": "first", "teacher": 0.25, "sign": "printed"},
    )
    for label, name in enumerate(NAMES):
        latents, finished = real_latents(label), torch.empty(0, *PRIOR.latent_shape)
        (anchors, scale), options = given["mode"][label]
        assert anchors.equal(clustered(latents, 3, 0, name)[0])
        assert (scale, options) == (0.5, {"ancestral": False})
        (support, masses, before, *how), options = given["transport"][label]
        wanted = clustered(latents, 2, 0, name)
        assert support.equal(wanted[0]) and masses.equal(wanted[1]) and before.equal(finished)
        assert (how, options) == ([0.4], {"epsilon": 0.3, "iterations": 7})
        (mean, _, *how), options = given["diversity"][label]
        torch.testing.assert_close(mean, latents.mean(dim=0))
        assert (how, options) == ([0.2, 0.6], {"epsilon": 0.05})
        (student, teacher, labels, _, *how), options = given["learnability"][label]
        for network, seed in ((student, 2), (teacher, 1)):
            own = [network.state_dict(), classifier(seed).state_dict()]
            assert all(weight.equal(own[1][key]) for key, weight in own[0].items())
        assert labels.tolist() == [label] * 3
        assert (how, options) == ([3.0], {"weight": 0.25, "lowers": True})
        # of learnability, transport, mode and diversity
        assert given["steps"][label] == [None, range(2), range(1, 3), None]


def test_each_group_of_candidates_has_the_anchors_in_their_order(given):
    options = {"anchors": CENTRES, "mode": {"scale": 0.5, "window": [0, 3]}, "batch": 6}
    run(**options, select={"kind": "random", "groups": 2})
    for label, name in enumerate(NAMES):
        centres = clustered(real_latents(label), 3, 0, name)[0]
        assert given["mode"][label][0][0].equal(torch.cat([centres, centres]))


def test_influence_follows_the_gradients_that_images_of_the_class_give(given):
    run(influence={"scale": 2.0, "epochs": [3], "real": 4, "window": [1, 2]})
    for label, name in enumerate(NAMES):
        ((_,), [targets], own, _, scale), _ = given["influence"][label]
        rows, network = rows_by_hash(DATA, label), classifier()
        some = rows[draws.choose(len(rows), 4, draws.generator(0, "influence", name))]
        images = as_floats(DATA.images[some])
        wanted = real_gradient(network, list(network.parameters()), images, label)
        assert (own, scale, given["steps"][label]) == (label, 2.0, [range(1, 2)])
        for one, other in zip(targets, wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_features_are_those_of_latents_of_the_class_as_noisy_as_the_step(given):
    run(features={"scale": 2.0, "real": 2})
    for label, name in enumerate(NAMES):
        (embed, real, scale), _ = given["features"][label]
        assert (scale, given["steps"][label]) == (2.0, [None])
        for index in (0, 2):
            latents, source = real_latents(label), draws.generator(0, "features", name, index)
            some = latents[draws.choose(len(latents), 2, source)]
            noise = torch.randn(some.shape, generator=source)
            x = noised(some, noise, PRIOR.schedule, index)
            torch.testing.assert_close(real(index), x)
            own = PRIOR.condition(torch.tensor([label, label]))
            torch.testing.assert_close(embed(x, index), PRIOR.features(x, index, own))


def test_conditions_are_mixed_with_those_of_another_class_of_each_image(monkeypatch):
    found = []
    monkeypatch.setattr(
        guides, "semantic", lambda own, *rest, **more: found.append((own, *rest, more)) or None
    )
    run(semantic={"scale": 0.9, "window": [1, 3], "other": 0.2, "noise": 0.3, "form": "released"})
    [(own, other, noise, scale, window, more)] = found
    images = [(name, number) for name in NAMES for number in range(3)]
    assert (scale, window, more) == (0.9, (1, 3), {"weights": (0.2, 0.3), "form": "released"})
    assert own.equal(PRIOR.condition(torch.arange(3).repeat_interleave(3)))
    for (name, number), condition in zip(images, other, strict=True):
        rest = sorted({*NAMES} - {name})
        chosen = rest[int(draws.choose(2, 1, draws.generator(0, "other class", name, number)))]
        assert condition.equal(PRIOR.condition(torch.tensor([NAMES.index(chosen)]))[0])
    assert noise(2).equal(keyed_draw(0, "condition", images, (1, 6), 2))


def candidates(monkeypatch, **options):
    """What a choice is given, by class name, and the latents that it chooses from."""
    found, ask = [], sampled.select
    monkeypatch.setattr(sampled, "select", lambda pool, *a: found.append(pool) or ask(pool, *a))
    run(ipc=2, learnability={"start": "first"}, **options)
    return found[0], run(ipc=4).z.split(4)


@pytest.mark.parametrize("kind", ["learnability", "moments"])
def test_candidates_are_seen_by_the_networks_that_a_choice_asks(monkeypatch, kind):
    pool, made = candidates(monkeypatch, select={"kind": kind, "groups": 2, "space": "features"})
    for label, name in enumerate(NAMES):
        images, one = to_uint8(PRIOR.render(made[label])), pool[name]
        seen = pools.classify(classifier(1), images, label)
        if kind == "learnability":
            torch.testing.assert_close(one.loss, seen.loss, atol=1e-3, rtol=1e-3)
            other = pools.classify(classifier(2), images, label).loss
            torch.testing.assert_close(one.student_loss, other, atol=1e-3, rtol=1e-3)
            continue
        real = pools.classify(classifier(1), DATA.images[DATA.members(label)], label).points
        torch.testing.assert_close(one.points, seen.points, atol=1e-2, rtol=1e-2)
        torch.testing.assert_close(one.mean, real.mean(dim=0))
        torch.testing.assert_close(one.std, real.std(dim=0, correction=0))
