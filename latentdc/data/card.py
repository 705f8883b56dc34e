"""The card of a data set, README.md: which of its files make which split.

A card is written by strangers: it may name files of its own folder or repository and no others.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from latentdc.errors import InputError

_LARGEST = 4 * 2**20  # bytes of a card
_DEEPEST = 50  # mappings and lists inside of each other


def read_card(path: Path) -> dict[str, Any]:
    """The YAML mapping at the head of a card, or all of a YAML file; empty where there is none.

    Raises:
        InputError: it cannot be read, or is written to take long.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} has more than {_LARGEST // 2**20} MiB; a card is short.")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    if path.suffix == ".md":
        found = re.match(r"\s*---[ \t]*\r?\n(.*?\n)---[ \t]*(\r?\n|$)", text, re.DOTALL)
        text = found[1] if found else ""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
                raise InputError(
                    f"{path}: its YAML refers to itself or is nested more than {_DEEPEST} deep, "
                    "which the cards of data sets do not need; remove its head."
                )
        card = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())[:200]}.") from error
    return card if isinstance(card, dict) else {}


def configurations(path: Path, card: dict[str, Any]) -> list[dict[str, Any]]:
    """The `configs` of a card, all of whose files lie beside it.

    Raises:
        InputError: a malformed list, or a file elsewhere.
    """
    configs = card.get("configs") or []
    if not isinstance(configs, list) or not all(isinstance(entry, dict) for entry in configs):
        raise InputError(f"{path}: its configs are no list of mappings; mend or remove them.")
    for entry in configs:
        for key in ("data_files", "data_dir"):
            for pattern in _texts(entry.get(key)):
                if not _is_inside(pattern):
                    raise InputError(
                        f"{path}: its {key} names {pattern[:100]!r}, which lies outside of the "
                        "data set; a card names files of its own folder, such as "
                        "data/train-*.parquet."
                    )
    return configs


def require_own_files(path: Path, source: str) -> None:
    """Refuse a card that names files elsewhere.

    Raises:
        InputError: it does, or it cannot be read.
    """
    configurations(Path(source) / path.name, read_card(path))


def _texts(node: Any) -> list[str]:
    """Every text in nested lists and mappings, keys left out."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        return [text for part in node for text in _texts(part)]
    return [node] if isinstance(node, str) else []


def _is_inside(pattern: str) -> bool:
    """Whether a pattern names files below its folder: no address, no chain, no way up."""
    parts = re.split(r"[/\\]", pattern)
    odd = ":" in pattern or "\0" in pattern or pattern.startswith(("/", "\\", "~"))
    return not odd and not any(part.startswith("..") for part in parts)
