"""Three ways to use latentdc, each from the page that shows it to what its reader ends up with."""

import shlex
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from latentdc import cli
from tests.test_readme import blocks

pytestmark = pytest.mark.slow
TUTORIALS = Path(__file__).parents[1] / "docs/tutorials"
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
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
