"""That no benchmark is left behind where a name of the package moves: most run by hand alone."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports_from_the_package(path):
    lacking = [
        f"{node.module}.{one.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("latentdc")
        for one in node.names
        if not _is_there(str(node.module), one.name)
    ]
    assert not lacking


def _is_there(module: str, name: str) -> bool:
    if hasattr(import_module(module), name):
        return True
    try:
        import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True


def test_changes_of_a_recipe_may_follow_any_option_of_prior_samples(monkeypatch):
    module = import_module("benchmarks.prior_samples")
    asked = []

    def load(schema, path, overrides):
        asked.append(overrides)
        raise InterruptedError

    monkeypatch.setattr(module, "load", load)
    for words in (["--guidance", "1,2", "ipc=2"], ["ipc=2", "--guidance", "3"]):
        monkeypatch.setattr("sys.argv", ["prior_samples.py", "digits", "digits_ipc1", *words])
        with pytest.raises(InterruptedError):
            module.main()
    assert asked == [["ipc=2"], ["ipc=2"]]
