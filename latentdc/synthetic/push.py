"""`latentdc push RUN user/name`: a synthetic set becomes a data set repo on the Hub."""

from argparse import Namespace
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from latentdc import cli
from latentdc.errors import InputError, RunError
from latentdc.recipe import Hub
from latentdc.synthetic import folder as layout


def push_folder(
    folder: Path, repo_id: str, *, private: bool = True, token: str | None = None
) -> str:
    """Push the folder of a synthetic set in one commit.

    Args:
        folder: written by `SyntheticSet.save_pretrained`.
        repo_id: `user/name`; made if it does not exist. An older set in it is replaced.
        private: whether a repo that does not exist yet is made private.
        token: of the Hub; None takes the stored login.

    Returns:
        The address of the repo.

    Raises:
        InputError: no such name of a repo, nobody is logged in, a link to elsewhere in the folder,
            or the Hub refuses the repo.
        RunError: the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    Hub(repo=repo_id)
    if token is None:
        require_login()
    hub = HfApi(token=token)
    files = [path for pattern in layout.FILES for path in sorted(folder.glob(pattern))]
    _require_own(files, folder)
    names = [path.relative_to(folder).as_posix() for path in files]
    try:
        url = hub.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        stale = {
            name
            for name in hub.list_repo_files(url.repo_id, repo_type="dataset")
            if name not in names and any(fnmatch(name, pattern) for pattern in layout.FILES)
        }
        # Not upload_folder, which may split what it sends over several commits.
        hub.create_commit(
            url.repo_id,
            repo_type="dataset",
            operations=[
                *(CommitOperationAdd(name, folder / name) for name in names),
                *(CommitOperationDelete(name) for name in sorted(stale)),
            ],
            commit_message="Push a synthetic set with latentdc",
        )
    except (HFValidationError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"the Hub refuses {repo_id!r} ({reason}); give user/name, and a login with write "
            "access to it."
        ) from error
    except Exception as error:  # network errors, of another type in each release of the client
        raise RunError(f"{repo_id!r} was not pushed, the Hub cannot be reached: {error}") from error
    return str(url)


def _require_own(files: Sequence[Path], folder: Path) -> None:
    """Refuse files that lie elsewhere: in a folder of strangers, links to what is not theirs."""
    from huggingface_hub import constants

    homes = [folder.resolve(), Path(constants.HF_HUB_CACHE).resolve()]  # whose sets are all links
    for path in files:
        real = path.resolve()
        if not real.is_file() or not any(real.is_relative_to(home) for home in homes):
            raise InputError(
                f"{path} is no file of the set itself; put a file there in place of what it is or "
                "links to, or remove it."
            )


def require_login() -> None:
    """Refuse to go on where a push would end for want of a token."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(
            "nobody is logged in to the Hugging Face Hub: run `hf auth login`, or set HF_TOKEN "
            "to a token with write access."
        )


def arguments(parser: cli.Parser) -> None:
    """Those of the command."""
    parser.description = (
        "Push a synthetic set to a data set repo of the Hugging Face Hub, in one commit. A new "
        "repo is private."
    )
    parser.add_argument("run", help="run folder, or the folder of a synthetic set")
    parser.add_argument("repo", metavar="user/name", help="data set repo; made if it is new")
    parser.add_argument("--public", action="store_true", help="make a new repo public")


def run(options: Namespace) -> None:
    """Push the synthetic set of a run."""
    cli.one_process("latentdc push")
    folder = layout.find_local(options.run)
    if folder is None:
        raise InputError(f"no folder {options.run}; give a finished run or a synthetic set.")
    print(push_folder(folder, options.repo, private=not options.public))


main = cli.entry("push")

if __name__ == "__main__":
    main()
