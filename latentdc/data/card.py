"""The card of a data set, README.md: which of its files make which split."""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from latentdc.errors import InputError
from latentdc.recipe.fields import nearest

_LARGEST = 4 * 2**20  # bytes of a card
_DEEPEST = 50  # mappings and lists inside of each other


def in_short(error: BaseException, length: int = 200) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:length]


def read_card(path: Path, named: Path | None = None) -> dict[str, Any]:
    """The YAML mapping at the head of a card, or all of a YAML file; empty where there is none.

    Raises:
        InputError: it cannot be read, is written to take long, has malformed `configs`, or names a
            file outside of its own folder or repository. `named` is how this calls it.
    """
    named = named or path
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {named}: {error.strerror}.") from error
    if len(content) > _LARGEST:
        raise InputError(f"{named} has more than {_LARGEST // 2**20} MiB; a card is short.")
    text = content.decode("utf-8-sig", errors="replace")
    if path.suffix == ".md":
        found = REGEX_YAML_BLOCK.search(text)
        text = found[2] if found else ""
    card = _parsed(text, named)
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
                        "data set; a card names files of its own, such as data/train-*.parquet."
                    )
    return card


def _parsed(text: str, named: Path) -> Any:
    """YAML as `datasets` and the Hub's client read it, merged keys and all, but not for long."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
                raise ValueError(f"it refers to itself, or is nested more than {_DEEPEST} deep")
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"cannot read {named}: {in_short(error)}.") from error


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


def configuration(card: dict[str, Any], name: str | None, source: Path) -> dict[str, Any]:
    """The one that is named, the default, or the only one; empty where the card has none."""
    configs: dict[str, dict[str, Any]]
    configs = {str(e.get("config_name", "default")): e for e in card.get("configs") or [{}]}
    if name is not None:
        if name not in configs:
            raise InputError(
                f"cannot open data.source={source}: it has no configuration {name!r}"
                f"{nearest(name, configs)}; data.config is one of {', '.join(configs)}."
            )
        return configs[name]
    default = next((e for e in configs.values() if e.get("default") is True), None)
    default = default or configs.get("default")
    if default is None and len(configs) > 1:
        raise InputError(
            f"{source} has the configurations {', '.join(configs)}; choose one with data.config=..."
        )
    return default or next(iter(configs.values()))
