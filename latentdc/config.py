"""Reading recipes: YAML, then `key=value` overrides, checked against the dataclasses of `recipe`.

YAML is read as plain data, mappings, lists and words, and nothing that acts; files of strangers
too: no tags, no interpolation, small files only. Scalars stay as they are written, because what
`no`, `010` or `1e3` means is for the field to say that it stands in (`latentdc.recipe.fields`).
Imports neither torch nor anything that does.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from latentdc.errors import InputError, nearest
from latentdc.io import write_text
from latentdc.recipe import fields

T = TypeVar("T")
RECIPE = "recipe.yaml"  # in a run folder
_LARGEST = 512 * 1024  # bytes of a file: ten times a recipe that names all classes of ImageNet-21k
_NODES = 60_000  # scalars, lists and mappings, aliases expanded
_CHARACTERS = 2 * _LARGEST  # of all scalars, likewise
_DEEPEST = 20  # lists and mappings inside each other
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# ---- Recipes ----


def load(
    schema: type[T], path: Path, overrides: Sequence[str] = (), *, without: Collection[str] = ()
) -> T:
    """A checked instance of the dataclass `schema` from a YAML file and dotted overrides.

    Args:
        schema: a dataclass.
        path: of the file.
        overrides: `key=value`.
        without: keys of the file that are left out, because overrides stand in their place.

    Raises:
        InputError: unreadable YAML, unknown key (with the nearest name), wrong type or range.
    """
    content = {key: value for key, value in read(path).items() if key not in without}
    return build(schema, content, path.name, overrides)


def build(schema: type[T], content: dict[str, Any], name: str, overrides: Sequence[str] = ()) -> T:
    """As `load`, of the content of a file, which errors call by its `name`."""
    _require_kind(schema, content, name)
    given = _from_command_line(overrides)
    tree = merged(content, given)
    try:
        return fields.build(schema, tree)
    except fields.Misfit as error:
        in_file = not _sets(given, error.path)
        raise InputError(f"{name}: {error}" if in_file else str(error)) from error


def _require_kind(schema: type, content: dict[str, Any], name: str) -> None:
    """Refuse a file most of whose keys are none of `schema`."""
    known = [key for key in fields.all_keys(schema) if "." not in key]
    strange = [key for key in content if key not in known]
    if len(strange) > 1 and len(strange) > len(content) / 2:
        raise InputError(
            f"{name}: its keys are {', '.join(key[:40] for key in [*content][:8])}, and here they "
            f"are of {', '.join(known)}; it is a file of another kind."
        )


def _sets(given: Any, path: Sequence[str]) -> bool:
    """Whether overrides set what names lead to, or what stands above or below it."""
    for name in path:
        if not isinstance(given, dict):
            return True
        if name not in given:
            return False
        given = given[name]
    return bool(path)


def find(name: str, folder: str) -> Path:
    """A file named by path, or by its bare name among those that the package brings in `folder`.

    `recipes/digits_ipc1.yaml`, `digits_ipc1.yaml` and `digits_ipc1` all find the shipped recipe
    where no such file lies in the current folder.
    """
    fields.check_text(name, "the file's name")
    if not name:
        raise InputError(f"a YAML file, or one of {folder} by its name, is meant; got ''.")
    shipped = shipped_folder(folder)
    try:
        path = Path(name).expanduser()
        relative = path.relative_to(folder) if path.is_relative_to(folder) else path
        for candidate in (path, shipped / relative, shipped / f"{relative}.yaml"):
            if candidate.is_file():
                return candidate
        if path.is_dir():
            raise InputError(f"{name} is a folder; name a YAML file, such as {path / RECIPE}.")
    except (OSError, RuntimeError) as error:  # too long, closed to us; no such user's home
        why = getattr(error, "strerror", None) or error
        raise InputError(f"no file {name[:300]}: {why}.") from error
    known = shipped_files(folder)
    whole = relative.with_suffix("").as_posix()
    hint = nearest(whole, known) or nearest(path.stem, known) or "."
    lists = ("recipes", "sweeps") if folder == "recipes" else (Path(folder).name,)
    see = " and ".join(f"latentdc list {what}" for what in lists)
    raise InputError(f"no file {name}, and latentdc brings none of that name{hint} See {see}.")


def shipped_folder(folder: str) -> Path:
    """`recipes` or `assets/priors`: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("latentdc")))
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def shipped_files(folder: str) -> dict[str, Path]:
    """The YAML files below a folder that the package brings, by their names."""
    home = shipped_folder(folder)
    files = sorted(home.rglob("*.yaml"))
    return {path.relative_to(home).with_suffix("").as_posix(): path for path in files}


def to_yaml(config: object) -> str:
    """The whole of a dataclass instance as YAML."""
    return dump(asdict(cast(Any, config)))


