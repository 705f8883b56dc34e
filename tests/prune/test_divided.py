"""One training of all processes."""

import pytest
import torch
from accelerate import Accelerator

from latentdc.divided import is_divided, process_facts
from latentdc.prune.scorer_training import scorer_facts
from latentdc.recipe import Scorer
from tests.processes import run_two
from tests.prune.toys import colours
from tests.prune.two_divided import STEPS, trained


class Eight:
    """Of a launch of eight processes."""

    num_processes = 8


LARGE = {"num_classes": 1000, "resolution": 224, "batch": 64}


@pytest.mark.parametrize(
    ("network", "changes", "divided"),
    [
        ("resnet18", {}, True),
        ("convnet3@64", {}, True),
        ("convnet3@16", {"resolution": 16}, False),  # too little work
        ("resnet18", {"batch": 15}, False),  # fewer than two images for each
    ],
)
def test_long_trainings_are_divided_among_all_processes(network, changes, divided):
    settings = {**LARGE, **changes}
    assert is_divided(network, **settings, processes=8) == divided
    assert not is_divided(network, **settings, processes=1)


def test_the_number_of_processes_counts_where_it_changes_what_is_learned():
    large = {"batch": 64, "resolution": 224}
    found = scorer_facts(Scorer(network="resnet18-bn", **large), colours(8), Eight())
    assert found == {"processes": 8}
    for same in (
        Scorer(network="resnet18-bn", **large, infobatch=0.5),  # not divided
        Scorer(network="resnet18-bn", batch=8),
        Scorer(network="resnet18", **large),  # neither batch norm nor dropout
    ):
        assert scorer_facts(same, colours(8), Eight()) == {}


@pytest.mark.parametrize(
    ("network", "counts"),
    [
        ("torchvision/convnext_tiny", True),  # stochastic depth
        ("torchvision/resnet18", True),
        ("tests.evaluate.toys:Idle", True),  # may draw where nobody sees it
        ("convnet3", False),
    ],
)
def test_networks_that_draw_or_may_draw_name_the_processes(network, counts):
    sizes = {"num_classes": 10, "resolution": 32}
    found = process_facts(network, **sizes, processes=8)
    assert found == ({"processes": 8} if counts else {})


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_whole_batches(tmp_path):
    run_two("tests.prune.two_divided", tmp_path)
    one, (first, second) = trained(Accelerator()).state(), map(torch.load, tmp_path.glob("?.pt"))
    assert first["seen"].tolist() == second["seen"].tolist() == [7, 7, 3] * (STEPS // 3)
    for name, expected in one.items():
        torch.testing.assert_close(first[name], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(first[name], second[name])
