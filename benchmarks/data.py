"""An epoch of random batches over a decoded set, beside decoding the same files anew; or opening.

python benchmarks/data.py FOLDER [RESOLUTION]   # a folder of parquet files or class folders
python benchmarks/data.py --opening [IMAGES] [RESOLUTION]   # made here: memory, disk and seconds
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from latentdc.data.decode import decode
from latentdc.data.open import encoded_split, open_dataset
from latentdc.images import from_uint8
from latentdc.recipe import Data
from latentdc.runtime import device_name

BATCH, CLASSES, GROUP = 256, 20, 100  # rows of a parquet group, as the Hub's sets of images have


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["--opening"]:
        opening(*map(int, words[1:]))
    elif words[:1] == ["--open"]:
        opened(Path(words[1]), int(words[2]))
    else:
        epoch(Data(source=words[0], resolution=int((words[1:] or [32])[0])))


def epoch(data: Data) -> None:
    """Seconds of an epoch over the decoded training split, and of decoding it."""
    began = time.perf_counter()
    train = open_dataset(data, "train")
    opened = time.perf_counter() - began
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    for rows in order.split(BATCH):
        from_uint8(train.images[rows])
    epoch = time.perf_counter() - began
    files, some = encoded_split(data, "train"), order[:2000]
    began = time.perf_counter()
    for row in some.tolist():
        decode(files.read(row), data.resolution)
    plain = (time.perf_counter() - began) / len(some) * len(train)
    print(f"machine: {device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads")
    print(f"open {len(train):,} images at {data.resolution} px: {opened:.1f} s (0 if cached)")
    print(f"epoch in batches of {BATCH}: {epoch:.2f} s, {len(train) / epoch:,.0f} images/s")
    print(f"the same, decoding every file again: {plain:.1f} s, {plain / epoch:.0f} times as long")


# ---- Opening ----


def opening(images: int = 3000, resolution: int = 256) -> None:
    """Memory, copies and seconds of opening the training split of each kind of source."""
    print(f"machine: {device_name(torch.device('cpu'))}, {len(os.sched_getaffinity(0))} cores")
    print(
        f"{images:,} JPEGs at {resolution} px: {3 * images * resolution**2 / 1e6:,.0f} MB decoded"
    )
    print("memory: private, in MB, above importing; peak of one process, then kept by each of two")
    columns = ("source", "source MB", "copies MB", "cache MB", "seconds", "peak", "kept by two")
    print("".join(f"{word:>14}" for word in columns))
    with tempfile.TemporaryDirectory() as name:
        for make in (class_folders, parquet_groups, parquet_whole, tar_shards):
            home = Path(name) / make.__name__
            make(home / "data", images)
            alone = measured(home, resolution, 1)
            if not alone:
                print(f"{make.__name__:>14}{'is not opened':>28}", flush=True)
                continue
            sizes = [disk(home / part) for part in ("data/train", "copies", "cache")]
            several = measured(home, resolution, 2)
            kept = " ".join(f"{each['kept']:.0f}" for each in several)
            numbers = [*sizes, alone[0]["seconds"], alone[0]["peak"]]
            figures = "".join(f"{number:14.1f}" for number in numbers)
            print(f"{make.__name__:>14}{figures}{kept:>14}", flush=True)


def measured(home: Path, resolution: int, processes: int) -> list[dict[str, float]]:
    """What each of so many processes of one launch says of opening; nothing where one fails."""
    env = os.environ | {
        "HF_DATASETS_CACHE": str(home / "copies"),
        "LATENTDC_CACHE": str(home / ("cache" if processes == 1 else "cache of several")),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    command = [sys.executable, __file__, "--open", str(home / "data"), str(resolution)]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    runs = [
        subprocess.Popen(command, env=env | {"RANK": str(rank)}, stdout=pipe, stderr=quiet)
        for rank in range(processes)
    ]
    said = [run.communicate()[0] for run in runs]
    return [] if any(run.returncode for run in runs) else [json.loads(each) for each in said]


def opened(source: Path, resolution: int) -> None:
    """Open the training split, read every image once, and print what it took."""
    import latentdc.data.tables  # noqa: F401  before anything is counted

    at_first, began, peak = private(), time.perf_counter(), 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, private())

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    train = open_dataset(Data(source=str(source), resolution=resolution), "train")
    for start in range(0, len(train), BATCH):
        train.images[start : start + BATCH].max()
    seconds, kept = time.perf_counter() - began, private()
    ended.set()
    watching.join()
    print(json.dumps({"seconds": seconds, "peak": peak - at_first, "kept": kept - at_first}))


def private() -> float:
    """MB of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


def disk(folder: Path) -> float:
    """MB of the files below a folder, or of those whose names begin so."""
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if str(path).startswith(str(folder))) / 1e6


@cache
def pictures(images: int) -> list[bytes]:
    """JPEGs of 400 x 320 px, smooth with some noise, all different."""
    draw, found = np.random.default_rng(0), []
    for _ in range(images):
        coarse = Image.fromarray(draw.integers(0, 256, (8, 10, 3), dtype=np.uint8))
        levels = np.asarray(coarse.resize((400, 320), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (levels + draw.integers(-12, 13, levels.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def class_folders(home: Path, images: int) -> None:
    """One file for each image."""
    for number, content in enumerate(pictures(images)):
        path = home / f"train/{number % CLASSES:04d}/{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def parquet_groups(home: Path, images: int) -> None:
    """As the Hub has it: shards, in groups of few rows."""
    _parquet(home, images, GROUP)


def parquet_whole(home: Path, images: int) -> None:
    """Shards of a single group each, as pandas writes them."""
    _parquet(home, images, images)


def _parquet(home: Path, images: int, group: int, shards: int = 3) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    home.mkdir(parents=True)
    contents = pictures(images)
    for shard in range(shards):
        rows = range(shard, images, shards)
        entries = [{"bytes": contents[row], "path": None} for row in rows]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        columns = {"image": pa.array(entries, kind), "label": [row % CLASSES for row in rows]}
        path = home / f"train-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=group)


def tar_shards(home: Path, images: int, shards: int = 3) -> None:
    """As webdataset writes them: an image and its class, one after the other."""
    home.mkdir(parents=True)
    contents = pictures(images)
    for shard in range(shards):
        with tarfile.open(home / f"train-{shard:06d}.tar", "w") as tar:
            for row in range(shard, images, shards):
                for suffix, content in (("jpg", contents[row]), ("cls", b"%d" % (row % CLASSES))):
                    entry = tarfile.TarInfo(f"{row:06d}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
