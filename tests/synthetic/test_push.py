from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import HfHubHTTPError

from latentdc.synthetic.push import main
from tests.synthetic.sets import random_set

FILES = {
    "README.md",
    "data/train-00000-of-00001.parquet",
    "grid.png",
    "latents.safetensors",
    "provenance.json",
    "recipe.yaml",
}
RESPONSE = SimpleNamespace(headers={}, request=None)


class Hub:
    """What the client is asked for, in place of a network."""

    def __init__(self) -> None:
        self.repos: list[dict] = []
        self.commits: list[dict] = []
        self.files = [".gitattributes"]

    def create_repo(self, api: HfApi, repo_id: str, **options: object) -> RepoUrl:
        self.repos.append({"repo_id": repo_id, **options})
        return RepoUrl(f"https://huggingface.co/datasets/{repo_id}")

    def list_repo_files(self, api: HfApi, repo_id: str, **_: object) -> list[str]:
        return self.files

    def create_commit(self, api: HfApi, repo_id: str, operations: list, **options: object) -> None:
        kinds = {"CommitOperationAdd": "add", "CommitOperationDelete": "delete"}
        changes: dict[str, dict[str, object]] = {"add": {}, "delete": {}}
        for operation in operations:
            content = getattr(operation, "path_or_fileobj", None)
            data = Path(content).read_bytes() if content else None
            changes[kinds[type(operation).__name__]][operation.path_in_repo] = data
        self.commits.append({"repo_id": repo_id, **changes, **options})


@pytest.fixture
def hub(monkeypatch) -> Hub:
    fake = Hub()
    for name in ("create_repo", "list_repo_files", "create_commit"):
        method = getattr(fake, name)
        monkeypatch.setattr(HfApi, name, lambda *a, _method=method, **k: _method(*a, **k))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    return fake


@pytest.fixture
def run(tmp_path) -> Path:
    random_set().save_pretrained(tmp_path / "run" / "synthetic", recipe="ipc: 2\n")
    return tmp_path / "run"


@pytest.mark.smoke
def test_a_run_is_pushed_to_a_private_repo_in_one_commit(hub, run, capsys):
    main([str(run), "user/name"])
    assert hub.repos == [
        {"repo_id": "user/name", "repo_type": "dataset", "private": True, "exist_ok": True}
    ]
    [commit] = hub.commits
    assert (commit["repo_id"], commit["repo_type"]) == ("user/name", "dataset")
    assert commit["add"] == {name: (run / "synthetic" / name).read_bytes() for name in FILES}
    assert commit["delete"] == {}
    assert capsys.readouterr().out == "https://huggingface.co/datasets/user/name\n"


def test_the_folder_of_a_set_is_pushed_publicly_when_told(hub, run):
    main([str(run / "synthetic"), "user/name", "--public"])
    assert hub.repos[0]["private"] is False
    assert set(hub.commits[0]["add"]) == FILES


def test_what_the_older_set_alone_had_is_deleted_in_the_same_commit(hub, run):
    shard = "data/train-00001-of-00003.parquet"
    hub.files += ["results.json", "grid.png", "notes.txt", shard]
    main([str(run), "user/name"])
    [commit] = hub.commits
    assert set(commit["delete"]) == {"results.json", shard}


def test_a_set_in_memory_pushes_what_it_would_save(hub):
    url = random_set().push_to_hub("user/name", recipe="ipc: 2\n")
    assert url == "https://huggingface.co/datasets/user/name"
    assert hub.repos[0]["private"] is True
    [commit] = hub.commits
    assert set(commit["add"]) == FILES


def test_a_missing_run_is_refused_before_the_hub_is_asked(hub, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "none"), "user/name"])
    assert "give a finished run" in capsys.readouterr().err
    assert hub.repos == []


@pytest.mark.parametrize(
    "repo", ["name", "a/b/c", "./a", "~/a", "a/b.git", "a--b/c", "a b/c", "a/"]
)
def test_a_name_that_the_hub_does_not_take_is_refused_before_it_is_asked(hub, run, capsys, repo):
    with pytest.raises(SystemExit, match="2"):
        main([str(run), repo])
    assert "push.repo is user/name" in capsys.readouterr().err
    assert hub.repos == []


def test_a_repo_may_be_called_like_a_local_folder(hub, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "name").mkdir(parents=True)
    main([str(run), "user/name"])
    assert hub.repos[0]["repo_id"] == "user/name"


def test_nobody_logged_in_is_told_what_to_do(hub, run, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(SystemExit, match="2"):
        main([str(run), "user/name"])
    assert "run `hf auth login`" in capsys.readouterr().err
    assert hub.repos == []


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (HfHubHTTPError("403 Forbidden", response=RESPONSE), 2, "403 Forbidden); give user/name"),
        (ConnectionError("no route to host"), 1, "cannot be reached: no route to host"),
    ],
)
def test_a_refusal_and_a_broken_network_end_in_one_line(
    hub, run, monkeypatch, capsys, error, code, message
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(HfApi, "create_repo", fail)
    with pytest.raises(SystemExit, match=str(code)):
        main([str(run), "user/name"])
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert hub.commits == []


@pytest.mark.parametrize("name", ["README.md", "results.json", "data/train-00001-of-00002.parquet"])
def test_files_elsewhere_are_not_pushed_through_links(hub, run, tmp_path, capsys, name):
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    link = run / "synthetic" / name
    for target in (secret, "/dev/zero", tmp_path):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(SystemExit) as end:
            main([str(run), "user/name"])
        error = capsys.readouterr().err
        assert end.value.code == 2 and error.count("\n") == 1
        assert f"{name} is no file of the set itself" in error
    assert not hub.commits and not hub.repos


def test_a_download_of_the_hub_is_pushed_although_it_is_made_of_links(
    hub, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (run / "synthetic" / "README.md").rename(tmp_path / "cache" / "blob")
    (run / "synthetic" / "README.md").symlink_to(tmp_path / "cache" / "blob")
    main([str(run), "user/name"])
    assert hub.commits[0]["add"]["README.md"] == (tmp_path / "cache" / "blob").read_bytes()
