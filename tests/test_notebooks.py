"""The notebooks of docs/ hold what running them gives."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
LARGEST = 300_000  # bytes of a notebook with its pictures


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(notebook: dict) -> list[set[tuple[str, ...]]]:
    """What each cell shows, but for what it says on stderr."""
    return [
        {
            (one["output_type"], *sorted(one.get("data", ())))
            for one in cell["outputs"]
            if one.get("name") != "stderr"
        }
        for cell in code_cells(notebook)
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_page_with_its_outputs_and_nothing_of_the_machine(path):
    text = path.read_text()
    notebook = json.loads(text)
    numbers = [cell["execution_count"] for cell in code_cells(notebook)]
    assert numbers == list(range(1, len(numbers) + 1))
    shown = kinds(notebook)
    assert sum(map(len, shown)) >= 3 and "error" not in {one[0] for cell in shown for one in cell}
    assert len(text) < LARGEST
    assert not re.search(r"/(root|home|tmp|usr|work)/|\\\\Users", text)
    assert path.relative_to(ROOT / "docs").as_posix() in (ROOT / "mkdocs.yml").read_text()


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_the_outputs_that_it_shows(path, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra docs")
    pytest.importorskip("ipykernel", reason="notebooks need the extra docs")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    shown = nbformat.read(path, as_version=4)
    again = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(again, timeout=500, kernel_name="python3", resources=place).execute()
    assert kinds(again) == kinds(shown)
