"""Trajectory matching through the whole of a distillation, in each space."""

import json

import pytest
import torch

from latentdc import checkpoint
from latentdc.errors import InputError
from latentdc.preprocessing import Normalization, fit_whitening
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.pixel import PixelPrior
from tests.methods import setup
from tests.priors import small


def whitened() -> PixelPrior:
    whitening = fit_whitening(setup.dataset().images, Normalization(), name="toy")
    return PixelPrior(8, clamp=False, whitening=whitening)


@pytest.mark.parametrize("space", ["pixel", "whitened", "autoencoder", "diffusion"])
def test_every_space_is_moved_and_learns_a_learning_rate(space):
    prior = {
        "pixel": PixelPrior(8),
        "whitened": whitened(),
        "autoencoder": AutoencoderPrior(small.autoencoder(), resolution=8),
        "diffusion": small.prior(steps=2),
    }[space]
    start = setup.run(prior=prior, kind="mtt", steps=0)
    made = setup.run(prior=prior, kind="mtt", steps=2)
    assert start.learned_lr == pytest.approx(0.01) and made.learned_lr != start.learned_lr > 0
    for label in range(3):
        assert not torch.equal(made.z[made.labels == label], start.z[start.labels == label])


@pytest.mark.parametrize("space", ["whitened", "diffusion"])
def test_a_continued_run_ends_bitwise_with_its_learning_rate(tmp_path, space):
    options = {"kind": "mtt", "checkpoint_every": 2}
    if space == "whitened":
        options["prior"] = whitened()
    whole = setup.run(tmp_path / "whole", steps=4, **options)
    setup.run(tmp_path / "parts", steps=2, **options)
    saved = checkpoint.read(checkpoint.whole(tmp_path / "parts/checkpoints")[-1]).shared
    assert saved["lr_velocity"] != 0
    parts = setup.run(tmp_path / "parts", steps=4, **options)
    assert parts.learned_lr == whole.learned_lr
    for name in ("images", "z", "c") if whole.c is not None else ("images", "z"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def test_a_run_in_image_space_is_not_continued_in_whitened_space(tmp_path):
    setup.run(tmp_path, prior=PixelPrior(8, clamp=False), kind="mtt", steps=2)
    with pytest.raises(InputError, match="prior"):
        setup.run(tmp_path, prior=whitened(), kind="mtt", steps=4)


def test_the_journal_notes_the_learned_rate_and_the_loss_as_it_is(tmp_path):
    made = setup.run(tmp_path, prior=PixelPrior(8), kind="mtt", steps=2, lr_z=0.0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["learned_lr"] == made.learned_lr
    objective = setup.objective("mtt")
    images = made.floats().requires_grad_()
    first = objective.accumulate(0, images, made.labels, None)
    assert lines[0]["loss"] == pytest.approx(float(first))  # and not a third, for three classes
