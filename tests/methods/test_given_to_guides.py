"""What guides and choices are given of settings, classes and real images."""

import pytest
import torch

from latentdc import draws
from latentdc.distill import main as distill
from latentdc.images import to_uint8
from latentdc.methods import guides, pools
from latentdc.methods.anchors import encoded, rows_by_hash
from latentdc.objectives.gradient import real_gradient
from tests.methods import setup
from tests.methods.test_sampling import CPU, EVERY, classifier, run
from tests.priors import small


@pytest.mark.parametrize(
    ("guide", "changes"),
    [
        ("features", {"real": 1}),
        ("influence", {"epochs": [0, 3, 5]}),
        ("influence", {"real": 1}),
        ("learnability", {"teacher": 2.0}),
        ("learnability", {"sign": "printed"}),
        ("semantic", {"window": [1, 4]}),
        ("semantic", {"other": 0.5}),
        ("semantic", {"noise": 0.5}),
        ("semantic", {"form": "released"}),
        ("transport", {"clusters": 3}),
        ("transport", {"epsilon": 1.0}),
        ("transport", {"iterations": 1}),
        ("diversity", {"mean_scale": 0.2}),
        ("diversity", {"epsilon": 1.0}),
    ],
)
def test_every_number_of_a_guide_reaches_it(guide, changes):
    options = {"ipc": 2, "batch": 2, "prior": small.prior(steps=4)}
    other = {guide: {**EVERY[guide][guide], **changes}}
    assert not run(**options, **EVERY[guide]).z.equal(run(**options, **other).z)


def test_features_are_asked_of_the_class_at_the_step_and_of_real_latents_as_noisy(monkeypatch):
    given, make = [], guides.features
    monkeypatch.setattr(guides, "features", lambda *a: given.append(a) or make(*a))
    run(ipc=2, batch=2, **EVERY["features"])
    prior, data = small.prior(steps=4), setup.dataset()
    x = torch.randn(2, *prior.latent_shape, generator=draws.generator(0, "x"))
    for label, (embed, real, *_) in enumerate(given):
        with torch.no_grad():
            own = prior.features(x, 2, prior.condition(torch.full((2,), label)))
            torch.testing.assert_close(embed(x, 2), own)
        latents = encoded(data, rows_by_hash(data, label), prior.encode, CPU)
        source = draws.generator(0, "features", small.CLASSES[label], 2)
        some = latents[draws.choose(6, 2, source)]
        noise, alpha = torch.randn(some.shape, generator=source), prior.schedule.alphas[2]
        torch.testing.assert_close(real(2), alpha**0.5 * some + (1 - alpha) ** 0.5 * noise)


