"""What trainings tell: real trackers of Accelerate, files of steps, and the page of them."""

import json
import os
from pathlib import Path

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, TensorBoardTracker

from latentdc import cli, run
from latentdc.priors.training import train_prior
from latentdc.recipe import Data
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, UNetTraining
from latentdc.tracking import Tell, flat
from tests.methods.command import QUICK


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").write_text(QUICK)


def lines(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_gets_losses_rates_images_accuracies_and_keys_of_the_recipe():
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["trackers=[tensorboard]", "evaluate.rows=[distilled,random]", "distill.grid_every=2"]
    cli.main(["distill", "quick.yaml", "prune.keep=1.0", *words])
    found = EventAccumulator("runs/quick/latentdc")
    found.Reload()
    assert [one.step for one in found.Scalars("loss")] == [0, 1, 2, 3]
    assert {one.value for one in found.Scalars("lr_z")} == {1.0}
    assert [one.step for one in found.Images("images")] == [2, 4]
    results = json.loads(Path("runs/quick/results.json").read_text())["results"]
    for result in results:
        (told,) = found.Scalars(f"accuracy/{result['set']}/{result['student']}")
        assert told.value == pytest.approx(result["mean"])
    (keys,) = Path("runs/quick/latentdc").glob("*/hparams.yml")
    assert "\ndistill.steps: 4\n" in keys.read_text()


@pytest.mark.slow  # starts a process of its own
def test_wandb_keeps_a_run_offline_in_its_folder(monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cli.main(["distill", "quick.yaml", "prune.keep=1.0", "trackers=[wandb]"])
    (kept,) = Path("runs/quick/wandb").glob("offline-run-*/*.wandb")
    assert b"distill.steps" in kept.read_bytes() and not Path("wandb").exists()


class Refusing(GeneralTracker):
    """A tracker at which nobody is logged in."""

    requires_logging_directory = False
    main_process_only = True
    name = "wandb"

    def __init__(self, *_, **__):
        pass

    def start(self):
        raise RuntimeError("No API key configured.\nUse `wandb login` to log in.")


def refusal(trackers, capsys):
    """The last line of a run whose trackers cannot begin."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(["distill", "quick.yaml", "prune.keep=1.0", f"trackers=[{trackers}]"])
    return capsys.readouterr().err.splitlines()[-1]


def test_a_tracker_that_cannot_begin_is_one_line_and_ends_the_others(monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    pytest.importorskip("wandb")
    ended = []
    finish = TensorBoardTracker.finish
    monkeypatch.setattr(TensorBoardTracker, "finish", lambda it: ended.append(it) or finish(it))
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Refusing)
    monkeypatch.setattr(run, "prune_dataset", lambda *_, **__: pytest.fail("scored first"))
    assert refusal("tensorboard,wandb", capsys) == (
        "latentdc: error: trackers: wandb cannot begin (RuntimeError: No API key configured. Use "
        "`wandb login` to log in.); log in or set WANDB_MODE=offline, or take wandb out of "
        "trackers."
    )
    assert len(ended) == 1


def test_a_tracker_finds_the_folder_of_the_run_which_goes_where_it_cannot_begin(
    monkeypatch, capsys
):
    pytest.importorskip("wandb")

    def start(self):
        raise RuntimeError("found" if Path("runs/quick").is_dir() else "no folder")

    monkeypatch.setattr(Refusing, "start", start)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Refusing)
    assert "(RuntimeError: found)" in refusal("wandb", capsys)
    assert not Path("runs/quick").exists()


def test_a_tracker_without_logins_asks_for_none(monkeypatch, capsys):
    pytest.importorskip("tensorboard")

    def start(self):
        raise PermissionError("cannot write there")

    monkeypatch.setattr(TensorBoardTracker, "start", start)
    assert refusal("tensorboard", capsys) == (
        "latentdc: error: trackers: tensorboard cannot begin (PermissionError: cannot write "
        "there); mend that, or take tensorboard out of trackers."
    )


def test_experts_leave_their_losses_and_a_page(capsys):
    mtt = "objective.trajectory={syn_steps: 2, expert_epochs: 1, max_start_epoch: 1}"
    words = ["objective.kind=mtt", "objective.network=convnet3@4", mtt, "prune.keep=1.0"]
    words += ["experts.count=2", "experts.epochs=2", "objective.trajectory.experts=mine"]
    cli.main(["experts", "quick.yaml", *words])
    told = lines("mine")
    assert [one["step"] for one in told] == [0, 1, 2, 3]
    assert all(one["expert_loss"] > 0 and one["lr"] == 0.01 for one in told)
    cli.main(["report", "mine"])
    assert "Loss of experts" in Path("mine/report.html").read_text()
    os.remove("mine/expert-00000.safetensors")
    cli.main(["experts", "quick.yaml", *words])  # trained anew, its lines stand again
    assert [one["step"] for one in lines("mine")] == [0, 1, 2, 3, 0, 1]


def test_a_prior_leaves_means_of_ten_steps_and_its_caller_hears_of_each(capsys):
    recipe = PriorRecipe(
        data=Data(resolution=8),
        autoencoder=AutoencoderTraining(channels=[16, 16], batch=4, steps=12),
        unet=UNetTraining(channels=[16, 16], heads=8, condition=8, batch=4, steps=12),
        threads=1,
    )
    told = []

    def train(until):
        def tell(step):
            told.append(step["loss"])
            if (step["network"], step["step"]) == until:
                raise KeyboardInterrupt

        told.clear()
        with pytest.raises(KeyboardInterrupt):
            train_prior(recipe, "tiny", Path("tiny"), "", tell)

    train(("autoencoder", 10))
    assert [one["step"] for one in lines("tiny")] == [9]
    train(("unet", 11))  # from the start, for it had saved no state
    first, rest, unet, last = lines("tiny")
    assert [one["step"] for one in lines("tiny")] == [9, 11, 21, 23]
    assert first["autoencoder_loss"] == pytest.approx(sum(told[:10]) / 10)
    assert rest["autoencoder_loss"] == pytest.approx(sum(told[10:12]) / 2)
    assert unet["unet_loss"] == pytest.approx(sum(told[12:22]) / 10)
    assert last["unet_loss"] == pytest.approx(sum(told[22:]) / 2) and len(told) == 24
    assert all(one["lr"] > 0 and one["seconds"] > 0 for one in lines("tiny"))
    cli.main(["report", "tiny"])
    page = Path("tiny/report.html").read_text()
    assert "Loss of the autoencoder" in page and "Loss of the denoiser" in page


def test_a_loss_is_read_for_a_caller_or_when_it_is_due():
    found, unreadable = [], torch.zeros((), device="meta")
    tell = Tell("loss", None, found.append)
    tell({}, unreadable, 0, lr=0.1, due=False)
    with pytest.raises(RuntimeError, match="meta"):
        tell({}, unreadable, 1, lr=0.1, due=True)
    with pytest.raises(RuntimeError, match="meta"):
        Tell("loss", found.append, found.append)({}, unreadable, 0, lr=0.1, due=False)
    assert not found


def test_keys_of_a_recipe_are_flat():
    tree = {"a": {"b": 1, "c": {"d": [1, "x"]}}, "e": None, "f": {}}
    assert flat(tree) == {"a.b": 1, "a.c.d": '[1, "x"]', "e": "null"}
