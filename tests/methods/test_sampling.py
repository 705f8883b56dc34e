"""Guided sampling as a method, on a prior small enough for tests."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler

from latentdc import checkpoint
from latentdc.errors import InputError, RunError
from latentdc.images import to_uint8
from latentdc.methods import decode, pools, sampled
from latentdc.methods import sampling as sampling_module
from latentdc.methods.anchors import clustered, encoded, rows_by_hash
from latentdc.methods.context import Context
from latentdc.methods.sampling import sampling
from latentdc.networks.build import new_network
from latentdc.preprocessing import Normalization
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.schedule import make_schedule
from latentdc.prune.coreset import Coreset
from latentdc.prune.scorers import Classifier
from latentdc.recipe import METHODS, ObjectiveSettings, Recipe, Sampling
from latentdc.recipe.methods import MethodSettings
from latentdc.recipe.prior import PriorSettings
from latentdc.synthetic.synthetic_set import SyntheticSet
from tests.methods import setup
from tests.priors import small
from tests.processes import run_two

CPU = torch.device("cpu")


def classifier(seed=1):
    network = new_network("convnet3@8", "guide", num_classes=3, resolution=8, seed=seed)
    return Classifier(network, lambda shown: Normalization()(2 * shown - 1)).eval()


def run(folder=None, data=None, prior=None, accelerator=None, ipc=3, inputs=(), **settings):
    data, network = data or setup.dataset(), classifier()
    context = Context(
        ipc=ipc,
        train=data,
        accelerator=accelerator or Accelerator(),
        classifier=lambda: (network.requires_grad_(False), 1.0),
        snapshots=lambda real, epochs: [classifier() for _ in epochs],
        student=lambda few: classifier(2).requires_grad_(False),
        open_set=lambda name: SyntheticSet.from_real(data),
        inputs=dict(inputs),
    )
    if folder is not None:
        context = checkpoint.in_folder(folder, context)
    prior = prior or small.prior(steps=4)
    return sampling(Coreset.whole(data, "easy"), prior, Sampling(**settings), context)


def keys(count=3):
    return [(name, number) for name in small.CLASSES for number in range(count)]


CENTRES, LABELS = {"kind": "centres"}, torch.arange(3).repeat_interleave(3)
MODE = {"anchors": CENTRES, "mode": {"scale": 0.5, "window": [0, 3]}}
EVERY = {
    "mode": MODE,
    "text": {"anchors": CENTRES, "text_mode": {"scale": 0.5}},
    "features": {"features": {"scale": 5.0, "real": 2}},
    "influence": {"influence": {"scale": 5000.0, "epochs": [0, 3]}},
    "deviation": {"deviation": {"scale": 5.0}},
    "entropy": {"entropy": {"scale": 10.0}},
    "learnability": {"learnability": {"scale": 5.0, "start": "first"}},
    "semantic": {"semantic": {"scale": 1.0, "window": [1, 3]}},
    "transport": {"transport": {"scale": 0.5, "clusters": 2}},
    "diversity": {"diversity": {"scale": 0.1, "mean_scale": 0.1}},
}


def test_plain_sampling_is_the_priors_own_and_keeps_what_was_decoded():
    made, prior = run(batch=3), small.prior(steps=4)
    z = prior.sample(LABELS, keys())
    torch.testing.assert_close(made.z, z, atol=1e-5, rtol=1e-4)
    assert made.images.equal(to_uint8(prior.render(made.z)))
    assert made.labels.equal(LABELS) and {*made.provenance["seconds"]} > {"anchors", "sampling"}


def test_a_guide_of_no_strength_is_plain_sampling_to_the_bit():
    assert run().z.equal(run(anchors=CENTRES, mode={"scale": 0.0}).z)


@pytest.mark.parametrize("guide", EVERY)
def test_every_guide_moves_images_inside_its_window_alone(guide):
    plain, made = run(ipc=4, batch=2), run(ipc=4, batch=2, **EVERY[guide])
    assert made.z.isfinite().all()
    moved = (made.z != plain.z).flatten(1).any(dim=1)
    if guide == "deviation":  # the first two of a class have nothing to keep away from
        assert moved.tolist() == [False, False, True, True] * 3
    else:
        assert moved.all()


def test_d4m_denoises_its_noised_centres_as_the_prior_does():
    made, prior, data = (
        run(anchors=CENTRES, start="anchors", strength=0.5, batch=3),
        small.prior(steps=4),
        setup.dataset(),
    )
    for label, name in enumerate(small.CLASSES):
        latents = encoded(data, rows_by_hash(data, label), prior.encode, CPU)
        centres, _ = clustered(latents, 3, 0, name)
        images = [(name, number) for number in range(3)]
        x = prior.noised(centres, images, seed=0, start=2)
        z = prior.sample(torch.full((3,), label), images, x=x, start=2)
        assert made.z[3 * label : 3 * label + 3].equal(z)


def test_anchors_can_be_decoded_as_they_are_and_weigh_what_their_clusters_do():
    options = {"start": "anchors", "denoise": False, "weights": True}
    made = run(anchors={"kind": "medoids"}, **options)
    data, prior = setup.dataset(), small.prior()
    real = prior.encode(data.images.float() / 127.5 - 1)
    assert torch.cdist(made.z.flatten(1), real.flatten(1)).amin(dim=1).max() < 1e-4
    torch.testing.assert_close(made.weights.view(3, 3).mean(dim=1), torch.ones(3))
    assert run(anchors=CENTRES, **options).weights.equal(made.weights)


def test_an_image_weighs_as_the_cluster_whose_centre_it_shows():
    made = run(anchors=CENTRES, start="anchors", denoise=False, weights=True)
    data, prior = setup.dataset(), small.prior()
    for label, name in enumerate(small.CLASSES):
        latents = encoded(data, rows_by_hash(data, label), prior.encode, CPU)
        centres, masses = clustered(latents, 3, 0, name)
        own = made.labels == label
        assert made.z[own].equal(centres) and not masses.equal(masses.flip(0))
        torch.testing.assert_close(made.weights[own], 3 * masses)


def test_the_order_of_classes_makes_no_difference():
    """Anchors keyed by the place of a class cost one reimplementation nine points."""
    data, options = setup.dataset(), EVERY["semantic"] | EVERY["transport"] | MODE
    turned = replace(data, labels=2 - data.labels, class_names=data.class_names[::-1])
    made, other = run(data=data, **options), run(data=turned, **options)
    for label in range(3):
        one, same = made.z[made.labels == label], other.z[other.labels == 2 - label]
        torch.testing.assert_close(one, same, atol=1e-5, rtol=1e-4)


def test_guides_of_sets_see_the_batch_and_what_is_finished():
    options = {"ipc": 4, **EVERY["transport"]}
    apart, together = run(batch=2, **options), run(batch=4, **options)
    assert not apart.z[:2].equal(together.z[:2]) and not apart.z[2:4].equal(together.z[2:4])
    plain = [run(ipc=4, batch=batch).z for batch in (2, 4)]
    torch.testing.assert_close(*plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "kind", ["random", "confidence", "centroids", "moments", "nearest", "learnability"]
)
def test_a_choice_takes_its_images_from_the_candidates(kind):
    pool = run(ipc=6)
    made = run(ipc=3, select={"kind": kind, "groups": 2}, learnability={"start": "first"})
    for image, label in zip(made.z, made.labels, strict=True):
        own = pool.z[pool.labels == label]
        assert (own - image).abs().flatten(1).amax(dim=1).min() < 1e-4


def test_a_run_says_how_many_candidates_it_samples(capsys):
    run(ipc=3)
    assert "stay" not in capsys.readouterr().err
    run(ipc=2, select={"kind": "moments", "groups": 4})
    assert "sampling: 24 images, of which 6 stay" in capsys.readouterr().err


@pytest.mark.parametrize("space", ["features", "latents"])
def test_moments_of_a_class_with_one_real_image_choose_the_group_at_its_mean(space, monkeypatch):
    seen, judge = [], pools.moments_offset
    monkeypatch.setattr(
        pools, "moments_offset", lambda *a, **k: seen.append(judge(*a, **k)) or seen[-1]
    )
    data = setup.dataset()
    few = data.select([int(data.members(label)[0]) for label in range(3)])
    choice = {"kind": "moments", "groups": 2, "space": space, "skew": 0.0}
    assert len(run(data=few, ipc=2, select=choice).z) == 6
    assert len(seen) == 3 and all(bool(offset.isfinite().all()) for offset in seen)


def test_candidates_of_one_place_in_their_groups_have_one_anchor(monkeypatch):
    """Candidates 0 and 3 of three anchors have the same one."""
    seen, noised = [], DiffusionPrior.noised
    monkeypatch.setattr(
        DiffusionPrior, "noised", lambda *a, **k: seen.append(a[1]) or noised(*a, **k)
    )
    choice = {"kind": "random", "groups": 2}
    run(anchors=CENTRES, start="anchors", strength=0.5, select=choice, batch=6)
    assert len(seen) == 3 and all(z[:3].equal(z[3:]) for z in seen)


def test_images_of_several_classes_are_denoised_together_unless_a_guide_looks_at_one(monkeypatch):
    asked, ask = [], DiffusionPrior.sample
    monkeypatch.setattr(
        DiffusionPrior, "sample", lambda *a, **k: asked.append(a[1].tolist()) or ask(*a, **k)
    )
    many = [run(**options, batch=16).z for options in (MODE, EVERY["transport"])]
    assert asked == [[0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 0], [1, 1, 1], [2, 2, 2]]
    torch.testing.assert_close(many[0], run(**MODE, batch=1).z, atol=1e-5, rtol=1e-4)


def test_states_are_kept_by_time_and_at_the_end(tmp_path):
    kept = []

    def count(**settings):
        kept.clear()
        data = setup.dataset()
        context = Context(ipc=3, train=data, save_state=lambda state: kept.append(state.step))
        sampling(Coreset.whole(data, "easy"), small.prior(steps=2), Sampling(**settings), context)
        return kept

    assert count(batch=2) == [9]
    assert count(batch=2, checkpoint_seconds=0)[0] == 2 and kept[-1] == 9


def test_a_batch_that_does_not_fit_is_denoised_in_parts(monkeypatch, capsys):
    whole, seen, ask = run(prior=small.prior(steps=2)), [], DiffusionPrior.predict
    monkeypatch.setattr(
        DiffusionPrior, "predict", lambda *a, **k: seen.append(len(a[1])) or ask(*a, **k)
    )
    monkeypatch.setattr(decode, "free_bytes", lambda device: 100_000)
    prior = small.prior(steps=2, memory="auto")
    made = run(prior=prior)
    assert "memory: low" in capsys.readouterr().err and max(seen) < 9 and prior.plan is None
    torch.testing.assert_close(made.z, whole.z, atol=1e-5, rtol=1e-4)


def test_few_of_many_images_are_inverted_for_the_gaussian_of_a_class(monkeypatch):
    inverted, ask = [], DiffusionPrior.invert
    monkeypatch.setattr(
        DiffusionPrior, "invert", lambda *a, **k: inverted.append(len(a[1])) or ask(*a, **k)
    )
    gaussian = {"start": "anchors", "strength": 0.5, "eta": 0}
    run(anchors={"kind": "gaussian", "inverted": 4}, **gaussian)
    assert inverted == [4, 4, 4]
    inverted.clear()
    choice = {"kind": "moments", "groups": 50}
    made = run(anchors={"kind": "gaussian"}, select=choice, **gaussian)
    assert inverted == [6, 6, 6] and len(made.z) == 9


def test_the_nearest_choice_has_an_image_for_each_anchor_among_features_too(monkeypatch):
    plain = run(anchors=CENTRES, start="anchors", denoise=False)
    monkeypatch.setattr(DiffusionPrior, "noised", lambda prior, z, *_, **__: z)
    monkeypatch.setattr(DiffusionPrior, "sample", lambda *_, x, **__: x)
    choice = {"kind": "nearest", "groups": 2, "space": "features"}
    made = run(anchors=CENTRES, start="anchors", strength=0.5, select=choice)
    assert made.z.equal(plain.z)


def silent_at_first():
    """A prior whose schedule starts from noise alone."""
    scheduler = DDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    prior = small.prior(steps=4)
    prior.schedule = make_schedule(scheduler, 4)
    prior.timesteps = {t: torch.tensor(t) for t in prior.schedule.timesteps}
    return prior


@pytest.mark.parametrize("guide", EVERY)
def test_at_pure_noise_a_guide_is_finite_or_refused_at_once(guide):
    section = next(name for name in EVERY[guide] if name != "anchors")
    options = {**EVERY[guide], section: {**EVERY[guide][section], "window": [0, 3]}}
    assert silent_at_first().schedule.alphas[0] == 0
    if guide in ("text", "entropy", "learnability", "diversity"):
        with pytest.raises(InputError, match=rf"sampling.{section}.window=\[1,3\]"):
            run(prior=silent_at_first(), **options)
        options[section]["window"] = [1, 3]
    assert run(prior=silent_at_first(), **options).z.isfinite().all()


class Killed(Exception):
    pass


@pytest.mark.parametrize("calls", [1, 3])
def test_a_run_killed_inside_a_class_goes_on_to_the_same_set(tmp_path, monkeypatch, calls):
    options = {"ipc": 4, "batch": 2, "checkpoint_seconds": 0, **EVERY["transport"]}
    whole, ask, left = run(**options), DiffusionPrior.sample, [calls]

    def some(*arguments, **named):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return ask(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(DiffusionPrior, "sample", some)
        run(tmp_path, **options)
    asked = []
    monkeypatch.setattr(DiffusionPrior, "sample", lambda *a, **k: asked.append(a) or ask(*a, **k))
    assert run(tmp_path, **options).z.equal(whole.z) and len(asked) == 6 - calls
    with pytest.raises(InputError, match=r"was made with sampling .* give it a folder of its own"):
        run(tmp_path, **{**options, "eta": 0.5})


def test_a_run_does_not_go_on_with_other_contents_of_a_path(tmp_path):
    """One that kept no hash goes on, and one whose path is gone."""
    first = {"sampling.learnability.start": "1"}
    for folder, before in ((tmp_path / "old", {}), (tmp_path / "new", first)):
        run(folder, inputs=before)
        run(folder, inputs=first)
    run(tmp_path / "new")  # the path is gone
    with pytest.raises(InputError, match=r"learnability.start names other contents than .*step-0"):
        run(tmp_path / "new", inputs={"sampling.learnability.start": "2"})


def test_a_run_of_a_version_that_lacked_some_keys_goes_on(tmp_path, monkeypatch):
    def earlier(*given):
        facts = asked(*given)
        del facts["sampling"]["semantic"], facts["sampling"]["learnability"]["sign"]
        return facts

    asked, whole = sampling_module._facts, run(eta=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(sampling_module, "_facts", earlier)
        run(tmp_path, eta=0.5)
    assert run(tmp_path, eta=0.5).z.equal(whole.z)
    semantic = {"scale": 1.0}
    with pytest.raises(InputError, match="was made with sampling"):
        run(tmp_path, eta=0.5, semantic=semantic)


def test_seconds_of_every_start_are_counted():
    data, kept = setup.dataset(), []
    context = Context(ipc=1, train=data, save_state=kept.append)
    given = Coreset.whole(data, "easy"), small.prior(steps=2), Sampling()
    sampling(*given, context)
    state = kept[-1]._replace(shared={"seconds": torch.tensor([10.0, 200.0, 3000.0])})
    again = sampling(*given, replace(context, load_state=lambda: state))
    seconds = again.provenance["seconds"]
    assert seconds["anchors"] == 10 and seconds["sampling"] == 200  # nothing is left to sample
    assert 3000 <= seconds["selection"] < 3100


@pytest.mark.parametrize("anchors", ["none", "centres"])
def test_candidates_are_compared_with_the_moments_of_real_latents_and_their_anchors(
    anchors, monkeypatch
):
    pool, choose, plain = {}, sampled.select, run(ipc=4)
    monkeypatch.setattr(sampled, "select", lambda *a: pool.update(a[0]) or choose(*a))
    choice = {"kind": "nearest", "groups": 2, "space": "latents"}
    run(ipc=2, anchors={"kind": anchors}, select=choice)
    prior, data = small.prior(steps=4), setup.dataset()
    for label, name in enumerate(small.CLASSES):
        real = encoded(data, rows_by_hash(data, label), prior.encode, CPU)
        torch.testing.assert_close(pool[name].mean, real.mean(dim=0).flatten())
        torch.testing.assert_close(pool[name].std, real.std(dim=0, correction=0).flatten())
        points = plain.z[plain.labels == label].flatten(1)
        torch.testing.assert_close(pool[name].points, points, atol=1e-5, rtol=1e-4)
        if anchors == "centres":
            torch.testing.assert_close(
                pool[name].anchors.view(2, *real.shape[1:]), clustered(real, 2, 0, name)[0]
            )
        else:
            assert not len(pool[name].anchors)


def test_each_batch_tells_its_time(tmp_path):
    run(tmp_path, batch=2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 8]  # images, of 3 classes with 3 each
    assert all(line["seconds"] > 0 for line in lines)


def test_latents_that_are_not_finite_end_the_run_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        DiffusionPrior, "sample", lambda *_, **__: torch.full((9, 4, 4, 4), torch.nan)
    )
    with pytest.raises(
        RunError, match=r"latents of 'zero', 'one', 'two' are not finite.*Lower the scales of mode"
    ):
        run(tmp_path, **MODE)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tmp_path):
    run_two("tests.methods.two_samplers", tmp_path)
    options = {"anchors": CENTRES, "weights": True, **EVERY["transport"]}
    for name, wanted in (
        ("made", run(**options)),
        ("chosen", run(select={"kind": "centroids", "groups": 2})),
    ):
        made = torch.load(tmp_path / f"{name}.pt")
        torch.testing.assert_close(made["z"], wanted.z, atol=1e-4, rtol=0)
        assert (made["images"].int() - wanted.images.int()).abs().max() <= 1
        if wanted.weights is not None:
            assert made["weights"].equal(wanted.weights)


def few(count):
    data = setup.dataset()
    return data.select(torch.cat([data.members(0), data.members(1)[:count], data.members(2)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": AutoencoderPrior(small.autoencoder(), resolution=8)}, "takes a diffusion prior"),
        ({"data": few(2), **MODE}, "3 or more different images of each class, and 'one' has 2;"),
        (
            {"ipc": 4, "anchors": {**CENTRES, "outliers": 0.5}},
            "4 or more different images of each class, and 'zero' has 3;",
        ),
        ({"mode": {"scale": 1, "window": [1, 5]}, "anchors": CENTRES}, "outside of the 4 steps"),
        (
            {"start": "anchors", "strength": 0.5, "anchors": CENTRES}
            | {"mode": {"scale": 1, "window": [0, 2]}},
            "ends before step 2",
        ),
        (
            {"start": "anchors", "strength": 0.25, "anchors": CENTRES, "mode": {"scale": 1}},
            "step 3, the last, adds none",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused_first(options, message, monkeypatch):
    monkeypatch.setattr(DiffusionPrior, "sample", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(InputError, match=message):
        run(**options)


def test_the_semantic_guide_takes_conditions_of_two_classes(monkeypatch):
    """In every batch an image has the same ones: those of another class by its name and number."""
    many = [run(batch=batch, **EVERY["semantic"]).z for batch in (9, 2)]
    torch.testing.assert_close(*many, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(DiffusionPrior, "sample", lambda *_, **__: pytest.fail("sampled"))
    one = setup.dataset()
    one = replace(one.select(one.members(0)), class_names=("zero",))
    with pytest.raises(InputError, match="two classes, and there is only 'zero'; leave it out"):
        run(data=one, **EVERY["semantic"])
    prior = small.prior(steps=4)
    monkeypatch.setattr(prior, "condition", lambda labels: None)
    with pytest.raises(InputError, match="two classes, and this prior knows no classes; leave it"):
        run(prior=prior, anchors=CENTRES, start="anchors", **EVERY["semantic"])


def test_a_prior_that_knows_no_classes_is_told_of_them_by_anchors(monkeypatch):
    prior = small.prior(steps=4)
    monkeypatch.setattr(prior, "condition", lambda labels: None)
    with pytest.raises(InputError, match=r"knows no classes.*sampling.start=anchors"):
        run(prior=prior, deviation={"scale": 1})


@pytest.mark.parametrize("lacking", ["classifier", "snapshots"])
def test_what_the_context_lacks_is_refused_first(lacking, monkeypatch):
    monkeypatch.setattr(DiffusionPrior, "sample", lambda *_, **__: pytest.fail("sampled"))
    data, guide = setup.dataset(), {"classifier": "entropy", "snapshots": "influence"}[lacking]
    with pytest.raises(InputError, match=rf"give Context\({lacking}="):
        settings = Sampling(**EVERY[guide])
        sampling(Coreset.whole(data, "easy"), small.prior(), settings, Context(train=data))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.0}, r"strength is a share of the schedule in \(0, 1\], got 0"),
        ({"strength": 0.5}, "write sampling.start=anchors"),
        ({"eta": 2}, r"eta is in \[0, 1\]"),
        ({"start": "anchors"}, "leaves nothing to start from"),
        ({"mode": {"scale": 1}}, "leaves nothing to start from or to be pulled to"),
        ({"anchors": {"kind": "gaussian"}}, "write sampling.start=anchors"),
        ({"denoise": False, "anchors": CENTRES}, "decodes anchors as they are"),
        (
            {"denoise": False, "anchors": CENTRES, "start": "anchors"}
            | {"select": {"kind": "confidence"}},
            r"the same image; leave out sampling\.select\.kind=confidence",
        ),
        ({"weights": True}, "takes the masses of clusters"),
        ({"anchors": {"outliers": 0.7}}, "for 10 % write 0.1"),
        ({"batch": 0}, "sampling.batch is at least 1"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds is at least 0"),
        ({"anchors": {"inverted": 1}}, "anchors.inverted is at least 2"),
        ({"deviation": {"scale": 1, "window": [4, 2]}}, r"window is \[first step, step after"),
        ({"semantic": {"scale": 1.5}}, r"semantic\.scale is a share in \[0, 1\], got 1.5"),
        ({"transport": {"scale": 1.5}}, r"transport\.scale is a share in \[0, 1\], got 1.5"),
        ({"deviation": {"scale": -1}}, r"sampling\.deviation\.scale is at least 0.*, got -1"),
        ({"own": [{"kind": "a:b", "scale": -1}]}, r"sampling\.own\.0\.scale is at least 0"),
        ({"influence": {"epochs": [1, 1]}}, "each once, got \\[1, 1\\]"),
        ({"influence": {"epochs": []}}, "those of a training"),
        ({"transport": {"epsilon": 0}}, "transport.epsilon is at least"),
        ({"select": {"kind": "learnability"}}, r"name their set in sampling\.learnability\.start"),
        ({"diversity": {"mean_scale": 1.5}}, r"a share in \[0, 1\], got 1.5"),
        ({"learnability": {"scale": 1}}, r"name their set in sampling\.learnability\.start"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Sampling(**settings)


def test_a_recipe_is_refused_before_anything_is_opened():
    method = MethodSettings(kind="sampling")
    for parts, message in (
        ({"prior": PriorSettings(kind="pixel")}, "takes prior.kind=diffusion, got pixel"),
        ({"sampling": Sampling(deviation={"scale": 1, "window": [0, 11]})}, "the 10 steps"),
        ({"objective": ObjectiveSettings(kind="mtt")}, r"named in sampling\.influence\.network"),
    ):
        with pytest.raises(InputError, match=message):
            Recipe(method=method, **parts)
    assert METHODS["sampling"].prior
