"""Files made to harm: each is refused in one line, quickly, and nothing in it is carried out."""

import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet

from tests.faults.calls import call
from tests.faults.desk import PRIOR, Lab, Trial

MARK = "carried-out"  # what a pickle would leave behind
QUICK = ("data.resolution=8", "threads=1")
CONVERT = ("convert-prior", "prior.ckpt", "converted", "--config")
EVALUATE = ("--recipe", "plain.yaml", *QUICK)

Made = tuple[str, tuple[str, ...]]  # what it is, and the command that meets it


class Gadget:
    """Something whose unpickling calls a function."""

    def __init__(self, function: object, *given: object) -> None:
        self.call = (function, given)

    def __reduce__(self) -> tuple:
        return self.call


def _gadgets(folder: Path) -> list[object]:
    mark = folder / MARK
    code = f"open({str(mark)!r}, 'w').close()"
    import subprocess

    return [
        Gadget(os.system, f"touch {mark}"),
        Gadget(exec, code),
        Gadget(eval, code),
        Gadget(os.mkdir, str(mark)),
        Gadget(subprocess.call, ["touch", str(mark)]),
        Gadget(subprocess.Popen, ["touch", str(mark)]),
        Gadget(open, str(mark), "w"),
        Gadget(getattr, Gadget(__import__, "os"), "system"),
    ]


def pickles(folder: Path, draw: random.Random) -> Made:
    """Pickles with a call, as whatever latentdc reads tensors, scores or weights from."""
    gadget = draw.choice(_gadgets(folder))
    value = draw.choice([gadget, [gadget], {"data": gadget}, {"state_dict": {"w": gadget}}])
    protocol = draw.randrange(6)
    content = pickle.dumps(value, protocol)
    form = draw.choice(["raw", "zip", "npy", "npz", "legacy"])
    if form == "zip":
        content = _zip({"archive/data.pkl": content, "archive/version": b"3\n"})
    elif form in ("npy", "npz"):
        array = numpy.empty(1, dtype=object)
        array[0] = gadget
        buffer = io.BytesIO()
        numpy.save(buffer, array) if form == "npy" else numpy.savez(
            buffer, images=array, labels=array
        )
        content = buffer.getvalue()
    elif form == "legacy":  # torch's format before zip files: a magic number, a version, the rest
        parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, [])
        content = b"".join(pickle.dumps(part, 2) for part in parts)
    name, command = draw.choice(
        [
            ("set.pt", ("evaluate", "set.pt", *EVALUATE)),
            ("set.npz", ("evaluate", "set.npz", *EVALUATE)),
            ("images_best.pt", ("evaluate", "images_best.pt", *EVALUATE)),
            ("prior.ckpt", (*CONVERT, "ldm.yaml")),
            ("scores.npy", ("prune", "run.yaml", "prune.scores=scores.npy")),
            ("scores.pt", ("prune", "run.yaml", "prune.scores=scores.pt")),
            ("scores.pickle", ("prune", "run.yaml", "prune.scores=scores.pickle")),
            ("core.parquet", ("distill", "plain.yaml", "prune.coreset=core.parquet")),
            ("w.safetensors", ("prune", "run.yaml", "prune.scorer.weights=w.safetensors")),
            ("w.pth", ("prune", "run.yaml", "prune.scorer.weights=w.pth")),
            ("features.npy", ("prune", "run.yaml", "prune.features=features.npy")),
            ("data/x.npy", ("distill", "plain.yaml", "data.source=data")),
            ("mine/replay_buffer_0.pt", ("distill", "mtt.yaml", _experts("mine"))),
        ]
    )
    _write(folder / name, content)
    return f"{form} pickle of protocol {protocol} as {name}: {gadget.call[0]!r}", command


