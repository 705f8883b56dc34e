"""A run that had ended keeps the images of its set, whatever would decode them anew."""

from dataclasses import replace

import pytest
import torch

from latentdc import run as run_module
from latentdc.distill import main
from latentdc.methods import decode
from latentdc.run import SET
from latentdc.synthetic import SyntheticSet
from tests.methods.command import RUN, contents, write_recipe


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """A run, and in its folder the set with one level more or less in each pixel."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    main(["quick.yaml"])
    made = SyntheticSet.from_pretrained(RUN)
    return made, replace(made, images=made.images ^ 1)


def test_the_images_are_taken_as_they_are(ended):
    _, kept = ended
    kept.save_pretrained(RUN / SET)
    main(["quick.yaml", "threads=2"])
    assert torch.equal(SyntheticSet.from_pretrained(RUN).images, kept.images)


@pytest.mark.parametrize("other", [{"prior_hash": "another"}, {"steps": 1}, {"seed": 3}, None])
def test_images_of_another_run_are_not(ended, other):
    made, kept = ended
    facts = {} if other is None else {**made.provenance, **other}
    replace(kept, provenance=facts).save_pretrained(RUN / SET)
    main(["quick.yaml"])
    assert torch.equal(SyntheticSet.from_pretrained(RUN).images, made.images)


def test_a_damaged_set_is_decoded_anew(ended):
    made, kept = ended
    kept.save_pretrained(RUN / SET)
    (RUN / SET / "latents.safetensors").write_bytes(b"nothing")
    main(["quick.yaml"])
    assert torch.equal(SyntheticSet.from_pretrained(RUN).images, made.images)


def test_the_command_started_again_decodes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    main(["quick.yaml"])
    before = pixels_and_latents()
    monkeypatch.setattr(decode, "decode_latents", lambda *_: pytest.fail("decoded"))
    main(["quick.yaml", "threads=2"])
    assert pixels_and_latents() == before


def test_an_ended_run_started_again_keeps_its_results_all_the_while(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    rows = "evaluate.rows=[distilled, random]"
    main(["quick.yaml", rows])
    before, times = contents(RUN), modified()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "score_sets", lambda *_, **__: pytest.fail("killed"))
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
