"""Small real runs end as they did: the net under every change that is not about computation.

`python -m pytest -m reference` runs it (some minutes); `python -m tests.reference.runs [NAME ...]`
takes what the code gives now as the new reference.
"""

import json
from statistics import fmean

import pytest

from tests.reference.runs import CIFAR10, RUNS, SCORES, carry_out, machine

POINTS = 3.0  # by which the mean of a row may move on another machine

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_as_the_reference(name, tmp_path, monkeypatch):
    if RUNS[name].real and not CIFAR10.is_dir():
        pytest.skip("needs the optional real data 'cifar10' in a folder beside the checkout")
    reference = json.loads(SCORES.read_text())[name]
    monkeypatch.chdir(tmp_path)
    outcome = carry_out(RUNS[name], tmp_path)
    means = {row: fmean(values) for row, values in outcome.accuracies.items()}
    before = {row: fmean(values) for row, values in reference["accuracies"].items()}
    assert means.keys() == before.keys()
    moved = {
        row: (before[row], means[row]) for row in means if abs(means[row] - before[row]) > POINTS
    }
    assert moved == {}, "(before, now)"
    swapped = [
        (better, worse)
        for better in before
        for worse in before
        if before[better] > before[worse] + 2 * POINTS and means[better] <= means[worse]
    ]
    assert swapped == []
    if machine() in reference["images"]:
        assert outcome.images == reference["images"][machine()]
        assert outcome.accuracies == reference["accuracies"]
