import pytest
import torch
from accelerate import Accelerator

from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import prune_dataset
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe import Prune, RuleSettings, Scorer
from tests.processes import run_two
from tests.prune.toys import colours

SCORER = Scorer(network="convnet3@8", epochs=4, lr=0.1, batch=8)
CALLS = {
    "loss": {"keep": 0.3, "columns": ["tdds"], "rules": RuleSettings(span=3)},
    "herding": {"score": "herding", "count": 5},
    "ccs": {"score": "ccs", "keep": 0.3, "scope": "global"},
}


def score_once(prune, call, folder, accelerator) -> Coreset:
    return prune(colours(50), Prune(scorer=SCORER, **call), folder=folder, accelerator=accelerator)


@pytest.mark.slow
def test_two_processes_choose_what_one_does(tmp_path):
    run_two("tests.prune.two_processes", tmp_path)
    torch.set_num_threads(1)
    for name, call in CALLS.items():
        one = score_once(prune_dataset, call, tmp_path / f"{name}-alone", Accelerator())
        for rank in (0, 1):
            other = Coreset.load(tmp_path / f"{name}-{rank}.parquet")
            assert torch.equal(one.hashes, other.hashes), name
            assert torch.equal(one.scores, other.scores), name
        for scores in [name, "drift"] if name == "loss" else [name]:
            ours, theirs = (
                ScoreTable.load(tmp_path / made / "scores.parquet")
                for made in (scores, f"{name}-alone")
            )
            for column, values in ours.columns.items():
                assert torch.equal(values, theirs.columns[column]), column