def test_influence_follows_the_gradients_of_its_classs_real_images(monkeypatch):
    given, make = [], guides.influence
    monkeypatch.setattr(guides, "influence", lambda *a: given.append(a) or make(*a))
    run(ipc=1, **EVERY["influence"])
    data, network = setup.dataset(), classifier()
    for label, (_, targets, own, *_) in enumerate(given):
        images = data.images[data.members(label)].float() / 127.5 - 1
        wanted = real_gradient(network, list(network.parameters()), images, label)
        assert own == label and len(targets) == 2
        for found, expected in zip(targets[0], wanted, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_influence_looks_at_some_images_drawn_by_the_name_of_their_class(monkeypatch):
    given, make = [], guides.influence
    monkeypatch.setattr(guides, "influence", lambda *a: given.append(a) or make(*a))
    run(ipc=1, influence={**EVERY["influence"]["influence"], "real": 2})
    data, network = setup.dataset(), classifier()
    for label, (_, targets, *_) in enumerate(given):
        rows = rows_by_hash(data, label)
        rows = rows[draws.choose(6, 2, draws.generator(0, "influence", small.CLASSES[label]))]
        images = data.images[rows].float() / 127.5 - 1
        wanted = real_gradient(network, list(network.parameters()), images, label)
        torch.testing.assert_close(targets[0][0], wanted[0], atol=1e-5, rtol=1e-3)


def test_each_image_has_another_class_of_its_own_and_other_noise_in_each_step(monkeypatch):
    given, make = [], guides.semantic
    monkeypatch.setattr(guides, "semantic", lambda *a, **k: given.append(a[:3]) or make(*a, **k))
    run(ipc=6, **EVERY["semantic"])
    own, other = (torch.cat([one[place] for one in given]) for place in (0, 1))
    wanted = small.prior(steps=4).condition(torch.arange(3).repeat_interleave(6))
    torch.testing.assert_close(own, wanted)
    assert (own != other).flatten(1).any(dim=1).all()
    assert all(len(one.unique(dim=0)) == 2 for one in other.split(6))  # both of the others
    noise = torch.cat([one[2](step) for one in given for step in (1, 2)]).flatten(1)
    assert noise.shape[0] == 36 and len(noise.unique(dim=0)) == 36


def test_what_has_yet_to_be_learned_is_asked_of_the_student_and_subtracted_of_the_teacher(
    monkeypatch,
):
    given, make = [], guides.learnability
    monkeypatch.setattr(
        guides, "learnability", lambda *a, **k: given.append(a[:3]) or make(*a, **k)
    )
    run(ipc=1, **EVERY["learnability"])
    shown = setup.dataset().images.float() / 127.5 - 1
    for student, teacher, labels in given:
        assert torch.equal(student(shown), classifier(2)(shown))
        assert torch.equal(teacher(shown), classifier()(shown))
        assert labels.tolist() == [0, 1, 2]


def test_a_class_is_held_at_the_mean_of_its_own_real_latents(monkeypatch):
    given, make = [], guides.diversity
    monkeypatch.setattr(guides, "diversity", lambda *a, **k: given.append(a[0]) or make(*a, **k))
    run(ipc=1, **EVERY["diversity"])
    prior, data = small.prior(steps=4), setup.dataset()
    assert len(given) == 3
    for label, mean in enumerate(given):
        latents = encoded(data, rows_by_hash(data, label), prior.encode, CPU)
        torch.testing.assert_close(mean, latents.mean(dim=0))


@pytest.mark.parametrize("kind", ["learnability", "nearest"])
def test_candidates_are_judged_by_networks_as_their_own_class(kind):
    pool, prior, data = run(ipc=6), small.prior(steps=4), setup.dataset()
    made = run(ipc=3, select={"kind": kind, "groups": 2}, learnability={"start": "first"})
    teacher, student = classifier(), classifier(2)
    for label in range(3):
        z = pool.z[pool.labels == label]
        images = to_uint8(prior.render(z))
        if kind == "nearest":
            real = pools.classify(teacher, data.images[data.members(label)], label).points
            points = pools.classify(teacher, images, label).points
            rows = (points - real.mean(dim=0)).norm(dim=1).argsort()[:3]
        else:
            losses = [pools.classify(one, images, label).loss for one in (student, teacher)]
            score = (losses[0] - 0.5 * losses[1]).view(2, 3)
            rows = score.argmax(dim=0) * 3 + torch.arange(3)
        torch.testing.assert_close(made.z[made.labels == label], z[rows], atol=1e-4, rtol=1e-3)


def test_one_command_trains_what_influence_follows_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = [
        "data.classes=['0', '1']", "data.resolution=16", "prior.steps=3", "ipc=1",
        "sampling.influence.network=convnet3@2", "sampling.influence.epochs=[0, 1]",
        "sampling.influence.window=[1, 2]", "sampling.influence.real=4",
        "sampling.deviation.scale=0", "evaluate.rows=[]", "threads=1",
    ]  # fmt: skip
    distill(["methods/igd_digits", "output=one", *tiny])
    kept = [*(tmp_path / "one/snapshots").glob("*/expert-00000.safetensors")]
    assert len(kept) == 1
    with pytest.raises(SystemExit):
        distill(["methods/igd_digits", "output=two", *tiny, "sampling.influence.network=convnet9"])
    assert not (tmp_path / "two").exists()
