"""A damaged or hostile file of a synthetic set is one line that names it, at once."""

import io
import json
import os
import time
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from datasets import ClassLabel, Features, Value
from datasets import Image as ImageFeature
from PIL import Image, PngImagePlugin

from latentdc.cli import main
from latentdc.errors import InputError
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic import folder as layout
from tests.synthetic.sets import NAMES, random_set

ROWS, LATENTS, PROVENANCE = layout.ROWS, layout.LATENTS, layout.PROVENANCE


def png(width: int = 8, height: int = 8, mode: str = "RGB", kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind, **options)
    return buffer.getvalue()


def wide(width: int, height: int) -> bytes:
    """The PNG of one pixel, which says that it is larger."""
    data = png(1, 1)
    head = data[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
    return data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]


def pictures(*images: bytes | None, label=None, column="image"):
    """A parquet file of rows with these pictures in place of the set's."""

    def write(folder):
        kinds = {column: ImageFeature(), "label": ClassLabel(names=list(NAMES))}
        if label is not None:
            kinds["label"] = Value("string")
        rows = {
            column: [{"bytes": image, "path": None} for image in images],
            "label": [label or 0] * len(images),
        }
        schema = Features(kinds).arrow_schema
        pq.write_table(pa.Table.from_pydict(rows, schema=schema), folder / ROWS)

    return write


def pipe(folder):
    (folder / PROVENANCE).unlink()
    os.mkfifo(folder / PROVENANCE)


def holding(name: str, content: bytes | str):
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str, share: float):
    def write(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return write


def zeroed(name: str):
    """A stretch in the middle of a file is lost."""

    def write(folder):
        data = bytearray((folder / name).read_bytes())
        third = len(data) // 3
        data[third : third + 64] = bytes(64)
        (folder / name).write_bytes(bytes(data))

    return write


def latents(**tensors: torch.Tensor):
    return lambda folder: safetensors.torch.save_file(tensors, folder / LATENTS)


text = PngImagePlugin.PngInfo()
text.add_text("comment", "x" * 10_000_000, zip=True)
DEEP = "[" * 100_000 + "]" * 100_000
Z = torch.zeros(8, 4, 2, 2)
DAMAGES = {
    "mixed sizes": (ROWS, pictures(png(), png(8, 16)), "picture 1 is 8 x 16 px, the first is 8"),
    "one that would spread": (ROWS, pictures(png(), png(1, 1)), "picture 1 is 1 x 1 px"),
    "one column of pixels": (ROWS, pictures(png(), png(1, 8)), "picture 1 is 1 x 8 px"),
    "grey": (ROWS, pictures(png(mode="L")), "of mode L; a set's are RGB"),
    "with alpha": (ROWS, pictures(png(mode="RGBA")), "of mode RGBA"),
    "16 bits": (ROWS, pictures(png(mode="I;16")), "of mode I;16"),
    "palette": (ROWS, pictures(png(mode="P")), "of mode P"),
    "JPEG": (ROWS, pictures(png(kind="JPEG")), "damaged"),
    "huge": (ROWS, pictures(wide(5000, 5000)), "5000 x 5000 px"),
    "a bomb": (ROWS, pictures(wide(60000, 60000)), "damaged"),
    "a bomb that Pillow warns of": (ROWS, pictures(wide(12000, 12000)), "12000 x 12000"),
    "no width": (ROWS, pictures(wide(0, 8)), "damaged"),
    "a long text": (ROWS, pictures(png(pnginfo=text)), "damaged"),
    "half a picture": (ROWS, pictures(png(64, 64)[:-60]), "damaged"),
    "no picture": (ROWS, pictures(b"hello"), "damaged"),
    "empty bytes": (ROWS, pictures(b""), "damaged"),
    "null bytes": (ROWS, pictures(None), "damaged"),
    "no rows": (ROWS, pictures(), "it has no rows"),
    "another column": (ROWS, pictures(png(), column="picture"), "damaged"),
    "labels of text": (ROWS, pictures(png(), label="cat"), "no column `label` of class labels"),
    "rows cut": (ROWS, cut(ROWS, 0.5), "damaged"),
    "rows empty": (ROWS, cut(ROWS, 0), "damaged"),
    "rows with a hole": (ROWS, zeroed(ROWS), "damaged"),
    "rows of text": (ROWS, holding(ROWS, "PAR1 hello PAR1"), "damaged"),
    "latents cut": (LATENTS, cut(LATENTS, 0.5), "damaged"),
    "latents empty": (LATENTS, cut(LATENTS, 0), "damaged"),
    "latents with a long header": (LATENTS, holding(LATENTS, b"\xff" * 16), "damaged"),
    "latents missing": (LATENTS, lambda folder: (folder / LATENTS).unlink(), "is missing"),
    "labels among latents": (
        LATENTS, latents(labels=torch.zeros(8, dtype=torch.int64)), "it holds labels, which no set"
    ),
    "nan": (LATENTS, latents(z=Z / 0), "z is not finite"),
    "float images of another size": (
        LATENTS, latents(images=torch.zeros(8, 3, 4, 4)), "images of (8, 3, 4, 4) beside PNGs of"
    ),
    "many rates": (LATENTS, latents(learned_lr=torch.ones(3)), "damaged"),
    "half a grid": (LATENTS, latents(grid=torch.tensor(1.5)), "grid is a whole number, got 1.5"),
    "provenance cut": (PROVENANCE, cut(PROVENANCE, 0.5), "damaged"),
    "provenance empty": (PROVENANCE, cut(PROVENANCE, 0), "damaged"),
    "provenance deep": (PROVENANCE, holding(PROVENANCE, DEEP), "damaged"),
    "provenance a pipe": (PROVENANCE, pipe, "is no file"),
    "provenance a list": (PROVENANCE, holding(PROVENANCE, "[1]"), "it holds a list, not facts"),
    "provenance of bytes": (PROVENANCE, holding(PROVENANCE, b"\xff\xfe{}"), "damaged"),
    "whitening of text": (
        layout.WHITENING, holding(layout.WHITENING, "hello"), "damaged"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("file", "damage", "told"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_in_one_line(tmp_path, capsys, recwarn, file, damage, told):
    random_set().save_pretrained(tmp_path / "set")
    damage(tmp_path / "set")
    began = time.process_time()
    with pytest.raises(InputError) as refused:
        SyntheticSet.from_pretrained(tmp_path / "set")
    assert told in str(refused.value) and str(tmp_path / "set" / file) in str(refused.value)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "set"), "--format", "pt", str(tmp_path / "out.pt")])
    line = capsys.readouterr().err
    assert stop.value.code == 2 and line.count("\n") == 1 and len(line) < 600
    assert not (tmp_path / "out.pt").exists() and len(recwarn) == 0
    assert time.process_time() - began < 5


def test_a_changed_label_is_found_by_the_checksum_of_its_page(tmp_path):
    saved = random_set()
    saved.save_pretrained(tmp_path / "set")
    path = tmp_path / "set" / ROWS
    whole = path.read_bytes()
    for place in range(4, len(whole) - 2000, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = SyntheticSet.from_pretrained(tmp_path / "set")
        except InputError:
            continue
        assert found.images.equal(saved.images) and found.labels.equal(saved.labels), place


def test_a_file_without_permission_is_not_called_damaged(tmp_path, monkeypatch):
    random_set().save_pretrained(tmp_path / "set")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "set" / LATENTS))

    monkeypatch.setattr(safetensors, "safe_open", refuse)
    with pytest.raises(PermissionError):
        SyntheticSet.from_pretrained(tmp_path / "set")


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


