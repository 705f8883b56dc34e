import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import LoggerType
from torch import distributed

from latentdc import runtime
from latentdc.distill import main
from tests.methods.command import write_recipe


class Notebook:
    """A tracker that remembers."""

    name = "notebook"

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.ended = 0

    def log(self, values, step, **_) -> None:
        assert torch.tensor(values["loss"]).isfinite()
        self.steps.append(step)

    def finish(self) -> None:
        self.ended += 1


@pytest.fixture
def group():
    """A group of processes, of this one alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.smoke
@pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")
def test_trackers_end_with_a_run_and_the_processes_do_not(tmp_path, monkeypatch, group):
    """An ablation or a sweep has its next run in the same processes."""
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    notebook = Notebook()
    monkeypatch.setattr(runtime, "get_available_trackers", lambda: [LoggerType.TENSORBOARD])

    told = {}

    def init_trackers(accelerator, name, config, init_kwargs):
        accelerator.trackers = [notebook]
        told.update(config)

    monkeypatch.setattr(Accelerator, "init_trackers", init_trackers)
    home = f"{tmp_path}/jane.doe"
    main(["quick.yaml", "trackers=[tensorboard]", f"output={home}/run", f"data.cache={home}/cache"])
    assert told["seed"] == 0 and told["distill.steps"] == 4
    assert str(tmp_path) not in str(told)  # others read it
    assert notebook.steps == [0, 1, 2, 3] and notebook.ended == 1
    assert distributed.is_initialized()
