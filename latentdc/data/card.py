"""The card of a data set, README.md: which of its files make which split."""

import re
from pathlib import Path
from typing import Any

import yaml

from latentdc import config
from latentdc.errors import InputError
from latentdc.recipe.fields import nearest

_LARGEST = 4 * 2**20  # bytes that are read of a card


def read_card(path: Path, named: Path | None = None) -> dict[str, Any]:
    """The YAML mapping at the head of a card, or all of a YAML file; empty where there is none.

    A card is written by strangers: it may name files of its own folder or repository and no others.

    Args:
        path: of the card.
        named: how messages call it.

    Raises:
        InputError: it cannot be read, is written to take long, has malformed `configs`, or names a
            file elsewhere.
    """
    named = named or path
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST).decode(errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {named}: {error.strerror}.") from error
    if path.suffix == ".md":
        found = re.match(r"\s*---[ \t]*\r?\n(.*?\n)---[ \t]*(\r?\n|$)", text, re.DOTALL)
        text = found[1] if found else ""
    try:
        card = config.natural(config.parse(text))
    except yaml.YAMLError as error:
        raise InputError(f"cannot read {named}: {config.reason(error)}.") from error
    if not isinstance(card, dict):
        return {}
    configs = card.get("configs") or []
    if not isinstance(configs, list) or not all(isinstance(entry, dict) for entry in configs):
        raise InputError(f"{named}: its configs are no list of mappings; mend or remove them.")
    for entry in configs:
        for key in ("data_files", "data_dir"):
            for pattern in _texts(entry.get(key)):
                if not _is_inside(pattern):
                    raise InputError(
                        f"{named}: its {key} names {pattern[:100]!r}, which lies outside of the "
                        "data set; a card names files of its own folder, such as "
                        "data/train-*.parquet."
                    )
    return card


def configuration(card: dict[str, Any], name: str | None, source: Path) -> dict[str, Any]:
    """The one that is named, the default, or the only one; empty where the card has none.

    Raises:
        InputError: there is no such one, or there are several and no default.
    """
    configs: list[dict[str, Any]] = card.get("configs") or []
    known = [str(entry.get("config_name", "default")) for entry in configs] or ["default"]
    if name is not None:
        if name not in known:
            raise InputError(
                f"cannot open data.source={source}: it has no configuration {name!r}"
                f"{nearest(name, known)}; data.config is one of {', '.join(known)}."
            )
        return configs[known.index(name)] if configs else {}
    default = [entry for entry in configs if entry.get("default") is True]
    default = default or [
        e for e, known_as in zip(configs, known, strict=False) if known_as == "default"
    ]
    if len(configs) > 1 and not default:
        raise InputError(
            f"{source} has the configurations {', '.join(known)}; choose one with data.config=..."
        )
    return (default or configs or [{}])[0]


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