def test_the_same_set_saved_again_is_left_untouched(tmp_path):
    random_set().save_pretrained(tmp_path / "set", recipe="ipc: 2\n", results={"rows": []})
    before = state(tmp_path)
    random_set().save_pretrained(tmp_path / "set", recipe="ipc: 2\n", results={"rows": []})
    assert {k: v for k, v in state(tmp_path).items() if k != tmp_path} == before
    random_set().save_pretrained(tmp_path / "set", recipe="ipc: 2\n", results={"rows": [{"a": 1}]})
    assert json.loads((tmp_path / "set" / "results.json").read_text()) == {"rows": [{"a": 1}]}


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_set_is_whole_whenever_a_save_is_killed(tmp_path, monkeypatch, last):
    """After each rename: whoever looks next finds the older set or the newer one."""
    older, newer = random_set(), random_set(ipc=1)
    older.save_pretrained(tmp_path / "set")
    done, rename = [], type(tmp_path).rename

    class Killed(BaseException):
        pass

    def counted(path, target):
        if len(done) == last - 1 or (done and done[-1] == "killed"):
            done.append("killed")
            raise Killed
        done.append("moved")
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", counted)
    try:
        newer.save_pretrained(tmp_path / "set")
    except Killed:
        pass
    monkeypatch.setattr(type(tmp_path), "rename", rename)
    found = SyntheticSet.from_pretrained(tmp_path / "set")
    assert found.images.equal((older if last < 3 else newer).images)
    newer.save_pretrained(tmp_path / "set")
    assert SyntheticSet.from_pretrained(tmp_path / "set").images.equal(newer.images)
    assert os.listdir(tmp_path) == ["set"]


def test_a_set_that_is_moved_aside_is_found_by_every_reader(tmp_path, capsys):
    random_set().save_pretrained(tmp_path / "run" / "synthetic")
    (tmp_path / "run" / "synthetic").rename(tmp_path / "run" / ".synthetic.old")
    main(["export", str(tmp_path / "run"), "--format", "pt", str(tmp_path / "out.pt")])
    assert (tmp_path / "out.pt").is_file() and layout.is_set(tmp_path / "run" / "synthetic")