def _experts(folder: str) -> str:
    return f"objective.trajectory.experts={folder}"


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def texts(folder: Path, draw: random.Random) -> Made:
    """JSON and YAML that is deep, huge, cyclic, or asks for objects."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{after}: &{after} [{', '.join([f'*{name}'] * 9)}]\n"
        for name, after in zip("abcdefgh", "bcdefghi", strict=True)
    )
    yamls = {
        "a bomb": bomb,
        "a bomb of mappings": bomb.replace("[x,", "[{y: 1},"),
        "a bomb below a key": f"data: {{source: digits}}\n{bomb}ipc: *i\n",
        "a bomb of merges": "a: &a {x: 1}\n"
        + "".join(
            f"{after}: &{after} {{<<: [{', '.join([f'*{name}'] * 9)}]}}\n"
            for name, after in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a cycle": "data: &d {source: *d}\n",
        "depth": "[" * 20_000 + "]" * 20_000,
        "deep mappings": "{a: " * 5_000 + "1" + "}" * 5_000,
        "an object": f"!!python/object/apply:os.system ['touch {folder / MARK}']\n",
        "an object inside": f"ipc: !!python/object/apply:os.mkdir ['{folder / MARK}']\n",
        "a long number": f"ipc: {'9' * 100_000}\n",
        "a long text": f"output: {'x' * 10_000_000}\n",
        "many keys": "".join(f"k{index}: 1\n" for index in range(200_000)),
        "an environment variable": "output: ${oc.env:HOME}\n",
        "a decoder": "ipc: ${oc.decode:'1'}\n",
    }
    jsons = {
        "depth": "[" * 100_000 + "]" * 100_000,
        "deep mappings": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "a long number": '{"ipc": ' + "9" * 100_000 + "}",
        "a lone surrogate": '{"version": 2, "protocol": "\\ud800", "rows": []}',
        "one key twice": '{"version": 2, "version": 3}',
        "a long text": '"' + "x" * 20_000_000 + '"',
        "half a file": '{"version": 2, "rows": [{"set": ',
    }
    if draw.random() < 0.6:
        kind = draw.choice(list(yamls))
        content, (name, command) = yamls[kind], draw.choice(
            [
                ("bad.yaml", ("distill", "bad.yaml")),
                ("bad.yaml", ("prune", "bad.yaml", "--print-config")),
                ("bad.yaml", ("sweep", "bad.yaml")),
                ("bad.yaml", ("evaluate", "runs/plain", "protocol=bad.yaml")),
                ("bad.yaml", ("evaluate", "runs/plain", "--recipe", "bad.yaml")),
                ("runs/plain/recipe.yaml", ("distill", "plain.yaml")),
                ("runs/plain/synthetic/recipe.yaml", ("evaluate", "runs/plain/synthetic")),
                ("bad.yaml", (*CONVERT, "bad.yaml")),
                ("pictures/README.md", ("evaluate", "pictures/train", *_folder())),
                ("runs/plain/synthetic/README.md", ("evaluate", "runs/plain")),
                ("cards/README.md", ("distill", "plain.yaml", "data.source=cards")),
            ]
        )  # fmt: skip
    else:
        kind = draw.choice(list(jsons))
        content, (name, command) = jsons[kind], draw.choice(
            [
                ("scores.json", ("prune", "run.yaml", "prune.scores=scores.json")),
                ("runs/plain/results.json", ("compare", "runs/plain")),
                ("runs/plain/evaluation.json", ("evaluate", "runs/plain")),
                ("runs/plain/synthetic/provenance.json", ("evaluate", "runs/plain")),
                ("prior/model_index.json", ("distill", "plain.yaml", *_prior())),
                ("prior/scheduler/scheduler_config.json", ("distill", "plain.yaml", *_prior())),
                ("mine/experts.json", ("distill", "mtt.yaml", _experts("mine"))),
            ]
        )  # fmt: skip
    if name.endswith(".md"):  # a card, whose head is YAML
        content = f"---\n{content}\n---\n"
    if name.startswith("cards"):
        shutil.copytree(folder / "pictures", folder / "cards")
    _write(folder / name, content.encode())
    return f"{kind} as {name}", command


def _prior() -> tuple[str, ...]:
    return (*PRIOR, "distill.steps=2", "output=other")


def png(width: int, height: int, body: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG that says it is so large, whatever lies in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), extra, chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def images(folder: Path, draw: random.Random) -> Made:
    """Picture files that are bombs, cut off, or no pictures, in a data folder or in a set."""
    zeros = zlib.compress(bytes(64 << 20), 9)
    text = zlib.compress(b"x" * (64 << 20), 9)
    ztxt = struct.pack(">I", len(text) + 4) + b"zTXt" + b"k\0\0" + text[:1] + text[1:]
    whole = next((folder / "pictures").rglob("*.png")).read_bytes()
    kinds = {
        "a bomb of 30000 px": png(30_000, 30_000, zeros),
        "a bomb of 2000000000 px": png(2_000_000_000, 2_000_000_000, zeros),
        "a bomb of 13000 px below Pillow's limit": png(13_000, 13_000, zeros),
        "a bomb of text": png(8, 8, zlib.compress(bytes(8 * 25)), ztxt),
        "no pixels": png(0, 0),
        "one huge row": png(1_000_000_000, 1),
        "half a file": whole[: len(whole) // 2],
        "nothing": b"",
        "text": b"<svg/>",
        "a GIF's head": b"GIF89a\xff\xff\xff\xff\x80\0\0",
        "a JPEG's head": bytes.fromhex("ffd8ffc0001108ffffffff03011100021100031100"),
        "a TIFF that points to itself": bytes.fromhex("49492a0008000000010000010300")
        + bytes.fromhex("010000000100000008000000"),
    }
    kind = draw.choice(list(kinds))
    name, command = draw.choice(
        [
            ("pictures/train/cat/bad.png", ("distill", "folder.yaml")),
            ("pictures/test/dog/bad.png", ("distill", "folder.yaml")),
            ("pictures/train/cat/0.png", ("distill", "folder.yaml")),
            ("pictures/train/cat/bad.png", ("evaluate", "pictures/train", *_folder())),
            ("pictures/train/eel/0.png", ("evaluate", "pictures/train", *_folder())),
        ]
    )
    _write(folder / name, kinds[kind])
    return f"{kind} as {name} of {command[0]}", command


def _folder() -> tuple[str, ...]:
    return ("--recipe", "folder.yaml", "data.source=pictures", "threads=1", "--output", "out")


def places(folder: Path, draw: random.Random) -> Made:
    """What is no file, or lies elsewhere, in the place of a file."""
    kinds: dict[str, Callable[[Path], object]] = {
        "a FIFO": os.mkfifo,
        "a folder": Path.mkdir,
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to /dev/tty": lambda path: path.symlink_to("/dev/tty"),
        "a socket": _socket,
    }
    kind = draw.choice(list(kinds))
    name, command = draw.choice(
        [
            ("bad.yaml", ("distill", "bad.yaml")),
            ("bad.yaml", ("sweep", "bad.yaml")),
            ("set.pt", ("evaluate", "set.pt", *EVALUATE)),
            ("scores.parquet", ("prune", "run.yaml", "prune.scores=scores.parquet")),
            ("scores.npy", ("prune", "run.yaml", "prune.scores=scores.npy")),
            ("core.parquet", ("distill", "plain.yaml", "prune.coreset=core.parquet")),
            ("w.safetensors", ("prune", "run.yaml", "prune.scorer.weights=w.safetensors")),
            ("pictures/train/cat/bad.png", ("distill", "folder.yaml")),
            ("pictures/test/cat/0.png", ("distill", "folder.yaml")),
            ("runs/plain/results.json", ("compare", "runs/plain")),
            ("runs/plain/evaluation.json", ("evaluate", "runs/plain")),
            ("soft.yaml", ("evaluate", "runs/plain", "protocol=soft.yaml")),
            ("prior.ckpt", (*CONVERT, "ldm.yaml")),
            ("cache", ("distill", "folder.yaml")),
            ("out", ("distill", "plain.yaml", "output=out")),
        ]
    )
    path = folder / name
    path.unlink(missing_ok=True)
    kinds[kind](path)
    return f"{kind} as {name}", command


def _socket(path: Path) -> None:
    import socket

    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)


def tables(folder: Path, draw: random.Random) -> Made:
    """Parquet files that ask for files elsewhere, and archives that grow."""
    secret = folder.with_name("secret.png")
    secret.write_bytes(next((folder / "pictures").rglob("*.png")).read_bytes())
    paths = [str(secret), "../secret.png", "/dev/zero", "/etc/passwd", "http://127.0.0.1:9/x.png"]
    path = draw.choice(paths)
    kind = draw.choice(["rows", "card", "set", "zip"])
    if kind == "zip":
        content = _zip({"images.npy": bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
        _write(folder / "set.npz", content)
        return "zeros that grow a thousandfold in set.npz", ("evaluate", "set.npz", *EVALUATE)
    rows = [{"bytes": None, "path": path}] * 4
    table = pyarrow.table({"image": pyarrow.array(rows), "label": [0, 1, 0, 1]})
    if kind == "card":
        (folder / "hub").mkdir()
        card = {"configs": [{"config_name": "default", "data_files": [
            {"split": split, "path": path} for split in ("train", "test")]}]}  # fmt: skip
        (folder / "hub" / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    else:
        (folder / "hub" / "data").mkdir(parents=True)
        for split in ("train", "test"):
            pyarrow.parquet.write_table(table, folder / "hub" / "data" / f"{split}-0.parquet")
    command = (
        ("evaluate", "hub", *EVALUATE)
        if kind == "set"
        else ("distill", "plain.yaml", "data.source=hub")
    )
    return f"{path} named by {kind}", command


MAKERS = {
    "pickles": pickles,
    "texts": texts,
    "images": images,
    "places": places,
    "tables": tables,
}
GROUPS = list(MAKERS)
ENDED = ((("distill", "plain.yaml"), None),)
SOUND = ("a long text", "one key twice", "a bomb of text")  # may be read: they harm nobody


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Make one hostile file and run the command that meets it."""
    folder = lab.copy(ENDED)
    what, command = MAKERS[group](folder, draw)
    end = call(command, folder)
    done = (folder / MARK).exists()
    taken = end.code == 0 and group in ("pickles", "tables")
    complaint = "carried out" if done else "accepted" if taken else end.complaint()
    return Trial(f"{what}; latentdc {' '.join(command)}", complaint)
