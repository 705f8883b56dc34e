"""A full disk: one line, nothing finished is lost, and with room again the usual result.

Of two kinds: a small file system in memory, which only root can mount, and a limit on the size of
any one file (RLIMIT_FSIZE).
"""

import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.faults.calls import End, call
from tests.faults.desk import WORKS, Lab, Skip, Trial, Work, contents, difference

FILES = "one file"
GROUPS = [*WORKS, FILES]


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """Run a command where the room ends somewhere on the way; then once more with room."""
    if group == FILES:
        return _small_files(draw, lab)
    work = WORKS[group]
    usual = lab.undisturbed(work)
    start, end = usual.used
    share = draw.uniform(0, 1)
    ready = lab.copy(work.former)
    kept = ready.with_name("kept")
    ready.rename(kept)
    ready.mkdir()
    try:
        with _small_disk(ready, int(start + share * (end - start))) as grow:
            _fill(kept, ready)
            first = call(work.command, ready)
            grow()
            return Trial(f"disk of {share:.4f} of the room", _both(first, work, ready, lab))
    finally:
        shutil.rmtree(kept)


def _small_files(draw: random.Random, lab: Lab) -> Trial:
    name = draw.choice(list(WORKS))
    work = WORKS[name]
    usual = lab.undisturbed(work)
    size = int(10 ** draw.uniform(1, 5))
    folder = lab.copy(work.former)
    what = f"{name} with files of at most {size} bytes"
    assert usual.results
    first = call(
        work.command,
        folder,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return Trial(what, _both(first, work, folder, lab))


def _both(first: End, work: Work, folder: Path, lab: Lab) -> str | None:
    if (complaint := first.complaint()) is not None:
        return f"full: {complaint}"
    end = call(work.command, folder)
    if end.code != 0:
        return f"with room again: {end.complaint() or end.text.strip()[-160:]}"
    return difference(contents(folder, work.results), lab.undisturbed(work).results)


@contextlib.contextmanager
def _small_disk(place: Path, size: int) -> Iterator[object]:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skip("only root on Linux can mount a small disk")

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, place], capture_output=True, text=True)
        if done.returncode:
            raise Skip(f"cannot mount a small disk: {done.stderr.strip()}")

    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield lambda: mount("-o", "remount,size=1g")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _fill(source: Path, place: Path) -> None:
    """Copy a desk onto the small disk."""
    for path in source.iterdir():
        if path.is_dir():
            shutil.copytree(path, place / path.name)
        else:
            shutil.copyfile(path, place / path.name)
