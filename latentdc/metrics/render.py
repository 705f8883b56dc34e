"""The content of metrics.json as text for the terminal."""

from collections.abc import Mapping
from typing import Any


def to_text(content: Mapping[str, Any]) -> str:
    """A line per measure, a column per set."""
    sets = content["sets"]
    columns = {name: _flat(facts) for name, facts in sets.items()}
    keys = list(dict.fromkeys(key for facts in columns.values() for key in facts))
    table = [["", *columns]]
    table += [[key, *(_shown(facts.get(key)) for facts in columns.values())] for key in keys]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    ]
    return "\n".join([*_captions(content), "", *lines])


def _captions(content: Mapping[str, Any]) -> list[str]:
    lines = [f"{content['classes']} classes, ipc {content['ipc']}; storage in bytes."]
    if (network := content.get("network")) is not None:
        lines.append(
            f"Entropy (nats), agreement with the labels and feature distances under "
            f"{network['network']}, right on {100 * network['real_accuracy']:.1f} % of real test "
            "images."
        )
    return lines


def _flat(facts: Mapping[str, Any]) -> dict[str, object]:
    """Nested measures as `name mean`; storage by its `part/codec`."""
    flat: dict[str, object] = {}
    for key, value in facts.items():
        if key == "hash":
            continue
        if isinstance(value, Mapping):
            prefix = "" if key == "storage" else f"{key} "
            flat |= {f"{prefix}{name}": number for name, number in value.items()}
        else:
            flat[key] = value
    return flat


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
