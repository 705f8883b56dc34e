"""Every recipe of a method that needs nothing from elsewhere makes its set, in small."""

import pytest

from latentdc import config
from latentdc.distill import main
from latentdc.synthetic import SyntheticSet

RECIPES = sorted((config.shipped_folder("recipes") / "methods").glob("*_digits.yaml"), key=str)
SCORED = ["prune.scorer.epochs=1", "sampling.select.groups=2"]  # judged candidates
SHORTER = {
    "cao2": [*SCORED, "distill.steps=1"],
    "d3hr": ["sampling.anchors.inverted=12", "sampling.select.groups=10"],
    "dmgd": ["sampling.transport.clusters=2"],
    "igd": ["sampling.influence.epochs=[0,1]"],
    "refine": [*SCORED, "distill.steps=1", "objective.batch=8"],
    "s3": SCORED,
}
QUICK = ("cao2", "plain")  # one of each kind of method; the others are slow tests


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in (path.stem.removesuffix("_digits") for path in RECIPES)
    ],
)
def test_a_recipe_of_digits_makes_its_set(name, tmp_path, monkeypatch):
    monkeypatch.setattr("latentdc.prune.scorers.refuse_chance", lambda *_, **__: None)
    words = [*SHORTER.get(name, []), "ipc=1", "evaluate.rows=[]", f"output={tmp_path / 'run'}"]
    main([f"methods/{name}_digits", *words])
    made = SyntheticSet.from_pretrained(tmp_path / "run")
    assert made.labels.tolist() == list(range(10))
    assert made.images.float().flatten(1).std(1).min() > 10  # a picture, and no single colour
