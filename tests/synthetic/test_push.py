import json
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, HfApi

from latentdc import cli
from latentdc import hub as hubs
from latentdc.recipe import Hub
from latentdc.results.result import save
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.push import push_folder
from latentdc.synthetic.synthetic_set import set_hash
from tests.results.toys import result
from tests.synthetic.sets import random_set

main = cli.entry("push")

FILES = {
    "README.md",
    "data/train-00000-of-00001.parquet",
    "grid.png",
    "latents.safetensors",
    "provenance.json",
    "recipe.yaml",
}
REPO = "datasets/user/name"


@pytest.fixture
def run(tmp_path) -> Path:
    random_set().save_pretrained(tmp_path / "run" / "synthetic", recipe="ipc: 2\n")
    return tmp_path / "run"


def card(hub, revision="main") -> DatasetCard:
    return DatasetCard(hub.files(REPO, revision)["README.md"].decode())


def refusal(capsys, words: list[str], code: int = 2) -> str:
    with pytest.raises(SystemExit, match=str(code)):
        main(words)
    told = capsys.readouterr().err
    line = told.splitlines()[-1]
    assert line.startswith("latentdc: error: ") and told.count("latentdc: error") == 1
    return line


@pytest.mark.smoke
def test_a_run_is_pushed_to_a_private_repo_in_one_commit_and_loaded_by_its_name(hub, run, capsys):
    main([str(run), "user/name"])
    told = capsys.readouterr()
    assert told.out == f"{hub.address}/datasets/user/name\n"
    assert "its licence is unknown until you state one" in told.err
    assert hub.repos[REPO].private and len(hub.repos[REPO].commits) == 2
    assert set(hub.files(REPO)) == FILES | {".gitattributes"}
    for name in FILES - {"README.md"}:
        assert hub.files(REPO)[name] == (run / "synthetic" / name).read_bytes()
    assert set_hash(SyntheticSet.from_pretrained("user/name")) == set_hash(random_set())


def test_the_folder_of_a_set_is_pushed_publicly_when_told(hub, run, monkeypatch):
    main([str(run / "synthetic"), "user/name", "--public"])
    assert not hub.repos[REPO].private
    monkeypatch.delenv("HF_TOKEN")
    assert len(SyntheticSet.from_pretrained("user/name")) == 8


def test_a_private_set_is_not_given_to_others(hub, run, monkeypatch):
    main([str(run), "user/name"])
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ValueError, match="for a private set log in"):
        SyntheticSet.from_pretrained("user/name")


@pytest.mark.parametrize(("words", "now"), [(["--public"], "private"), ([], "public")])
def test_an_existing_repo_stays_as_visible_as_it_is_and_that_is_said(hub, run, capsys, words, now):
    push_folder(run / "synthetic", Hub(repo="user/name", private=now == "private"))
    main([str(run), "user/name", *words])
    told = capsys.readouterr().err
    assert (
        f"note: user/name exists and is {now}, and a push leaves it so; to change that: hf " in told
    )
    assert hub.repos[REPO].private is (now == "private")


def test_what_the_older_set_alone_had_is_deleted_in_the_same_commit(hub, run):
    main([str(run), "user/name"])
    shard = "data/train-00001-of-00003.parquet"
    files = {**hub.files(REPO), "results.json": b"{}", "notes.txt": b"mine", shard: b"rows"}
    hub.repos[REPO].commit("main", files)
    main([str(run), "user/name"])
    assert set(hub.files(REPO)) == FILES | {".gitattributes", "notes.txt"}
    assert len(hub.repos[REPO].commits) == 4


def test_a_set_in_memory_pushes_what_it_would_save(hub):
    url = random_set().push_to_hub("user/name", recipe="ipc: 2\n", license="cc0-1.0", tag="v1")
    assert url == f"{hub.address}/datasets/user/name"
    assert hub.repos[REPO].private
    assert set(hub.files(REPO, "v1")) == FILES | {".gitattributes"}
    assert card(hub).data.license == "cc0-1.0"


# ---- The card ----


def test_the_card_on_the_hub_names_the_repo_in_its_lines_of_code(hub, run):
    main([str(run), "user/name", "--license", "cc-by-4.0"])
    text = card(hub).text
    assert 'load_dataset("user/name", split="train")' in text
    assert 'SyntheticSet.from_pretrained("user/name")' in text
    assert "hf download user/name recipe.yaml" in text
    assert "NAME" not in text


