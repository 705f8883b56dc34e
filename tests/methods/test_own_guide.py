"""A guide of one's own, by name and as an object."""

import sys

import pytest
import torch

import latentdc
from latentdc import config
from latentdc.distill import main as distill
from latentdc.errors import InputError
from latentdc.methods import guides
from latentdc.recipe import OwnGuide, Recipe, Sampling
from latentdc.recipe.own import name_of, own_names
from latentdc.synthetic import SyntheticSet
from tests.methods.test_sampling import CENTRES, MODE, run

CODE = """
import latentdc

def pull(anchors, scale):
    def correct(state):
        return state.with_mean(state.mean - scale * (state.x0 - anchors) * state.std)
    return latentdc.Guide(correct)
"""


def my_mode(anchors, scale, ancestral):
    return guides.mode(anchors, scale, ancestral=ancestral)


def test_a_guide_of_ones_own_does_what_the_same_guide_here_does():
    own = OwnGuide(kind=my_mode, scale=0.5, window=(0, 3))
    assert own.kind == name_of(my_mode)
    ours, mine = run(batch=3, **MODE), run(batch=3, anchors=CENTRES, own=[own])
    assert mine.z.equal(ours.z)
    off = {"kind": my_mode, "scale": 0.0}
    assert run(batch=3, own=[off]).z.equal(run(batch=3).z)


def test_it_sees_one_class_at_a_time_and_acts_in_its_window_alone():
    seen, indices = [], []

    def watch(class_name, labels, latents, finished, decode, prior, steps):
        seen.append((class_name, labels.tolist(), len(finished)))
        assert latents.shape[1:] == prior.latent_shape and len(latents) > 1
        assert decode(latents[:1]).shape == (1, 3, 8, 8) and list(steps) == [1, 2]
        return latentdc.Guide(lambda state: indices.append(state.index) or state)

    run(ipc=4, batch=2, own=[{"kind": watch, "window": (1, 3)}])
    real = seen[1:]  # the first is the trial
    assert [(labels, done) for _, labels, done in real] == [
        ([label, label], done) for label in range(3) for done in (0, 2)
    ]
    assert len({name for name, *_ in real}) == 3 and {*indices} == {1, 2}


def no_guide(scale):
    return 3


def greedy(scale, everything):
    return latentdc.Guide(lambda state: state)


def of_wrong_shape():
    return latentdc.Guide(lambda state: state.with_mean(state.mean[:1]))


def not_a_state():
    return latentdc.Guide(lambda state: state.mean)


def infinite(scale):
    return latentdc.Guide(lambda state: state.with_mean(state.mean * float("nan")))


def without_a_way():
    return latentdc.Guide(lambda state: state.with_mean(state.gradient(state.x0.sum())))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (no_guide, "made a int; it makes a latentdc.Guide"),
        (greedy, "wants everything; it is called with scale, steps, "),
        (of_wrong_shape, r"gives a mean of shape \(1, .* to latents of shape \(2, "),
        (not_a_state, "returns a Tensor; a guide returns the state"),
        (infinite, "the mean of two random latents is not finite"),
        (without_a_way, "fails on two random latents: RuntimeError"),
        ("missing_module:guide", "cannot import missing_module"),
    ],
)
def test_a_guide_that_cannot_be_used_is_one_line_before_anything_is_sampled(
    monkeypatch, kind, told
):
    monkeypatch.setattr("latentdc.methods.sampling.ClassSampler.sample", None)
    with pytest.raises(InputError, match=told) as refused:
        run(own=[{"kind": kind}])
    assert str(refused.value).startswith("sampling.own.0.kind") and "\n" not in str(refused.value)


def test_settings_refuse_what_names_no_code():
    with pytest.raises(InputError, match=r"kind of sampling.own is package.module:attribute, got"):
        Sampling(own=[{"kind": "mode"}])
    with pytest.raises(InputError, match=r"sampling\.own\.0\.window is \[first step"):
        Sampling(own=[{"kind": "mine:pull", "window": (3, 1)}])


def test_a_recipe_names_a_guide_and_keeps_its_hash(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "guide_for_test.py").write_text(CODE)
    words = ["methods/d4m_digits", "ipc=1", "prior.steps=2", "evaluate.rows=[]", "output=run"]
    words += ["threads=1", "prune.keep=1", "sampling.strength=1", "data.classes=['0', '1']"]
    own = "sampling.own=[{kind: guide_for_test:pull, scale: 0.1}]"
    try:
        distill([*words, own])
    finally:
        sys.modules.pop("guide_for_test", None)
    made = SyntheticSet.from_pretrained("run")
    assert made.z.isfinite().all() and torch.unique(made.labels).numel() == 2
    saved = config.load(Recipe, tmp_path / "run" / "recipe.yaml")
    [(key, name)] = own_names(saved)
    assert key == "sampling.own.kind" and name.startswith("guide_for_test:pull#")
    (tmp_path / "guide_for_test.py").write_text(CODE + "# another edition\n")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        distill([*words, own])
    assert end.value.code == 2 and "guide_for_test" in capsys.readouterr().err
