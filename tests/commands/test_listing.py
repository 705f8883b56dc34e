"""`latentdc list` and `latentdc copy`: what is shipped and known, from the tables of the code."""

import re
import shlex
from pathlib import Path

import pytest

from latentdc import config
from latentdc.cli import main
from latentdc.commands.listing import TABLES
from latentdc.evaluate.loading import load_protocol
from latentdc.networks.build import NETWORKS
from latentdc.recipe import METHODS, ObjectiveSettings, Recipe
from latentdc.recipe.networks import check_network
from latentdc.recipe.rules import RULES
from latentdc.recipe.sampling import GUIDES
from latentdc.sweep.spec import read_sweep


def listed(what, capsys):
    main(["list", what])
    return [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("what", TABLES)
def test_every_name_has_one_line_that_says_what_it_is(what, capsys):
    main(["list", what])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2 and len(set(lines)) == len(lines)
    for line in lines:
        name, _, text = line.partition("  ")
        assert name and len(text.strip()) > 2 and len(line) < 135
    if what in ("methods", "guides", "rules", "objectives"):  # of code, one like the other
        texts = [line.partition("  ")[2].strip() for line in lines]
        assert [t for t in texts if re.match(r"[A-Z][a-z]|\([A-Za-z, ]+\) ", t)] == []


def test_the_names_are_those_that_the_code_takes(capsys):
    assert listed("methods", capsys) == list(METHODS)
    assert listed("rules", capsys) == list(RULES)
    assert listed("guides", capsys) == list(GUIDES)
    assert {*NETWORKS} < {*listed("networks", capsys)}
    for name in listed("objectives", capsys):
        ObjectiveSettings(kind=name)
    for name in listed("networks", capsys):
        if not name.startswith("timm/"):
            check_network(name)
    for name in listed("protocols", capsys):
        load_protocol(name)
    for name in listed("sweeps", capsys):
        read_sweep(config.find(name, "recipes"))
    for name in listed("recipes", capsys):
        config.find(name, "recipes")


def test_networks_of_patches_tell_which_sizes_they_take(capsys):
    main(["list", "networks"])
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "8 px or more, multiples of 8 px up to 128 and of 16 px above" in told["vit"]
    assert "32 px or more, multiples of 16 px" in told["torchvision/vit_b_16"]


def test_a_shipped_recipe_is_copied_to_be_edited_and_never_over_another(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    main(["copy", "methods/mgd3_digits"])
    assert "latentdc distill mgd3_digits.yaml" in capsys.readouterr().out
    copied = config.load(Recipe, Path("mgd3_digits.yaml"))
    assert copied == config.load(Recipe, config.find("methods/mgd3_digits", "recipes"))
    main(["copy", "sweeps/pca", "mine.yaml"])
    assert "latentdc sweep mine.yaml" in capsys.readouterr().out
    for name in ("my own/a recipe.yaml", "-mine.yaml"):
        main(["copy", "methods/mgd3_digits", "--", name])
        told = capsys.readouterr().out.partition("then run latentdc ")[2]
        command, word = shlex.split(told)
        assert command == "distill" and not word.startswith("-") and Path(word).is_file()
    Path("mgd3_digits.yaml").write_text("mine")
    with pytest.raises(SystemExit) as end:
        main(["copy", "methods/mgd3_digits"])
    assert end.value.code == 2 and "mgd3_digits.yaml exists; name" in capsys.readouterr().err
    assert Path("mgd3_digits.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["copy", "digits_ipc"], "did you mean 'digits_ipc1'?"),
        (["copy", "digits_ipc1", "no/such/folder"], "is no folder; a copy is a YAML file"),
        (["list", "methodz"], "invalid choice: 'methodz'"),
        (["list"], "required: WHAT"),
    ],
)
def test_what_is_not_there_is_one_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and told in capsys.readouterr().err
