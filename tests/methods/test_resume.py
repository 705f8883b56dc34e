import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from latentdc import checkpoint
from latentdc.errors import InputError
from tests.methods import setup
from tests.priors import small


@pytest.mark.smoke
@pytest.mark.parametrize(("kind", "classes_per_step"), [("dm", None), ("dc", 2)])
def test_a_continued_run_ends_bitwise_as_an_uninterrupted_one(tmp_path, kind, classes_per_step):
    options = {"kind": kind, "classes_per_step": classes_per_step}
    whole = setup.run(tmp_path / "whole", **options)
    setup.run(tmp_path / "parts", steps=5, **options)
    parts = setup.run(tmp_path / "parts", **options)
    for name in ("images", "z", "c", "noise"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def test_a_run_that_is_further_on_is_not_passed_off_as_one_of_fewer_steps(tmp_path):
    setup.run(tmp_path, steps=5)
    with pytest.raises(InputError, match="is 5 steps on, and steps=3 lie behind it"):
        setup.run(tmp_path, steps=3)


def test_a_run_goes_on_in_the_precision_that_it_began_in(tmp_path, monkeypatch):
    setup.run(tmp_path, steps=2)
    monkeypatch.setattr(Accelerator, "mixed_precision", "bf16")
    told = "made with precision 'no', this run has 'bf16'; launch as before"
    with pytest.raises(InputError, match=told):
        setup.run(tmp_path, steps=4)


def test_a_run_is_not_continued_with_other_batches_or_another_objective_or_optimizer(tmp_path):
    setup.run(tmp_path, steps=2)
    with pytest.raises(InputError, match="made with batch 4, this run has 5"):
        setup.run(tmp_path, steps=4, batch=5)
    with pytest.raises(InputError, match=r"made with objective '\w+', this run has '\w+'"):
        setup.run(tmp_path, steps=4, augment=None)
    with pytest.raises(InputError, match="made with classes_per_step None, this run has 2"):
        setup.run(tmp_path, steps=4, classes_per_step=2)
    with pytest.raises(InputError, match="made with optimizer 'sgd', this run has 'adam'"):
        setup.run(tmp_path, steps=4, optimizer="adam")


def test_latents_are_not_taken_over_by_a_prior_that_decodes_them_otherwise(tmp_path):
    setup.run(tmp_path, steps=2)
    for other in ({"steps": 3}, {"steps": 2, "guidance": 1.5}, {"steps": 2, "skip": "none"}):
        with pytest.raises(InputError, match=r"was made with decoding \{.*\}, this run has \{"):
            setup.run(tmp_path, steps=4, prior=small.prior(**other))


def test_a_run_is_not_continued_on_other_images(tmp_path, monkeypatch):
    setup.run(tmp_path, steps=2)
    before = setup.dataset()
    for change in ({"hashes": before.hashes + 100}, {"class_names": ("two", "one", "zero")}):
        other = replace(before, **change)
        monkeypatch.setattr(setup, "dataset", lambda other=other: other)
        with pytest.raises(InputError, match="was made with core_set '"):
            setup.run(tmp_path, steps=4)


def test_the_last_two_checkpoints_stay_whole_after_a_run(tmp_path):
    (tmp_path / "checkpoints/step-00000011.part").mkdir(parents=True)  # of a killed run
    setup.run(tmp_path, checkpoint_every=3)
    kept = [path.name for path in whole_checkpoints(tmp_path)]
    assert kept == ["step-00000009", "step-00000010"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == kept
    facts = json.loads((tmp_path / "checkpoints" / kept[-1] / "state.json").read_text())
    assert facts["processes"] == 1 and facts["threads"] == torch.get_num_threads()


def test_a_damaged_checkpoint_is_none_of_the_last_two_of_a_run_that_went_on_before_it(tmp_path):
    setup.run(tmp_path)
    (tmp_path / "checkpoints/step-00000010/state.json").write_text("{}")
    setup.run(tmp_path, steps=9, checkpoint_every=2)  # from step 5 on
    assert [path.name for path in whole_checkpoints(tmp_path)] == ["step-00000008", "step-00000009"]


def whole_checkpoints(folder):
    return checkpoint.whole(folder / "checkpoints")


def test_decoding_the_kept_latents_gives_the_stored_images():
    made = setup.run()
    prior = setup.small.prior(steps=2)
    with torch.no_grad():
        images = prior.decode(made.z, made.c, made.noise)
    levels = (images + 1) * 127.5
    assert (levels - made.images.float()).abs().max() <= 1
