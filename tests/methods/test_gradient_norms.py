"""How strong a gradient reaches the latents: LD3M's Table 1, by the benchmark that measures it."""

import pytest
from accelerate import Accelerator

from benchmarks import gradient_norms
from latentdc import config
from latentdc.data.open import open_dataset
from latentdc.recipe import Recipe

SMALL = ["objective.network=convnet3@8", "objective.batch=8", "threads=1"]


def norm(steps: int, skip: str, *overrides: str) -> float:
    recipe = config.load(Recipe, config.find("digits_ipc1", "recipes"), [*SMALL, *overrides])
    train = open_dataset(recipe.data, "train")
    return gradient_norms.gradient_norm(recipe, train, steps, skip, Accelerator(cpu=True))


def test_without_a_skip_the_gradient_of_z_decays_with_the_denoising_steps(monkeypatch):
    monkeypatch.setattr(gradient_norms, "STUDENTS", 1)
    none, x0 = ([norm(steps, skip) for steps in (2, 8)] for skip in ("none", "x0"))
    assert none[1] < 0.5 * none[0] and x0[1] > 0.5 * x0[0] and x0[1] > 5 * none[1]


def test_students_of_gradient_matching_are_untrained_whatever_its_loops(monkeypatch):
    monkeypatch.setattr(gradient_norms, "STUDENTS", 2)
    dc = ["objective.kind=dc", "data.resolution=8"]
    trained = "objective.loops={outer: 2, inner: 2, lr_student: 0.5}"
    once = "objective.loops={outer: 1, inner: 1}"
    assert norm(2, "x0", *dc, trained) == norm(2, "x0", *dc, once)


def test_gradients_follow_the_memory_that_is_free(monkeypatch, capsys):
    monkeypatch.setattr(gradient_norms, "STUDENTS", 1)
    whole = norm(2, "x0")
    assert "memory: fast" in capsys.readouterr().err
    monkeypatch.setattr("latentdc.methods.decode.free_bytes", lambda device: 10_000_000)
    assert norm(2, "x0") == pytest.approx(whole, rel=1e-4)
    assert "memory: mixed" in capsys.readouterr().err
