"""The examples in the docstrings of the public API run, and show what they say."""

import doctest

import pytest

import latentdc

# A guide and its state are shown by the example of `OwnGuide`.
SHOWN = sorted({*latentdc.__all__} - {"__version__", "Guide", "StepState"})


@pytest.mark.parametrize("name", SHOWN)
def test_the_examples_of_the_public_api_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = getattr(latentdc, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {"latentdc": latentdc}, name, None, None)
    assert test.examples, f"latentdc.{name} has no example in its docstring"
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert not told, "".join(told)
