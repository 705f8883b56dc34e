"""`latentdc push RUN user/name`: a synthetic set becomes a data set repo on the Hub."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentdc import cli, hub, io
from latentdc.errors import InputError
from latentdc.recipe import BASELINES, Hub
from latentdc.results.result import load
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
        InputError: no name of a repo, nobody is logged in, a damaged set, results that are damaged
            or of another set, a link to elsewhere in the folder, or the Hub refuses the repo.
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
    fields, _ = read_set(folder)  # refuses a damaged one
    _require_own_results(folder, fields)
    path = files.pop(layout.CARD, None)
    if path is None:
        raise InputError(f"{folder} lacks its card, {layout.CARD}; bring it back.")
    with layout.reading(path):
        text = path.read_bytes().decode()
    card = hub.named_card(text, to)
    return hub.push(files, to, "dataset", card=card, stale=layout.FILES, token=token)


def _require_own_results(folder: Path, fields: Mapping[str, Any]) -> None:
    """Refuse results beside the set of these fields that are damaged, or of other images alone.

    Results of another form than ours, which `save_pretrained` was given, are their owner's.
    """
    from latentdc.synthetic.files import contents_hash

    path = folder / layout.RESULTS
    if not path.is_file():
        return
    with layout.reading(path):
        content = io.read_json(path)
        if isinstance(content, dict) and not {"version", "results"} <= {*content}:
            return
    parts = {*fields} & {"images", "labels", "class_names", "soft_labels", "weights"}
    hashed: dict[str, Any] = {part: fields[part] for part in parts}
    own = contents_hash(**hashed)
    sets = [one for one in load(path) if one.set not in BASELINES]
    if sets and not any(own in one.hashes for one in sets):
        raise InputError(
            f"no accuracy in {path} is of these images (hash {own}), and they would be published "
            "beside them; bring back the set's own, or remove the file."
        )


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
