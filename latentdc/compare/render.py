"""A comparison as Markdown: a table for each protocol, test set and preprocessing; differences."""

import json
from collections.abc import Sequence

from latentdc.compare.groups import Group, Line
from latentdc.compare.paired import paired_difference
from latentdc.compare.robustness import Robustness
from latentdc.plain_text import markdown_table

UNSEEN = "unseen"


def to_markdown(
    groups: Sequence[Group],
    robustness: Sequence[Robustness],
    against: str | None = None,
    what: str = "test accuracy",
) -> str:
    """All tables. Sets under other protocols, test sets or preprocessing never share a column.

    Args:
        groups: in order.
        robustness: DD-Ranking's scores, where the rows for them are there.
        against: set from which the others are subtracted; None takes the first of each group.
        what: name of the accuracies.
    """
    parts = []
    if len(groups) > 1:
        parts.append(
            f"{len(groups)} tables: protocols, test sets or preprocessing differ, so their numbers "
            "are not comparable."
        )
    named = [(group.protocol_hash, group.test) for group in groups]
    for group, name in zip(groups, named, strict=True):
        seen = _preprocessing(group) if named.count(name) > 1 else ""
        parts += [_caption(group, what, seen), _accuracies(group), *_differences(group, against)]
    if robustness:
        parts.append(_robustness(robustness))
    return "\n\n".join(parts)


def columns(group: Group) -> list[tuple[str, tuple[str, ...]]]:
    """Names and students of a group's columns; the last is the mean of several unseen students."""
    single = [(student, (student,)) for student in group.students]
    several = len(group.students) > 1 and len(group.unseen) > 1
    return single + ([(UNSEEN, group.unseen)] if several else [])


def _caption(group: Group, what: str, seen: str) -> str:
    seeds = {len(values) for line in group.lines for values in line.accuracies.values()}
    counts = " or ".join(map(str, sorted(seeds)))
    plural = "s" if seeds != {1} else ""
    return (
        f"{what.capitalize()} in %, mean ± sample std over {counts} seed{plural}, "
        f"protocol {group.protocol} ({group.protocol_hash}), {group.steps} steps, test set "
        f"{group.test}{seen}:"
    )


def _preprocessing(group: Group) -> str:
    """How students see images, for captions that nothing else tells apart."""
    if group.preprocessing is None:
        return ", preprocessing not recorded"
    facts = json.loads(group.preprocessing)
    return "".join(f", {name} {_value(value)}" for name, value in sorted(facts.items()))


def _value(value: object) -> str:
    """Numbers by channel, or what whitening or standardising was fitted on."""
    if isinstance(value, dict):
        return f"of {value.get('images') or value.get('samples')}"
    return str(value)


def _accuracies(group: Group) -> str:
    rows = [["set", "ipc", "bytes", *(name for name, _ in columns(group))]]
    for line in group.lines:
        values = [_percent(line.over(students)) for _, students in columns(group)]
        rows.append([line.name, _ipc(line), _bytes(line.size), *values])
    return markdown_table(rows)


def _differences(group: Group, against: str | None) -> list[str]:
    """The other sets minus one, paired by seed; nothing where there is no other."""
    base = _base(group, against)
    others = [line for line in group.lines if line is not base]
    if base is None or not others:
        return []
    rows = [[f"minus {base.name} (ipc {base.ipc})", "ipc", *(name for name, _ in columns(group))]]
    for line in others:
        values = [_difference(line, base, students) for _, students in columns(group)]
        rows.append([line.name, _ipc(line), *values])
    text = "Differences paired by seed, in percentage points, mean ± standard error:"
    return [text, markdown_table(rows)]


def _base(group: Group, against: str | None) -> Line | None:
    """None where the named set is not in this group."""
    if against is None:
        return group.lines[0]
    return next((line for line in group.lines if line.name == against), None)


def _difference(line: Line, base: Line, students: tuple[str, ...]) -> str:
    one, other = line.over(students), base.over(students)
    if one is None or other is None:
        return "-"
    seeds = min(len(one), len(other))  # 0, 1, ..., those that both were trained with
    found = paired_difference(one[:seeds], other[:seeds])
    error = "" if found.error is None else f" ± {100 * found.error:.1f}"
    fewer = f" ({seeds} seed{'s' if seeds > 1 else ''})" if len(one) != len(other) else ""
    return f"{100 * found.mean:+.1f}{error}{fewer}"


def _robustness(found: Sequence[Robustness]) -> str:
    names = ["HLR", "IOR", "LRS", "IOR augmented", "IOR plain", "ARS"]
    rows = [["set", "ipc", "student", "protocol", *names]]
    for one in found:
        values = (one.hlr, one.ior, one.lrs, one.augmented, one.plain, one.ars)
        numbers = ["-" if value is None else f"{value:.3f}" for value in values]
        rows.append([one.name, str(one.ipc), one.student, one.protocol, *numbers])
    text = (
        "DD-Ranking's scores of mean accuracies as shares (the package's own are of percentage "
        "points); the real row is trained for as many steps as the set:"
    )
    return f"{text}\n\n{markdown_table(rows)}"


def _percent(accuracies: tuple[float, ...] | None) -> str:
    if accuracies is None:
        return "-"
    mean, count = sum(accuracies) / len(accuracies), len(accuracies)
    if count == 1:
        return f"{100 * mean:.1f}"
    spread = (sum((value - mean) ** 2 for value in accuracies) / (count - 1)) ** 0.5
    return f"{100 * mean:.1f} ± {100 * spread:.1f}"


def _ipc(line: Line) -> str:
    return {"full": "all", "kept": "kept"}.get(line.row, str(line.ipc))


def _bytes(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"