def dump(tree: object) -> str:
    """Mappings, lists and plain values as YAML; words that were read stand as they were written."""
    text: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text


def save(config: object, path: Path) -> None:
    """Write the resolved recipe, whole or not at all."""
    write_text(path, to_yaml(config))


def claim(
    recipe: object, folder: Path, *, begun: bool = True, may_change: Sequence[str] = ()
) -> None:
    """Write the recipe into its run folder, or refuse a folder that another recipe made.

    `begun` says whether the folder holds a run, whose recipe may be written anew; where it holds
    none, a recipe that a user wrote there stays. `may_change` are the beginnings of dotted keys
    that a continued run may set anew.
    """
    refuse_other(recipe, folder, begun=begun, may_change=may_change)
    folder.mkdir(parents=True, exist_ok=True)
    save(recipe, folder / RECIPE)


def refuse_other(
    recipe: object, folder: Path, *, begun: bool = True, may_change: Sequence[str] = ()
) -> None:
    """What `claim` refuses, without writing anything."""
    path = folder / RECIPE
    if not path.is_file():
        return
    there, most = read(path), len(vars(recipe)) / 2
    by_hand = len(there) < most or dump(there) != path.read_text(encoding="utf-8-sig")
    if by_hand and not begun:
        raise InputError(
            f"{path} was written by hand, and the run would put the whole recipe in its place; "
            "rename it, or give the run a folder of its own with output=..."
        )
    # Keys that it lacks came later, and were at their defaults.
    before, now = (_flat(asdict(cast(Any, one))) for one in (load(type(recipe), path), recipe))
    differing = [
        f"{key} is {now.get(key)!r} and was {before.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(tuple(may_change))
    ]
    if differing:
        more = f"; {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"{folder} holds a run of another recipe ({'; '.join(differing[:3])}{more}); give this "
            "one a folder of its own with output=..., or remove that one."
        )


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes text that a reader of YAML 1.2 would take for a number."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "'" if fields.FLOAT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_plain(dumper: _Dumper, text: fields.Plain) -> yaml.Node:
    tag = dumper.resolve(yaml.ScalarNode, str(text), (True, False))
    return dumper.represent_scalar(tag, str(text), style="")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(fields.Plain, _represent_plain)


def _from_command_line(overrides: Sequence[str]) -> dict[str, Any]:
    """What overrides say, as a file would: `a.b=1` is `{a: {b: 1}}`; later ones win."""
    tree: dict[str, Any] = {}
    for override in overrides:
        key, given, text = override.partition("=")
        shown = override[:200].encode("utf-8", "backslashreplace").decode()
        if not key or not given:
            raise InputError(f"an override is key=value, got {shown!r}; see --help.")
        fields.check_text(key, "an override")
        try:
            value = parse(text, all_of_it=True)
        except yaml.YAMLError as error:
            raise InputError(f"cannot read {shown}: {reason(error)}") from error
        for name in reversed(key.split(".")[:_DEEPEST]):
            value = {name: value}
        tree = merged(tree, value)
    return tree


def keys_of(override: str) -> set[str]:
    """Dotted keys that an override sets: those below it where its value is a mapping."""
    return {*_flat(_from_command_line([override]))}


