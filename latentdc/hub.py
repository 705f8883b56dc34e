"""Repos of the Hugging Face Hub: pushed in one commit, whose card keeps what people wrote there.

A card has front matter and text. latentdc's part of the text stands between `BEGIN` and `END`; a
push writes it anew, and leaves what stands around it.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentdc.errors import InputError, RunError, first_line, in_short
from latentdc.plain_text import in_markdown
from latentdc.ranks import say
from latentdc.recipe import Hub

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
BEGIN = "<!-- latentdc: begin. A push writes this part anew; text above it stays. -->"
END = "<!-- latentdc: end. Text below stays. -->"
UNKNOWN = "unknown"  # the Hub's word for a licence that nobody stated
# Front matter that says what the files hold, and so is latentdc's.
_OURS = ("configs", "dataset_info", "size_categories", "task_categories", "source_datasets")


def push(
    files: Mapping[str, Path],
    to: Hub,
    kind: Literal["dataset", "model"],
    *,
    card: str,
    stale: Sequence[str] = (),
    token: str | None = None,
) -> str:
    """Push files to a repo in one commit.

    Args:
        files: by their names in the repo, without the card.
        to: the repo, made if it does not exist, and what is said of it.
        kind: of the repo.
        card: its text; see `_merged_card`.
        stale: patterns of names; files of the repo that match, and are none of `files`, are
            deleted.
        token: of the Hub; None takes the stored login.

    Returns:
        The address of the repo.

    Raises:
        InputError: nobody is logged in, or the Hub refuses the repo, the card or the tag.
        RunError: the Hub cannot be reached, or an upload was cut off.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    assert to.repo is not None
    if token is None:
        require_login()
    hub = HfApi(token=token)
    with _refusals(to.repo):
        url, head = _open_repo(hub, to, kind)
        old = _card_of(hub, to.repo, kind, head)
        merged = _merged_card(old, card, license=to.license, where=f"the card of {to.repo}")
        if _parts(merged, "")[0].get("license") in (None, UNKNOWN):
            say("note", "its licence is unknown until you state one: --license, or in the card.")
        there = hub.list_repo_files(to.repo, repo_type=kind, revision=head)
        gone = sorted(
            name
            for name in there
            if name not in (*files, CARD) and any(fnmatch(name, pattern) for pattern in stale)
        )
        # Not upload_folder, which may split what it sends over several commits.
        commit = hub.create_commit(
            to.repo,
            repo_type=kind,
            revision=to.revision,
            parent_commit=head,
            operations=[
                CommitOperationAdd(CARD, merged.encode()),
                *(CommitOperationAdd(name, path) for name, path in files.items()),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message="Push with latentdc",
        )
        if to.tag is not None:
            hub.create_tag(to.repo, repo_type=kind, tag=to.tag, revision=commit.oid)
    return url


def require_login() -> None:
    """Refuse to go on where a push would end for want of a token."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(
            "nobody is logged in to the Hugging Face Hub: run `hf auth login`, or set HF_TOKEN "
            "to a token with write access."
        )


def require_own_files(files: Mapping[str, Path], folder: Path) -> None:
    """Refuse files that lie elsewhere: in a folder of strangers, links to what is not theirs."""
    from huggingface_hub import constants

    homes = [folder.resolve(), Path(constants.HF_HUB_CACHE).resolve()]  # whose sets are all links
    for path in files.values():
        real = path.resolve()
        if not real.is_file() or not any(real.is_relative_to(home) for home in homes):
            raise InputError(
                f"{path} is no file of {folder} itself; put a file there in place of what it is or "
                "links to, or remove it."
            )


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    """Tell in one line what the client raises, which is of many kinds."""
    from huggingface_hub.errors import HfHubHTTPError

    again = "start again: what has arrived is not sent twice"
    try:
        yield
    except (InputError, RunError):
        raise
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 400)
        said = first_line(error).rstrip(".")
        if status >= 500:
            raise RunError(f"{repo!r} was not pushed, the Hub fails ({said}); {again}.") from error
        if status == 412:
            raise RunError(
                f"{repo!r} was not pushed: somebody changed it just now; {again}."
            ) from (error)
        raise InputError(
            f"the Hub refuses {repo!r} ({said}); give user/name, and a login with write access to "
            "it."
        ) from error
    except ValueError as error:  # such as front matter that it does not take
        said = in_short(error, None)
        raise InputError(f"the Hub refuses {repo!r} ({said}); mend that.") from error
    except Exception as error:  # network errors, of another type in each release of the client
        said = first_line(error)
        cause = error.__cause__
        why = f" ({first_line(cause)})" if cause is not None else ""
        raise RunError(
            f"{repo!r} was not pushed, the Hub cannot be reached: {said}{why}; {again}."
        ) from error


def _open_repo(hub: "HfApi", to: Hub, kind: str) -> tuple[str, str]:
    """Make the repo and its branch if need be; its address and its newest commit there."""
    assert to.repo is not None
    at = f"{hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{to.repo}"
    if not hub.repo_exists(to.repo, repo_type=kind):
        hub.create_repo(to.repo, repo_type=kind, private=to.private, exist_ok=True)
    else:
        private = bool(hub.repo_info(to.repo, repo_type=kind).private)
        if private != to.private:
            now, other = ("private", "--public") if private else ("public", "--private")
            say(
                "note",
                f"{to.repo} exists and is {now}, and a push leaves it so; to change that: hf repos "
                f"settings {to.repo} --repo-type {kind} {other}",
            )
    if to.tag is not None:
        refs = hub.list_repo_refs(to.repo, repo_type=kind)
        if to.tag in [one.name for one in refs.tags]:
            raise InputError(
                f"{to.repo} has a tag {to.tag} already, and tags stay; choose another one, or "
                f"delete it: hf repos tag delete {to.repo} {to.tag} --repo-type {kind}"
            )
    if to.revision is not None:
        hub.create_branch(to.repo, repo_type=kind, branch=to.revision, exist_ok=True)
    info = hub.repo_info(to.repo, repo_type=kind, revision=to.revision)
    return at, str(info.sha)


def _card_of(hub: "HfApi", repo: str, kind: str, revision: str) -> str | None:
    if not hub.file_exists(repo, CARD, repo_type=kind, revision=revision):
        return None
    path = hub.hf_hub_download(repo, CARD, repo_type=kind, revision=revision)
    return Path(path).read_bytes().decode(errors="replace").replace("\r\n", "\n")


# ---- Arguments ----


def add_repo(parser: argparse.ArgumentParser, kind: str, *, license: bool = False) -> None:
    """The arguments that say where something is pushed; `license` is whether one is required."""
    parser.add_argument("repo", metavar="user/name", help=f"{kind} repo; made if it is new")
    parser.add_argument("--public", action="store_true", help="make a new repo public")
    stated = "" if license else " (default: the one that the card on the Hub states)"
    parser.add_argument(
        "--license",
        required=license,
        metavar="ID",
        help=f"its licence, as the Hub names it, such as cc-by-4.0{stated}",
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch; made if it is new")
    parser.add_argument("--tag", help="tag of the commit, such as v1.0")


def repo_of(options: argparse.Namespace) -> Hub:
    """What the arguments of `add_repo` say."""
    return Hub(
        repo=options.repo,
        private=not options.public,
        license=options.license,
        revision=options.revision,
        tag=options.tag,
    )


# ---- Cards ----


def marked(text: str) -> str:
    """Latentdc's part of a card's text."""
    return f"{BEGIN}\n\n{text.strip()}\n\n{END}\n"


def named_card(card: str, to: Hub) -> str:
    """A card whose lines of code name the repo, and the branch where it is not the main one."""
    python = f'"{to.repo}"' + (f', revision="{to.revision}"' if to.revision else "")
    shell = f"{to.repo}" + (f" --revision {to.revision}" if to.revision else "")
    card = re.sub(r'(load_dataset\(|from_pretrained\()"NAME"', rf"\g<1>{python}", card)
    return re.sub(r"(hf download|latentdc verify) NAME\b", rf"\g<1> {shell}", card)


def _merged_card(old: str | None, new: str, *, license: str | None = None, where: str = "") -> str:
    """A new card (front matter, and text as of `marked`), with what people wrote into the old one.

    Of the old card stay the text around latentdc's part (all of it, where there is no such part),
    the licence, unless another is given, tags and all front matter but `_OURS`, which has to be
    YAML. The title stays if somebody changed it.
    """
    from huggingface_hub import CardData

    data, text = _parts(new, "the card")
    if old is not None:
        theirs, their_text = _parts(old, where)
        kept = {name: value for name, value in theirs.items() if name not in _OURS}
        if _title_of(their_text) == in_markdown(theirs.get("pretty_name", "")):
            kept.pop("pretty_name", None)  # made by latentdc
        if theirs.get("license") in (None, UNKNOWN):
            kept.pop("license", None)
        data["tags"] = _joined(_tags(kept.pop("tags", None)), _tags(data.get("tags")))
        data |= kept
        text = _around(their_text, text)
    if license is not None:
        data["license"] = license
    return f"---\n{CardData(**data).to_yaml()}\n---\n\n{text.strip()}\n"


def _parts(card: str, where: str) -> tuple[dict[str, Any], str]:
    """Front matter and text of a card that people may have edited."""
    from huggingface_hub import RepoCard

    if not re.match(r"\s*---\s", card):
        return {}, card
    try:
        parsed = RepoCard(card, ignore_metadata_errors=True)
    except Exception as error:  # of YAML, or of a mapping that lacks what a card has
        said = in_short(error)
        raise InputError(f"the front matter of {where} is no YAML ({said}); mend it.") from error
    return parsed.data.to_dict(), parsed.text


def _around(old: str, new: str) -> str:
    """The old text with latentdc's part of the new one in the place of its own."""
    start, end = _part(new)
    begin, after = _part(old)
    if start == end:  # a card of the user's own
        return new
    if not (old[:begin] + old[after:]).strip():  # nobody wrote beside it
        return new
    if begin == after:
        return f"{old.strip()}\n\n{new.strip()}"
    return old[:begin] + new[start:end] + old[after:]


def _part(text: str) -> tuple[int, int]:
    """Where latentdc's part of a text begins and ends; (0, 0) where there is none."""
    begin, end = text.find(BEGIN), text.rfind(END)
    return (begin, end + len(END)) if 0 <= begin < end else (0, 0)


def _title_of(text: str) -> str | None:
    """The heading of latentdc's part."""
    found = re.search(rf"{re.escape(BEGIN)}\s*# (.+)", text)
    return None if found is None else found[1].strip()


def _tags(value: object) -> list[str]:
    return [str(tag) for tag in (value if isinstance(value, list) else [value]) if tag]


def _joined(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Tags of both, without what latentdc said of another number of images."""
    kept = [tag for tag in old if not re.fullmatch(r"ipc-\d+", tag)]
    return [*kept, *(tag for tag in new if tag not in kept)]
