"""Three ways to use latentdc, each from the page that shows it to what its reader ends up with."""

import shlex
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from latentdc import SyntheticSet, cli
from latentdc.results.result import load
from tests.test_readme import blocks

pytestmark = pytest.mark.slow
TUTORIALS = Path(__file__).parents[1] / "docs/tutorials"
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    sys.modules.pop("mine", None)  # of another page
    return tmp_path


def write_digits(folder: Path, names: tuple[str, ...], size: int, counts: tuple[int, ...]) -> None:
    """The first digits of each class as `folder/name/*.png`."""
    digits = load_digits()
    for label, (name, count) in enumerate(zip(names, counts, strict=True)):
        (folder / name).mkdir(parents=True)
        for index, levels in enumerate(digits.images[digits.target == label][:count]):
            image = Image.fromarray((levels * 15.9).astype("uint8")).resize((size, size))
            image.save(folder / name / f"{index}.png")


def run(commands: str, shorter: dict[str, tuple[str, ...]]) -> None:
    """Run a page's commands as they stand, those of `shorter` with more overrides."""
    for line in commands.splitlines():
        if line == "hf auth login":  # the token of the tests' Hub is in the environment
            continue
        program, name, *arguments = shlex.split(line, comments=True)
        assert program == "latentdc"
        cli.main([name, *arguments, *shorter.get(name, ())])


def test_two_methods_are_compared_in_four_commands(desk, capsys):
    for split, count in (("train", 12), ("test", 4)):
        write_digits(desk / "cifar" / split, CIFAR, 32, (count,) * 10)
    (commands,) = blocks(TUTORIALS / "compare_two_methods.md", "bash")
    short = ("data.source=cifar", "prune.score=random", "distill.steps=1")
    run(commands, {"distill": (*short, "ipc=1", "evaluate.seeds=2", "evaluate.steps=2")})
    assert len(commands.splitlines()) == 4
    page, table = (desk / "report.html").read_text(), (desk / "table.tex").read_text()
    for name in ("ld3m", "mgd3", "random"):
        assert name in page and name in table
    assert r"\toprule" in table and r"\pm" in table


def test_a_folder_of_unbalanced_classes_goes_to_the_hub_and_back(desk, hub):
    page = TUTORIALS / "own_data.md"
    write_digits(desk / "pets", ("cats", "dogs", "rabbits"), 32, (120, 60, 30))
    for language, name in (("yaml", "my_pets.yaml"), ("python", "mine.py")):
        (desk / name).write_text(next(b for b in blocks(page, language) if b[2:].startswith(name)))
    short = ("distill.steps=2", "evaluate.seeds=1", "evaluate.steps=2")
    work, share = blocks(page, "bash")
    run(work, {"distill": short, "evaluate": short[-2:]})
    made = SyntheticSet.from_pretrained(desk / "runs/my_pets")
    assert made.labels.bincount().tolist() == [5, 5, 5]
    assert made.class_names == ("cats", "dogs", "rabbits")
    students = {row.student.partition("#")[0] for row in load(desk / "runs/my_pets/results.json")}
    assert students == {"convnet3@64", "mine:resnet10"}
    later = load(desk / "runs/my_pets/evaluation.json")
    assert {row.student for row in later} == {"alexnet@32"}
    assert {"distilled", "random"} <= {row.set for row in later}
    run(share, {"evaluate": short[-2:]})
    assert b"license: cc-by-4.0" in hub.files("datasets/user/my-pets")["README.md"]
    again = SyntheticSet.from_pretrained("user/my-pets")
    assert torch.equal(again.images, made.images) and again.class_names == made.class_names
    back = load(desk / "runs/from_the_hub/evaluation.json")
    assert {row.student for row in back} == {"vgg11@16"}


def test_a_network_and_an_objective_of_ones_own_are_named_in_a_command(desk):
    page = TUTORIALS / "own_student_and_objective.md"
    (desk / "mine.py").write_text(blocks(page, "python")[0])
    (commands,) = blocks(page, "bash")
    short = ("prune.score=random", "distill.steps=1", "evaluate.seeds=1", "evaluate.steps=2")
    run(commands, {"distill": short})
    assert {row.student.partition("#")[0] for row in load(desk / "runs/mine/results.json")} == {
        "mine:SmallNet"
    }
