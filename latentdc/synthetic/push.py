"""`latentdc push RUN user/name`: a synthetic set becomes a data set repo on the Hub."""

from argparse import Namespace
from pathlib import Path

from latentdc import cli, hub
from latentdc.errors import InputError
from latentdc.recipe import Hub
from latentdc.synthetic import folder as layout


def push_folder(folder: Path, to: Hub, *, token: str | None = None) -> str:
    """Push the folder of a synthetic set in one commit.

    Args:
        folder: written by `SyntheticSet.save_pretrained`.
        to: `Hub(repo="user/name")`; the repo is made if it does not exist. An older set in it is
            replaced, but for what people wrote into its card.
        token: of the Hub; None takes the stored login.

    Returns:
        The address of the repo.

    Raises:
        InputError: no name of a repo, nobody is logged in, a damaged set, a link to elsewhere in
            the folder, or the Hub refuses the repo.
        RunError: the Hub cannot be reached.
    """
    from latentdc.synthetic.files import read_set

    if to.repo is None:
        raise InputError('push_folder pushes to Hub(repo="user/name"), got no repo.')
    paths = [path for pattern in layout.FILES for path in sorted(folder.glob(pattern))]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    hub.require_own_files(files, folder)
    if token is None:
        hub.require_login()
    read_set(folder)  # refuses a damaged one
    path = files.pop(layout.CARD, None)
    if path is None:
        raise InputError(f"{folder} lacks its card, {layout.CARD}; bring it back.")
    with layout.reading(path):
        text = path.read_bytes().decode()
    card = hub.named_card(text, to)
    return hub.push(files, to, "dataset", card=card, stale=layout.FILES, token=token)


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Push a synthetic set to a data set repo of the Hugging Face Hub, in one commit. A new "
        "repo is private. What people wrote into the card there stays."
    )
    parser.add_argument("run", help="run folder, or the folder of a synthetic set")
    hub.add_repo(parser, "data set")


def run(options: Namespace) -> None:
    """Push the synthetic set of a run."""
    cli.one_process("latentdc push")
    folder = layout.find_local(options.run)
    if folder is None:
        raise InputError(f"no folder {options.run}; give a finished run or a synthetic set.")
    print(push_folder(folder, hub.repo_of(options)))
