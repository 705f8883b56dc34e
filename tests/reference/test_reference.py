"""Small real runs end as they did: the net under every change that is not about computation.

`python -m pytest -m reference` runs it (some minutes); `python -m tests.reference.runs [NAME ...]`
takes what the code gives now as the new reference.
"""

import json
from dataclasses import asdict
from statistics import fmean

import pytest

from tests.reference.runs import CIFAR10, RUNS, SCORES, carry_out, machine

POINTS = 3.0  # by which the mean of a row may move on another machine

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_as_the_reference(name, tmp_path, monkeypatch):
    if RUNS[name].real and not CIFAR10.is_dir():
        pytest.skip("needs the optional real data 'cifar10' in a folder beside the checkout")
    references = json.loads(SCORES.read_text())[name]
    monkeypatch.chdir(tmp_path)
    outcome = carry_out(RUNS[name], tmp_path)
    if machine() in references:
        assert asdict(outcome) == references[machine()]
    for reference in references.values():
        means, before = means_of(outcome.accuracies), means_of(reference["accuracies"])
        assert means.keys() == before.keys()
        pairs = {row: (before[row], means[row]) for row in means}
        moved = {row: pair for row, pair in pairs.items() if abs(pair[0] - pair[1]) > POINTS}
        assert moved == {}, "(before, now)"
        swapped = [
            (better, worse)
            for better in before
            for worse in before
            if before[better] > before[worse] + 2 * POINTS and means[better] <= means[worse]
        ]
        assert swapped == []


def means_of(accuracies):
    return {row: fmean(values) for row, values in accuracies.items()}
