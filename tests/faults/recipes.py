"""Malformed recipes: refused in one line before anything is loaded, never believed."""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import yaml

from latentdc.recipe import Recipe
from tests.faults.calls import call
from tests.faults.desk import Lab, Trial

GROUPS = ["values", "overrides", "files"]
NOWHERE = ["nan", ".nan", "???", "${oc.env:HOME}", "${ipc}", "${oc.create:[1]}", "a\\0b"]
NO_NUMBER = [
    *NOWHERE,
    "ten",
    "[1]",
    "{a: 1}",
    "1:30",
    "0x",
    "''",
    "1e",
    "2024-01-01",
    ".inf",
    "inf",
]
NO_WHOLE = [*NO_NUMBER, "0.5", "1e400", "true", "-1", "010"]
NO_TEXT = [*NOWHERE, "[1]", "{a: 1}"]
NO_SWITCH = [*NOWHERE, "2", "maybe", "[true]", "null"]
NO_LIST = [*NOWHERE, "{a: 1}", "[[[1]]]", "[null]", "5"]
FILES = {
    "nothing": b"",
    "a comment": b"# nothing\n",
    "null": b"null\n",
    "a number": b"5\n",
    "a list": b"[1, 2]\n",
    "a text": b"digits\n",
    "two documents": b"ipc: 1\n---\nipc: 2\n",
    "one key twice": b"ipc: 1\nipc: 2\n",
    "one key of a group twice": b"data: {resolution: 8, resolution: 16}\n",
    "a tab": b"data:\n\tresolution: 8\n",
    "an open bracket": b"data: {resolution: 8\n",
    "an open quote": b"output: 'x\n",
    "Latin-1": "output: caf\xe9\n".encode("latin-1"),
    "UTF-16": "ipc: 1\n".encode("utf-16"),
    "zeros": bytes(100),
    "NUL inside": b"output: a\0b\n",
    "control characters": b"output: \x1b[31m\n",
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "numbers as keys": b"1: 2\n",
    "null as a key": b"~: 2\n",
    "a list as a key": b"? [a]\n: 1\n",
    "a merge key": b"base: &b {ipc: 1}\n<<: *b\n",
    "an unknown anchor": b"ipc: *x\n",
    "a tag": b"ipc: !mine 1\n",
    "a binary value": b"output: !!binary aGVsbG8=\n",
    "a set": b"ipc: !!set {a, b}\n",
    "unknown key": b"icp: 1\n",
    "a group as a number": b"data: 5\n",
    "a group as null": b"data: null\n",
    "a group as a list": b"data: [digits]\n",
    "a dotted key": b"data.resolution: 8\n",
}
OVERRIDES = [
    "ipc", "=1", "ipc=", "ipc==1", "ipc=1=2", ".ipc=1", "ipc.=1", "ipc.x=1", "data=5", "data=[]",
    "data.=1", "data..resolution=8", "data[resolution]=8", "data.resolution.x=8", "ipc=[", "ipc={",
    "ipc='", "ipc=*a", "ipc=!!int", "ipc=!!python/name:os.system", "icp=1", "--icp=1", "ipc=1,2",
    "data.mean=[.nan,0,0]", "data.std=[0,0,0]", "data.std=[1,1]", "data.std=[.inf,1,1]",
    "data.std=[-1,1,1]", "data.mean=[1]", "distill.lr_z=.nan", "distill.lr_z=-1", "seed=-1",
    "distill.steps=1e23", "distill.steps=1e400", "seed=99999999999999999999999", "output=''",
    f"output={'x' * 300}", f"output=a/{'y' * 5000}", "output=/dev/null/x", "output=/proc/x",
    "ipc=${oc.env:HOME}", "output=${oc.env:HOME}", "output=???", "threads=0", "threads=-1",
    "threads=1e9", "processes=0", "data.classes=[]", "data.classes=[1,1]", "evaluate.students=[]",
    "evaluate.students=[null]", "evaluate.students=convnet3", "evaluate.seeds=0",
    "evaluate.rows=[nothing]", "trackers=[5]", "push.repo=x", "push.repo=a/b/c", "ipc=1:30",
    "ipc=010", "ipc=1_0", "ipc=0o7", "ipc=0x10", "ipc=1.0", "ipc=true", "ipc=on", "prune.keep=1e-9",
    "objective.network=convnet3@0", "objective.network=convnet3@-1", "objective.network=convnet3@",
    "objective.network=convnet3@1e9", "objective.network=convnet99999999999", "objective.batch=0",
]  # fmt: skip
FINE = {
    "ipc=1_0",
    "ipc=0x10",
    "ipc=0o7",
    "prune.keep=1e-9",
    "ipc=1.0",
    "output=''",
}  # may mean something
DRY = "--dry-run"


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Ask for one malformed recipe to be read."""
    folder = lab.copy()
    if group == "files":
        kind = draw.choice(list(FILES))
        (folder / "bad.yaml").write_bytes(FILES[kind])
        return _refused(f"a file of {kind}", ("distill", "bad.yaml", DRY), folder)
    if group == "overrides":
        word = draw.choice(OVERRIDES)
        what = word if len(word) < 60 else f"{word[:60]}..."
        dry = () if word.startswith("output") else (DRY,)  # a dry run writes nowhere
        return _refused(what, ("distill", "plain.yaml", word, *dry), folder, word not in FINE)
    key, values = draw.choice(list(fields(Recipe)))
    value = draw.choice(values)
    if draw.random() < 0.5:
        command = ("distill", "plain.yaml", f"{key}={value}", DRY)
    else:
        (folder / "bad.yaml").write_text(_with(folder / "plain.yaml", key, value))
        command = ("distill", "bad.yaml", DRY)
    return _refused(f"{key}: {value} in {command[1]}", command, folder)


def _refused(what: str, command: tuple[str, ...], folder: Path, must: bool = True) -> Trial:
    end = call(command, folder)
    accepted = "accepted" if must and end.code == 0 else None
    return Trial(what, end.complaint() or accepted)


def fields(schema: type, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every key of a recipe, with values that it cannot have."""
    for field in dataclasses.fields(schema):
        name = f"{prefix}{field.name}"
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        kind = str(field.type)
        if dataclasses.is_dataclass(default):
            yield from fields(type(default), f"{name}.")
        elif isinstance(default, bool):
            yield name, NO_SWITCH
        elif isinstance(default, int):
            yield name, NO_WHOLE
        elif isinstance(default, float):
            yield name, NO_NUMBER
        elif isinstance(default, str):
            yield name, NO_TEXT
        elif "list" in kind or isinstance(default, list | tuple):
            yield name, NO_LIST
        elif "int" in kind:
            yield name, [value for value in NO_WHOLE if value != "''"]


def _with(path: Path, key: str, value: str) -> str:
    """The recipe of a file with one more key, written as it is."""
    recipe = yaml.safe_load(path.read_text())
    *groups, last = key.split(".")
    place = recipe
    for group in groups:
        place = place.setdefault(group, {})
    place[last] = "PLACE"
    return yaml.safe_dump(recipe).replace("PLACE", value)
