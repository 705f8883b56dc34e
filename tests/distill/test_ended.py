"""A run that had ended keeps the images of its set, whatever would decode them anew."""

from dataclasses import replace

import pytest
import torch

from latentdc.distill import finish
from latentdc.distill import run as run_module
from latentdc.distill.__main__ import main
from latentdc.distill.ended import SET
from tests.distill import setup
from tests.distill.command import RUN, contents, write_recipe

FACTS = {"prior_hash": "unnamed", "steps": 2}


def run(folder, **options):
    return setup.run(folder, **{"provenance": FACTS, "steps": 2, **options})


def ended(folder, *, steps=2, **changes):
    """A run, and its set in the run folder with one level more or less in each pixel."""
    made = run(folder, steps=steps)
    kept = replace(made, **{"images": made.images ^ 1, **changes})
    kept.save_pretrained(folder / SET)
    return made, kept


def test_the_images_are_taken_as_they_are(tmp_path):
    made, kept = ended(tmp_path)
    again = run(tmp_path)
    assert torch.equal(again.images, kept.images)
    assert torch.equal(again.z, made.z) and torch.equal(again.c, made.c)


@pytest.mark.parametrize("part", ["z", "c", "noise"])
def test_images_of_other_latents_are_not(tmp_path, part):
    made = run(tmp_path)
    made, _ = ended(tmp_path, **{part: getattr(made, part) + 1})
    assert torch.equal(run(tmp_path).images, made.images)


@pytest.mark.parametrize(
    "other", [{"prior_hash": "another", "steps": 2}, {"prior_hash": "unnamed", "steps": 1}, {}]
)
def test_images_of_another_prior_or_of_other_steps_are_not(tmp_path, other):
    made, _ = ended(tmp_path, provenance=other)
    assert torch.equal(run(tmp_path).images, made.images)
    assert torch.equal(run(tmp_path, provenance=None).images, made.images), (
        "nothing says what it should be"
    )


def test_a_damaged_set_is_decoded_anew(tmp_path):
    made, _ = ended(tmp_path)
    (tmp_path / SET / "latents.safetensors").write_bytes(b"nothing")
    assert torch.equal(run(tmp_path).images, made.images)


def test_a_run_that_goes_on_decodes_what_it_ends_with(tmp_path):
    _, kept = ended(tmp_path, steps=1)
    assert not torch.equal(run(tmp_path).images, kept.images)
    assert torch.equal(run(tmp_path).images, run(None).images)


def test_the_command_started_again_decodes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    main(["quick.yaml"])
    before = pixels_and_latents()
    monkeypatch.setattr(finish, "decoded", lambda *_: pytest.fail("decoded"))
    main(["quick.yaml", "threads=2"])
    assert pixels_and_latents() == before


def test_an_ended_run_started_again_keeps_its_results_all_the_while(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    rows = "evaluate.rows=[distilled, random]"
    main(["quick.yaml", rows])
    before, times = contents(RUN), modified()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "evaluate_sets", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            main(["quick.yaml", rows, "evaluate.seeds=3"])
    assert contents(RUN / SET) == {
        name.removeprefix(f"{SET}/"): data for name, data in before.items() if name[:9] == SET
    }
    main(["quick.yaml", "evaluate.rows=[]", "threads=1"])
    main(["quick.yaml", rows])
    assert contents(RUN) == before and modified() == times


def modified():
    """When each file of the set was, and what people look at."""
    paths = [*(RUN / SET).rglob("*"), RUN / "grid.png"]
    return {path: path.stat().st_mtime_ns for path in paths}


def pixels_and_latents():
    texts = ("recipe.yaml", "README.md")  # which name the threads
    return {name: data for name, data in contents(RUN / SET).items() if name not in texts}
