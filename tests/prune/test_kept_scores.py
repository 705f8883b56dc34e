"""Scores in a folder are taken only for the images, and the resolution, that they were made of."""

from dataclasses import replace

import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune import score as module
from latentdc.prune.foreign import read_scores
from latentdc.prune.prune import prune_dataset
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe import Prune, Scorer
from tests.prune.toys import colours

QUICK = Scorer(network="convnet3@16", epochs=5, lr=0.1, batch=8)
SMALL = colours(64)
LARGE = replace(SMALL, images=SMALL.images.repeat_interleave(2, 2).repeat_interleave(2, 3))
FEWER = SMALL.select(torch.arange(4, 64))
RENAMED = replace(SMALL, class_names=("crimson", "azure"))


def prune(train, folder=None, score="loss"):
    return prune_dataset(train, Prune(score=score, keep=0.5, scorer=QUICK), folder=folder)


def test_other_images_are_scored_anew(tmp_path):
    prune(SMALL, tmp_path)
    for now in (LARGE, FEWER, SMALL, RENAMED):
        coreset, fresh = prune(now, tmp_path), prune(now)
        assert torch.equal(coreset.hashes, fresh.hashes)
        assert torch.equal(coreset.scores, fresh.scores)


def test_brought_scores_may_be_of_more_images(tmp_path):
    prune(SMALL, tmp_path)
    scores = str(tmp_path / "scores.parquet")
    brought = prune_dataset(FEWER, Prune(keep=0.5, scores=scores))
    loss = read_scores(tmp_path / "scores.parquet", SMALL, "loss").column("loss")
    assert torch.equal(brought.scores, loss[4:][brought.indices(FEWER)])


def test_features_of_an_earlier_scoring_are_left_alone(tmp_path, monkeypatch):
    prune(SMALL, tmp_path, score="herding")
    path = tmp_path / "scores.parquet"
    assert read_scores(path, SMALL, "herding").features is not None
    prune(FEWER, tmp_path)
    assert (tmp_path / "features.npy").is_file()  # of 64 images, beside the scores of 60
    monkeypatch.setattr(module, "compute_scores", None)  # the scores are there
    prune(FEWER, tmp_path)
    assert read_scores(path, FEWER, "loss").features is None


def test_damaged_scores_are_neither_taken_nor_replaced_in_silence(tmp_path):
    prune(SMALL, tmp_path, score="herding")
    path = tmp_path / "scores.parquet"
    sound, whole = path.read_bytes(), ScoreTable.load(path)
    refused = []
    for place in range(0, len(sound), 97):
        content = bytearray(sound)
        content[place] ^= 1
        path.write_bytes(bytes(content))
        try:
            found = ScoreTable.load(path)
        except InputError as error:
            refused.append(str(error))
        else:  # of a byte that is not read
            assert found.facts == whole.facts and torch.equal(found.hashes, whole.hashes)
            assert all(torch.equal(found.column(n), c) for n, c in whole.columns.items())
    assert len(refused) > len(sound) // 97 / 2
    assert all("scores.parquet" in line and line.count("\n") == 0 for line in refused)
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(InputError, match=r"cannot read the scores .*scores\.parquet"):
        prune(SMALL, tmp_path)


def test_features_that_are_not_those_of_the_scores_are_refused(tmp_path):
    prune(SMALL, tmp_path, score="herding")
    path = tmp_path / "features.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"features\.npy is damaged.*scores\.parquet; delete both"):
        prune(SMALL, tmp_path, score="herding")
    for name in ("features.npy", "scores.parquet"):
        (tmp_path / name).unlink()
    prune(SMALL, tmp_path, score="herding")
    assert ScoreTable.load(tmp_path / "scores.parquet").features is not None
