import json
from dataclasses import replace

import pytest

from latentdc.evaluate.score import Score
from tests.evaluate.toys import protocol

SCORE = Score(
    protocol=protocol(students=["convnet3@4", "alexnet@4"], seeds=3),
    accuracies={"convnet3@4": (0.5, 0.6, 0.7), "alexnet@4": (0.2, 0.2, 0.8)},
    sets=("a", "b", "c"),
    top5={"alexnet@4": (0.9, 0.8, 0.95)},
)


def test_mean_and_sample_standard_deviation_are_over_seeds():
    assert SCORE.mean("convnet3@4") == pytest.approx(0.6)
    assert SCORE.std("convnet3@4") == pytest.approx(0.1)
    assert SCORE.std("alexnet@4") == pytest.approx((0.12 + 0.12) ** 0.5 / 2**0.5)


def test_students_are_averaged_seed_by_seed():
    assert SCORE.over(["convnet3@4", "alexnet@4"]) == pytest.approx((0.35, 0.4, 0.75))


def test_a_single_seed_has_no_standard_deviation():
    assert Score(protocol(seeds=1), {"convnet3@4": (0.5,)}, ("a",)).std("convnet3@4") is None


def test_a_score_survives_json():
    assert Score.from_json(json.loads(json.dumps(SCORE.to_json()))) == SCORE
    assert SCORE.to_json()["protocol_hash"] == SCORE.protocol.hash
    older = {key: value for key, value in SCORE.to_json().items() if key != "top5"}
    assert Score.from_json(older) == replace(SCORE, top5={})
