"""A run whose students see whitened images, and the later evaluation of its set elsewhere."""

import json
import re
from pathlib import Path

import pytest
import torch

from latentdc import preprocessing
from latentdc.distill import main
from latentdc.evaluate import evaluate as evaluation
from latentdc.evaluate.__main__ import main as evaluate
from latentdc.synthetic import SyntheticSet
from tests.methods.command import RUN, write_recipe

ROWS = "evaluate.rows=[distilled, random]"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    write_recipe(tmp_path)


@pytest.mark.smoke
def test_a_set_brings_its_whitening_to_whoever_evaluates_it(monkeypatch):
    main(["quick.yaml", "data.zca=true", ROWS])
    made = SyntheticSet.from_pretrained(RUN)
    assert made.whitening is not None and made.whitening.matrix.shape == (192, 192)
    rows = sorted(path.name for path in (RUN / "trainings").iterdir())

    def refuse(*_, **__):
        raise AssertionError("the set has what is needed")

    monkeypatch.setenv("LATENTDC_CACHE", str(Path("elsewhere").resolve()))
    monkeypatch.setattr(preprocessing, "fit_whitening", refuse)
    monkeypatch.setattr(evaluation, "train_together", refuse)
    evaluate([str(RUN), ROWS])
    assert sorted(path.name for path in (RUN / "trainings").iterdir()) == rows


def test_a_saved_set_of_whitened_pixels_shows_students_the_latents(monkeypatch):
    main(["quick.yaml", "data.zca=true", "prior.clamp=false", ROWS])
    made = SyntheticSet.from_pretrained(RUN)
    assert re.fullmatch("pixel-whitened-[0-9a-f]{8}", str(made.provenance["prior_hash"]))
    torch.testing.assert_close(made.whitening(made.floats()), made.z, rtol=0, atol=1e-4)

    def see(sets, network, protocol, setting, **_):
        raise Seen(setting.normalization(sets[0].images))

    monkeypatch.setattr(evaluation, "train_together", see)
    with pytest.raises(Seen) as training:
        evaluate([str(RUN), ROWS, "evaluate.steps=3"])
    torch.testing.assert_close(training.value.args[0], made.z, rtol=0, atol=1e-4)


def test_a_whitened_pool_of_a_run_without_whitening_is_told(capsys):
    main(["quick.yaml", "data.zca=true", "evaluate.rows=[]", "output=zca"])
    words = ["method.kind=selection", "selection.pool=zca", "evaluate.rows=[]", "output=chosen"]
    main(["quick.yaml", *words])
    told = "zca was made with whitening, and students see it without, as data.zca=false says."
    assert told in capsys.readouterr().err
    assert SyntheticSet.from_pretrained("chosen").whitening is None


class Seen(Exception):
    """What a student is given."""


def test_whitened_and_plain_trainings_are_told_apart():
    main(["quick.yaml", ROWS, "output=plain"])
    main(["quick.yaml", "data.zca=true", ROWS, "output=zca"])
    names = [
        {path.name for path in (Path(run) / "trainings").iterdir()} for run in ("plain", "zca")
    ]
    assert names[0].isdisjoint(names[1])
    losses = [
        json.loads((Path(run) / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        for run in ("plain", "zca")
    ]
    assert losses[0] != losses[1], "the objective sees whitened images too"
    assert SyntheticSet.from_pretrained("plain").whitening is None
