"""Every recipe that latentdc brings: it loads, its command accepts it, and it can be counted."""

import socket

import diffusers
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from latentdc import cli, config
from latentdc.priors.loading import load_prior
from latentdc.recipe import Recipe

SHIPPED = config.shipped_folder("recipes")
PRIORS = sorted((SHIPPED / "priors").glob("*.yaml"), key=str)
RUNS = sorted(SHIPPED.glob("*.yaml"), key=str)


def name(path) -> str:
    return path.stem


@pytest.fixture(autouse=True)
def no_network_and_no_weights(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a dry run needs neither a network nor weights")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(diffusers.ModelMixin, "from_pretrained", refuse)
    monkeypatch.chdir(tmp_path)


def test_all_recipes_are_seen():
    assert {"digits_ipc1", "cifar10_ipc10", "imagenette_ipc10", "in1k_ipc10"} <= {
        path.stem for path in RUNS
    }
    assert {"digits", "cifar10"} <= {path.stem for path in PRIORS}
    assert {*RUNS, *PRIORS} == {*SHIPPED.rglob("*.yaml")}


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_recipe_is_accepted_and_says_how_to_run_it(path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["distill", str(path), "--print-config"])
    assert stop.value.code == 0, capsys.readouterr().err
    assert f"latentdc.distill recipes/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_recipe_can_be_counted_before_anything_is_downloaded(path, capsys, tmp_path):
    weights = config.load(Recipe, path).prior.weights
    if "/" not in weights and not (config.shipped_folder("assets/priors") / weights).is_dir():
        pytest.skip(f"the prior {weights} is not shipped yet")
    cli.main(["distill", str(path), "--dry-run"])
    printed = capsys.readouterr().out
    assert "training images:" in printed and "unknown" not in printed
    assert "denoiser:" in printed and "GMAC" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", PRIORS, ids=name)
def test_the_recipe_of_a_prior_is_accepted_and_says_how_to_run_it(path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train-prior", str(path), "--print-config"])
    assert stop.value.code == 0, capsys.readouterr().err
    assert f"latentdc.priors.train recipes/priors/{path.name}" in path.read_text()


def test_a_sample_of_dit_xl_costs_what_its_authors_count():
    prior = load_prior("diffusion", "facebook/DiT-XL-2-256", resolution=256, device="meta")
    z = torch.empty(1, *prior.latent_shape, device="meta")
    c = prior.condition(torch.zeros(1, dtype=torch.long, device="meta"))
    with FlopCounterMode(display=False) as counter:
        prior.denoiser(z, 999, c)
    gmac = counter.get_total_flops() / 2 / 1e9
    assert 118.6 < gmac < 118.7
    assert prior.latent_shape == (4, 32, 32)
