"""Only the splits that something uses are opened."""

import pytest
import torch
import torchvision
from PIL import Image

from latentdc.distill import main
from latentdc.experts.__main__ import main as train_experts
from latentdc.synthetic import SyntheticSet
from tests.methods.command import RUN, refused, write_recipe


@pytest.fixture(autouse=True)
def trained_on(tmp_path, monkeypatch):
    """A folder of two classes that has no test split."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    for label, level in {"dark": 0, "light": 128}.items():
        (tmp_path / "data" / "train" / label).mkdir(parents=True)
        for number in range(5):
            image = Image.new("RGB", (8, 8), (level + 9 * number, level, level))
            image.save(tmp_path / "data" / "train" / label / f"{number}.png")


OWN = ("data.source=data", "data.cache=cache", "objective.batch=2")


def test_a_set_that_nothing_evaluates_is_made_without_a_test_split(capsys):
    main(["quick.yaml", *OWN, "prune.keep=1"])
    assert (RUN / "synthetic").is_dir() and not (RUN / "results.json").exists()


@pytest.mark.parametrize(
    "uses",
    [
        ["prune.keep=1", "evaluate.rows=[distilled,random]"],
        ["prune.keep=0.5", "prune.score=loss"],
        ["prune.keep=1", "method.kind=rded"],  # which asks a classifier
        ["prune.keep=1", f"method.kind={__name__}:asking"],
        ["prune.keep=1", f"method.kind={__name__}:Asking.make"],
    ],
)
def test_a_split_that_is_used_and_lacks_is_told_before_anything_is_scored(capsys, uses):
    assert "test splits" in refused(capsys, *OWN, *uses)
    assert not RUN.exists(), "no folder was claimed"


def asking(coreset, prior: None, settings, context):
    return _ask(context)


class Asking:
    @staticmethod
    def make(coreset, prior: None, settings, context):
        return max(context.real_classifier()[1] for _ in "x")


def _ask(context):
    return [context.real_classifier() for _ in range(1)]


def silent(coreset, prior: None, settings, context):
    torchvision.models.squeezenet1_1().classifier.eval()
    few = context.real_images().select(torch.tensor([0, 5]))
    return SyntheticSet.from_real(few)


def test_a_method_of_ones_own_that_asks_no_classifier_needs_no_test_split(capsys):
    main(["quick.yaml", *OWN, "prune.keep=1", f"method.kind={__name__}:silent", "ipc=1"])
    assert (RUN / "synthetic").is_dir()


def test_experts_of_all_images_need_no_test_split(capsys):
    settings = ["experts.count=1", "experts.epochs=3", "experts.batch=4"]
    train_experts(["quick.yaml", *OWN, *settings, "prune.keep=1", "objective.kind=mtt"])
    assert "experts: " in capsys.readouterr().out
