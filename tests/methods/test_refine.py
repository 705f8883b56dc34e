"""Refinement: sampled images are where matching starts."""

import json
from dataclasses import replace

import pytest
import torch

from latentdc import checkpoint
from latentdc.errors import InputError
from latentdc.methods.context import Context
from latentdc.methods.refine import refine
from latentdc.methods.sampling import sampling
from latentdc.objectives.build import build_objective
from latentdc.prune.coreset import Coreset
from latentdc.recipe import METHODS, Denoising, Matching, ObjectiveSettings, Recipe, Sampling
from latentdc.recipe.methods import MethodSettings
from tests.methods import setup
from tests.priors import small

DATA = setup.dataset()
CORESET = Coreset.whole(DATA, "easy")
FIRST = Sampling(batch=2)
OBJECTIVES = {
    "dm": ObjectiveSettings(kind="dm", network="convnet3@4", batch=4),
    "denoise": ObjectiveSettings(kind="denoise", denoise=Denoising(share=0.5)),
}


def run(kind="dm", steps=2, folder=None, **settings):
    prior = small.prior(steps=4)
    objective = build_objective(
        OBJECTIVES[kind], num_classes=3, resolution=8, prior=prior, class_names=DATA.class_names
    )
    context = Context(ipc=3, train=DATA, objective=objective)
    if folder is not None:
        context = checkpoint.in_folder(folder, context)
    matching = Matching(**{"steps": steps, "lr_z": 0.1, "checkpoint_every": 2, **settings})
    return refine(CORESET, prior, (FIRST, matching), context)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_matching_starts_from_what_was_sampled(kind):
    prior = small.prior(steps=4)
    sampled = sampling(CORESET, prior, FIRST, Context(ipc=3, train=DATA))
    start = run(kind, steps=0)
    assert torch.equal(start.z, sampled.z) and torch.equal(start.labels, sampled.labels)
    assert {*start.provenance["seconds"]} > {"sampling"}
    moved = run(kind)
    assert not torch.equal(moved.z, sampled.z)
    if kind == "denoise":  # decoded as they are, as sampling decodes them
        assert torch.equal(start.images, sampled.images) and moved.c is None
    else:  # LD3M's space
        assert moved.c is not None and moved.noise is not None


def test_a_refinement_goes_on_in_either_stage(tmp_path):
    whole = run(steps=4)
    run(steps=2, folder=tmp_path)
    kept = checkpoint.load(tmp_path / "checkpoints", Context().accelerator)
    assert "objective" in kept.facts
    told = {**kept.facts["sampled"]["seconds"], **kept.facts["seconds"]}
    again = run(steps=4, folder=tmp_path)  # samples and tries nothing, and keeps what that took
    assert torch.equal(again.z, whole.z) and again.provenance["seconds"] == told
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 8, 9, 10, 11, 12]  # images, then steps
    assert ["loss" in line for line in lines] == [False] * (len(lines) - 4) + [True] * 4
    sampling(
        CORESET,
        small.prior(steps=4),
        FIRST,
        checkpoint.in_folder(tmp_path / "begun", Context(ipc=3, train=DATA)),
    )
    assert torch.equal(run(steps=4, folder=tmp_path / "begun").z, whole.z)


def test_a_set_keeps_the_facts_of_both_stages():
    told = run(steps=1, lr_z="auto").provenance
    assert "lr_z" in told and {*told["seconds"]} > {"sampling", "rates"}


def test_a_recipe_takes_both_sections_and_refuses_what_either_would():
    recipe = Recipe(method=MethodSettings(kind="refine"), ipc=10)
    assert METHODS["refine"].sections == ("sampling", "distill")
    assert recipe.settings == (recipe.sampling, recipe.distill) and recipe.matches
    with pytest.raises(InputError, match=r"takes prior\.kind=diffusion"):
        replace(recipe, prior=replace(recipe.prior, kind="pixel", weights=None))
    with pytest.raises(InputError, match="nothing would move"):
        replace(recipe, distill=Matching(lr_z=0, lr_c=0))
