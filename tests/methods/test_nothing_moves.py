"""Steps that would move nothing are refused, also where only the weights show it."""

from dataclasses import replace

import pytest
import torch

from latentdc import run as whole_run
from latentdc.errors import InputError
from latentdc.priors.autoencoder import AutoencoderPrior
from latentdc.priors.denoisers import UnconditionalDenoiser
from latentdc.priors.diffusion import DiffusionPrior
from latentdc.priors.pixel import PixelPrior
from latentdc.priors.schedule import make_schedule
from tests.methods import setup
from tests.methods.command import refused, write_recipe
from tests.priors import small
from tests.priors.test_unconditional import unet


def unconditional() -> DiffusionPrior:
    space = AutoencoderPrior(small.autoencoder(), resolution=8)
    settings = small.settings(steps=2, guidance=1, skip="none")
    denoiser, schedule = UnconditionalDenoiser(unet()), make_schedule(small.build_scheduler(), 2)
    return DiffusionPrior(space, denoiser, schedule, settings, class_names=None)


def test_a_rate_of_conditions_alone_moves_no_prior_without_classes(tmp_path):
    told = "lr_c=0.1: nothing would move in 10 steps; this prior has no conditions"
    with pytest.raises(InputError, match=told):
        setup.run(tmp_path / "run", prior=unconditional(), lr_z=0.0)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"lr_c=0: nothing would move in 10 steps\. Give"):
        setup.run(prior=small.prior(steps=2), lr_z=0.0, lr_c=0.0)


def test_conditions_a_learned_rate_or_no_steps_at_all_are_enough():
    setup.run(prior=small.prior(steps=2), lr_z=0.0, steps=1)
    setup.run(prior=unconditional(), lr_z=0.0, steps=0)
    setup.run(prior=PixelPrior(8), kind="mtt", lr_z=0.0, steps=1)


def test_a_run_that_has_its_steps_behind_it_is_not_refused(tmp_path):
    made = setup.run(tmp_path, prior=PixelPrior(8), steps=2)
    again = setup.run(tmp_path, prior=PixelPrior(8), steps=2, lr_z=0.0)
    assert torch.equal(made.images, again.images)


def test_the_command_refuses_before_anything_is_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    parts = whole_run.open_parts

    def blind(*given):
        return replace(parts(*given), prior=unconditional())

    monkeypatch.setattr(whole_run, "open_parts", blind)
    monkeypatch.setattr(whole_run, "prune_dataset", lambda *_, **__: pytest.fail("scored"))
    small.save(tmp_path / "prior")
    prior = ["prior.kind=diffusion", f"prior.weights={tmp_path / 'prior'}"]
    classes = "data.classes=['0', '1', '2']"
    assert "nothing would move in 4 steps" in refused(
        capsys, *prior, classes, "distill.lr_z=0", "distill.lr_c=1"
    )
