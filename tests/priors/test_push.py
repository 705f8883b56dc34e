import shutil

import pytest
from huggingface_hub import ModelCard

from latentdc import cli, config, load_prior
from latentdc import hub as hubs
from latentdc.priors.files import prior_folder
from latentdc.recipe import PriorSettings

DIGITS = config.shipped_folder("assets/priors") / "digits"
REPO = "models/user/digits"
PUSH = ["push-prior", "digits", "user/digits", "--license", "apache-2.0"]


def refusal(capsys, words) -> str:
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    return capsys.readouterr().err.splitlines()[-1]


def test_a_prior_is_pushed_and_loaded_by_its_name(hub, capsys):
    cli.main([*PUSH, "--tag", "v1"])
    assert capsys.readouterr().out == f"{hub.address}/user/digits\n"
    assert hub.repos[REPO].private
    mine, theirs = (
        load_prior(PriorSettings(weights=name), resolution=16) for name in ("digits", "user/digits")
    )
    assert theirs.identity == mine.identity
    assert str(prior_folder("user/digits", "v1")) == str(prior_folder("user/digits"))


def test_its_card_states_the_licence_and_how_to_load_it_and_keeps_what_people_wrote(hub):
    cli.main(PUSH)
    first = hub.files(REPO)["README.md"].decode()
    assert ModelCard(first).data.license == "apache-2.0"
    assert "# digits: a small latent diffusion prior" in first
    assert 'latentdc.PriorSettings(weights="user/digits"), resolution=RESOLUTION)' in first
    hub.edit(REPO, README_md=first.replace("# digits: a", "# Ours: a") + "\nMine.\n")
    cli.main([*PUSH[:-1], "mit", "--revision", "next"])
    card = ModelCard(hub.files(REPO, "next")["README.md"].decode())
    assert card.data.license == "mit"
    assert "# Ours: a" in card.text and card.text.endswith("Mine.\n")
    assert 'weights="user/digits", revision="next"' in card.text
    assert card.text.count(hubs.BEGIN) == 1


def test_a_prior_without_a_card_gets_one_and_only_what_is_read_is_pushed(hub, tmp_path):
    shutil.copytree(DIGITS, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").unlink()
    (tmp_path / "mine" / "secret.txt").write_text("secret")
    cli.main(["push-prior", str(tmp_path / "mine"), "user/digits", "--license", "mit"])
    pushed = hub.files(REPO)
    text = pushed["README.md"].decode()
    assert "# digits\n\nA prior for latentdc, in the layout of diffusers: vae, unet, " in text
    assert "secret.txt" not in pushed and "unet/config.json" in pushed
    assert any(name.startswith("vae/") and name.endswith(".safetensors") for name in pushed)


def test_a_licence_is_asked_for_before_the_hub(hub, capsys):
    assert "required: --license" in refusal(capsys, PUSH[:-2])
    assert "push.license is an identifier" in refusal(capsys, [*PUSH[:-1], "MIT License"])
    assert hub.requests == []


def test_weights_that_are_not_there_are_told(hub, capsys, tmp_path):
    shutil.copytree(DIGITS, tmp_path / "mine")
    for file in (tmp_path / "mine" / "unet").glob("*.safetensors"):
        file.unlink()
    words = ["push-prior", str(tmp_path / "mine"), *PUSH[2:]]
    assert "unet: it has no weights" in refusal(capsys, words)
    assert hub.requests == []


def test_a_token_without_rights_ends_in_one_line(hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert "the Hub refuses 'user/digits' (403 Forbidden" in refusal(capsys, PUSH)