def test_a_second_push_keeps_what_people_wrote_into_the_card(hub, run):
    main([str(run), "user/name"])
    ours = hub.files(REPO)["README.md"].decode()
    edited = ours.replace("license: unknown", "license: mit\nlanguage: en")
    edited = edited.replace("- latentdc\n", "- latentdc\n- mine\n")
    edited = edited.replace(hubs.BEGIN, f"Read this first.\n\n{hubs.BEGIN}") + "\nThanks to all.\n"
    hub.edit(REPO, README_md=edited.replace("\n", "\r\n"))
    random_set(ipc=3).save_pretrained(run / "synthetic")
    main([str(run), "user/name"])
    data, text = card(hub).data.to_dict(), card(hub).text
    assert (data["license"], data["language"]) == ("mit", "en")
    assert data["tags"] == ["dataset-distillation", "latentdc", "mine", "ipc-3"]
    assert data["pretty_name"] == "noise, 3 images per class"
    assert text.strip().startswith("Read this first.") and text.endswith("Thanks to all.\n")
    assert text.count(hubs.BEGIN) == text.count(hubs.END) == 1
    assert "# noise, 3 images per class" in text and "2 images per class" not in text
    main([str(run), "user/name", "--license", "cc0-1.0"])
    assert card(hub).data.license == "cc0-1.0" and card(hub).text == text


def test_a_changed_title_stays(hub, run):
    main([str(run), "user/name"])
    text = hub.files(REPO)["README.md"].decode()
    hub.edit(
        REPO, README_md=text.replace("pretty_name: noise, 2 images per class", "pretty_name: Ours")
    )
    main([str(run), "user/name"])
    assert card(hub).data.pretty_name == "Ours"


def test_a_card_that_somebody_else_began_is_kept_above_ours(hub, run):
    HfApi().create_repo("user/name", repo_type="dataset", private=True)
    hub.edit(REPO, README_md="---\nlicense: mit\n---\n# Mine\n")
    main([str(run), "user/name"])
    assert card(hub).data.license == "mit"
    assert card(hub).text.strip().startswith(f"# Mine\n\n{hubs.BEGIN}\n\n# noise, 2 images")


def test_a_card_of_the_users_own_in_the_folder_is_pushed_as_it_is(hub, run):
    (run / "synthetic" / "README.md").write_text("---\nlicense: mit\n---\n\nMine alone.\n")
    main([str(run), "user/name"])
    assert card(hub).data.to_dict() == {"license": "mit"}
    assert card(hub).text.strip() == "Mine alone."


def test_a_broken_front_matter_on_the_hub_is_told(hub, run, capsys):
    main([str(run), "user/name"])
    hub.edit(REPO, README_md="---\nlicense: [\n---\n# Mine\n")
    capsys.readouterr()
    line = refusal(capsys, [str(run), "user/name"])
    assert "the front matter of the card of user/name is no YAML" in line


def test_what_the_hub_says_of_a_card_is_told_in_one_line(hub, run, capsys):
    text = (run / "synthetic" / "README.md").read_text()
    wrong = text.replace("license: unknown", "license: NOT-A-LICENSE")
    (run / "synthetic" / "README.md").write_text(wrong)
    line = refusal(capsys, [str(run), "user/name"])
    assert '"license" is none of ours' in line and len(hub.repos[REPO].commits) == 1


# ---- Branches and tags ----


def test_a_branch_and_a_tag_are_made_and_loaded_by_their_names(hub, run):
    main([str(run), "user/name", "--tag", "v1"])
    random_set(ipc=3).save_pretrained(run / "synthetic", recipe="ipc: 3\n")
    main([str(run), "user/name", "--revision", "larger"])
    sizes = [len(SyntheticSet.from_pretrained("user/name", one)) for one in (None, "v1", "larger")]
    assert sizes == [8, 8, 12]
    text = card(hub, "larger").text
    assert 'load_dataset("user/name", revision="larger", split="train")' in text
    assert "hf download user/name --revision larger recipe.yaml" in text


def test_a_tag_that_stands_is_refused_before_anything_is_sent(hub, run, capsys):
    main([str(run), "user/name", "--tag", "v1"])
    random_set(ipc=3).save_pretrained(run / "synthetic")
    capsys.readouterr()
    line = refusal(capsys, [str(run), "user/name", "--tag", "v1"])
    assert "user/name has a tag v1 already, and tags stay; choose another one" in line
    assert len(hub.repos[REPO].commits) == 2


# ---- What goes wrong ----


def test_a_missing_run_is_refused_before_the_hub_is_asked(hub, tmp_path, capsys):
    assert "give a finished run" in refusal(capsys, [str(tmp_path / "none"), "user/name"])
    assert hub.requests == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(
            ([repo], "push.repo is user/name")
            for repo in ("name", "a/b/c", "./a", "~/a", "a/b.git", "a--b/c", "a b/c", "a/")
        ),
        (["a/b", "--license", "CC BY"], "push.license is an identifier of the Hub, such as cc-by"),
        (["a/b", "--tag", "../x"], "push.tag is a name of Git"),
        (["a/b", "--revision", ""], "push.revision is a name of Git"),
    ],
)
def test_names_that_the_hub_does_not_take_are_refused_before_it_is_asked(
    hub, run, capsys, words, said
):
    assert said in refusal(capsys, [str(run), *words])
    assert hub.requests == []


