"""`latentdc push-prior PRIOR user/name --license ID`: a prior becomes a model repo on the Hub."""

from argparse import Namespace
from pathlib import Path

from latentdc import cli, hub
from latentdc.priors import files as layout
from latentdc.priors.card import front_matter
from latentdc.recipe import Hub

_BESIDE = ("config.json", "model_index.json", "recipe.yaml", "training.json", "grid.png")
_TEXT = """\
# {name}

A prior for latentdc, in the layout of diffusers: {parts}.
"""
_LOAD = """\
## Load it by its name

```python
prior = latentdc.load_prior(latentdc.PriorSettings({python}), resolution=RESOLUTION)
```

In a recipe: `prior: {{kind: diffusion, {yaml}}}`."""


def _prior_files(folder: Path) -> dict[str, Path]:
    """Files by name in a repo: configs, tokenizers and one form of each network's weights."""
    paths = [folder / name for name in _BESIDE]
    for name in layout.PARTS:
        paths += [*sorted((folder / name).glob("*.json")), folder / name / "merges.txt"]
    for part in [folder / name for name in layout.PARTS] + [folder]:
        if (part / "config.json").is_file() and part.name not in layout.TOKENIZERS:
            paths += layout.find_weights(part).files
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in found.items() if path.is_file()}


def _card(folder: Path, to: Hub) -> str:
    """The card that lies with the prior, or a short one; below it how to load the repo."""
    path = folder / hub.CARD
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    front, body = front_matter(), text
    if text.startswith("---\n") and (end := text.find("\n---", 4)) > 0:
        front, body = f"{text[: end + 4]}\n", text[end + 4 :]
    if not body.strip():
        parts = [name for name in layout.PARTS if (folder / name).is_dir()]
        name = to.repo.partition("/")[2] if to.repo is not None else folder.name
        body = _TEXT.format(name=name, parts=", ".join(parts) or "an autoencoder")
    settings = {"weights": to.repo} | ({"revision": to.revision} if to.revision else {})
    load = _LOAD.format(
        python=", ".join(f'{key}="{value}"' for key, value in settings.items()),
        yaml=", ".join(f"{key}: {value}" for key, value in settings.items()),
    )
    part = hub.marked(load)
    start = body.find(hub.BEGIN)  # of a prior that was downloaded from the Hub
    return f"{front}\n{(body if start < 0 else body[:start]).strip()}\n\n{part}"


def arguments(parser: cli.Parser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Push a prior to a model repo of the Hugging Face Hub, in one commit; `prior.weights` "
        "then takes its name. A new repo is private. What people wrote into the card there stays."
    )
    parser.add_argument("prior", help="folder in the layout of diffusers, or a shipped name")
    hub.add_repo(parser, "model", license=True)


def run(options: Namespace) -> None:
    """Push the files of a prior that `load_prior` reads, in one commit."""
    cli.one_process("latentdc push-prior")
    folder, to = layout.prior_folder(options.prior), hub.repo_of(options)
    files, stale = _prior_files(folder), [f"{part}/*" for part in layout.PARTS]
    hub.require_own_files(files, folder)
    print(hub.push(files, to, "model", card=_card(folder, to), stale=stale))