def merged(below: Any, above: Any) -> Any:
    """Mappings key by key; of anything else, what is above."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def _flat(node: Any, prefix: str = "") -> dict[str, object]:
    """Dotted keys of nested mappings; lists count as values."""
    if not isinstance(node, dict):
        return {prefix[:-1]: node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key!s}.")
    return flat


# ---- YAML ----


class _Unfit(Exception):
    """What is wrong with a file."""


def read(path: Path) -> dict[str, Any]:
    """The mapping that a file holds.

    Raises:
        InputError: no such file, too large, no YAML, no mapping, or one with tags or interpolation.
    """
    try:
        if not path.is_file():
            raise _Unfit("it is a folder" if path.is_dir() else "there is no such file")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise _Unfit(f"it has more than {_LARGEST // 1024} KB, which no recipe needs")
        tree = parse(content.decode("utf-8-sig"))
        if isinstance(tree, fields.Plain) and tree in fields.NULLS:
            raise _Unfit("it is empty; write keys and values, or {} for all defaults")
        if not isinstance(tree, dict):
            kind = "a list" if isinstance(tree, list) else f"{tree[:80]!r}"
            raise _Unfit(f"it holds {kind}; a recipe is a mapping of keys to values, `key: value`")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: it is not UTF-8 text ({error.reason}).") from error
    except (OSError, yaml.YAMLError, _Unfit) as error:
        raise InputError(f"cannot read {path}: {reason(error)}.") from error
    return tree


def parse(text: str, *, all_of_it: bool = False) -> Any:
    """Mappings, lists, `Plain` scalars and quoted ones (`str`).

    Args:
        text: a document.
        all_of_it: whether comments and anchors are refused too, which nobody writes in an override:
            `#1` at the end of a folder's name would be one, and line breaks, which are folded.

    Raises:
        yaml.YAMLError: no YAML, or something that is more than data; says the line.
    """
    try:
        reader = _Reader(cast(Iterator[Any], yaml.parse(text, Loader=_LOADER)))
        tree = reader.document()
        if all_of_it and (left := text[reader.end :].strip()):
            role = "be a comment" if left.startswith("#") else "end the value"
            raise yaml.YAMLError(f"{left[:80]!r} would {role}; write the value in quotes")
        if all_of_it and reader.anchors:
            raise yaml.YAMLError(f"&{reader.anchors[0]} would be an anchor; write it in quotes")
        lines = len(text.strip().splitlines())
        if all_of_it and isinstance(tree, fields.Plain) and lines > 1 and tree != text.strip():
            raise yaml.YAMLError(
                "its line breaks would become spaces; write it in double quotes, with \\n for each"
            )
        return tree
    except UnicodeEncodeError as error:
        raise yaml.YAMLError(
            "it has characters that UTF-8 cannot write; where they are of another locale, set "
            "PYTHONUTF8=1"
        ) from error
    except RecursionError as error:
        raise yaml.YAMLError("lists and mappings are too deep inside each other") from error


def natural(tree: Any) -> Any:
    """What a tree means by itself, without fields: null, flags, numbers and text."""
    if isinstance(tree, dict):
        return {str(key): natural(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [natural(value) for value in tree]
    if not isinstance(tree, fields.Plain):
        return tree
    if tree in fields.NULLS:
        return None
    if tree in fields.TRUE or tree in fields.FALSE:
        return tree in fields.TRUE
    if fields.INT.fullmatch(tree) and len(tree) < 20:
        return int(tree)
    return float(tree) if fields.FLOAT.fullmatch(tree) else str(tree)


def reason(error: Exception) -> str:
    """Why YAML cannot be read, in one line, with the number of that line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return str(error).strip().partition("\n")[0]
    return f"line {mark.line + 1}: {problem}"


class _Reader:
    """Builds the tree of one document from the parser's events, counting what it comes to."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._nodes = self._characters = 0
        self._anchors: dict[str, tuple[Any, int, int]] = {}  # with its nodes and characters
        self.end = 0  # of what was read, before a comment

    @property
    def anchors(self) -> list[str]:
        """Names that the document gives to its parts."""
        return [*self._anchors]

    def document(self) -> Any:
        """The only one; an empty text stands for null."""
        next(self._events)  # the stream starts
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return fields.Plain("")
        tree = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        if not isinstance(after := next(self._events), yaml.StreamEndEvent):
            raise _refusal("a second document begins; keep one", after)
        return tree

    def _node(self, event: Any, depth: int) -> Any:
        self.end = event.end_mark.index
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _refusal(f"alias *{event.anchor} stands for nothing before it", event)
            tree, nodes, characters = self._anchors[event.anchor]
            self._count(nodes, characters, event)
            return tree
        before = self._nodes, self._characters
        if event.tag is not None:
            raise _refusal(f"tag {event.tag[:80]}; write the value without a tag", event)
        if depth > _DEEPEST:
            raise _refusal(f"more than {_DEEPEST} lists and mappings inside each other", event)
        if isinstance(event, yaml.ScalarEvent):
            tree = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._count(1, 0, event)
            tree = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                tree.append(self._node(inner, depth + 1))
            self.end = inner.end_mark.index
        else:
            self._count(1, 0, event)
            tree = self._mapping(depth)
        if event.anchor is not None:
            parts = self._nodes - before[0], self._characters - before[1]
            self._anchors[event.anchor] = tree, *parts
        return tree

    def _mapping(self, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, str):
                raise _refusal("a key is text, and this one is a list or a mapping", event)
            if isinstance(key, fields.Plain) and key in fields.NULLS:
                raise _refusal("a key is text, and this one is null", event)
            if key in tree:
                raise _refusal(f"found duplicate key {key[:80]}", event)
            tree[str(key)] = self._node(next(self._events), depth + 1)
        self.end = event.end_mark.index
        return tree

    def _scalar(self, event: Any) -> str:
        text: str = event.value
        self._count(1, len(text), event)
        if "${" in text:
            raise _refusal(fields.INTERPOLATION, event)
        return fields.Plain(text) if event.style is None or event.style == "" else text

    def _count(self, nodes: int, characters: int, event: Any) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > _NODES or self._characters > _CHARACTERS:
            raise _refusal(f"more than {_NODES:,} values or {_CHARACTERS:,} characters", event)


def _refusal(problem: str, event: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