def test_a_repo_may_be_called_like_a_local_folder(hub, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "name").mkdir(parents=True)
    main([str(run), "user/name"])
    assert REPO in hub.repos


def test_nobody_logged_in_is_told_what_to_do(hub, run, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "run `hf auth login`" in refusal(capsys, [str(run), "user/name"])
    assert hub.requests == []


def test_a_damaged_set_is_not_pushed(hub, run, capsys):
    path = run / "synthetic/data/train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is damaged" in refusal(capsys, [str(run), "user/name"])
    assert hub.requests == []


@pytest.mark.smoke
@pytest.mark.parametrize("token", ["hf_read", "hf_other"])
def test_a_token_without_rights_ends_in_one_line(hub, run, monkeypatch, capsys, token):
    monkeypatch.setenv("HF_TOKEN", token)
    line = refusal(capsys, [str(run), "user/name"])
    assert "the Hub refuses 'user/name' (" in line and "403 Forbidden" in line and ".)" not in line
    assert "a login with write access" in line and hub.repos == {}


def test_a_token_that_may_not_write_changes_nothing(hub, run, monkeypatch, capsys):
    main([str(run), "user/name"])
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    random_set(ipc=3).save_pretrained(run / "synthetic")
    capsys.readouterr()
    assert "403 Forbidden" in refusal(capsys, [str(run), "user/name"])
    assert len(hub.repos[REPO].commits) == 2


def test_an_upload_that_was_cut_off_goes_on_where_it_was(hub, run, capsys):
    hub.broken = 1
    line = refusal(capsys, [str(run), "user/name"], code=1)
    assert "start again: what has arrived is not sent twice" in line
    assert len(hub.repos[REPO].commits) == 1, "nothing of a set is seen before all of it is there"
    hub.requests.clear()
    arrived = len(hub.objects)
    main([str(run), "user/name"])
    sent = [request for request in hub.requests if request.startswith("PUT")]
    assert len(sent) == 3 - arrived and set(FILES) < set(hub.files(REPO))
    assert set_hash(SyntheticSet.from_pretrained("user/name")) == set_hash(random_set())


def test_a_card_that_somebody_edits_during_a_push_is_not_overwritten(hub, run, capsys, monkeypatch):
    main([str(run), "user/name"])
    preupload = HfApi.preupload_lfs_files

    def edited(*args, **options):
        hub.edit(REPO, README_md="# Mine\n")
        return preupload(*args, **options)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", edited)
    random_set(ipc=3).save_pretrained(run / "synthetic")
    capsys.readouterr()
    assert "somebody changed it just now" in refusal(capsys, [str(run), "user/name"], code=1)
    assert hub.files(REPO)["README.md"] == b"# Mine\n"


def test_a_hub_that_cannot_be_reached_ends_in_one_line(hub, run, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    line = refusal(capsys, [str(run), "user/name"], code=1)
    assert "'user/name' was not pushed, the Hub cannot be reached: " in line


@pytest.mark.parametrize("name", ["README.md", "results.json", "data/train-00001-of-00002.parquet"])
def test_files_elsewhere_are_not_pushed_through_links(hub, run, tmp_path, capsys, name):
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    link = run / "synthetic" / name
    for target in (secret, "/dev/zero", tmp_path):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        line = refusal(capsys, [str(run), "user/name"])
        assert f"{name} is no file of {run / 'synthetic'} itself" in line
    assert hub.requests == []


def test_a_download_of_the_hub_is_pushed_although_it_is_made_of_links(hub, run):
    main([str(run), "user/name", "--license", "mit"])
    one = HfApi().snapshot_download("user/name", repo_type="dataset")
    main([one, "user/again"])
    assert hub.files("datasets/user/again")["grid.png"] == hub.files(REPO)["grid.png"]


def test_results_that_are_damaged_or_of_another_set_are_not_pushed(hub, run, capsys):
    path, own = run / "synthetic" / "results.json", set_hash(random_set())
    save(path, [result(hashes=("0123456789abcdef",) * 2)])
    line = refusal(capsys, [str(run), "user/name"])
    assert f"is of these images (hash {own}), and they would be published beside them" in line
    path.write_text("{")
    line = refusal(capsys, [str(run), "user/name"])
    assert f"{path} is damaged, or none of latentdc's" in line
    path.write_text(json.dumps({"version": 5, "results": [3], "protocols": {}}))
    line = refusal(capsys, [str(run), "user/name"])
    assert "results.json is no results.json or evaluation.json of latentdc" in line
    assert not hub.repos
    save(path, [result(hashes=(own,) * 2), result("random")])
    main([str(run), "user/name"])
    assert hub.files(REPO)["results.json"] == path.read_bytes()
