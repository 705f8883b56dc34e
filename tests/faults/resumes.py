"""A stage of a run on two processes ends by a signal; one or three go on, to the set of one alone.

The signal comes just before the first change of a file that the stage makes, whichever process
makes it. Sums over other numbers of images round otherwise: latents, images and accuracies agree to
rounding, all else bit by bit.
"""

import io
import os
import random
import signal
import socket
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import safetensors.numpy
from PIL import Image

from tests.faults import desk
from tests.faults.calls import End, call_ranks, watch_files
from tests.faults.desk import Lab, Trial, Work, contents, difference, under

SIGNALS = (signal.SIGTERM, signal.SIGKILL)
MATCHED = ("step-00000004", "step-00000006")  # between checkpoints
SAVED = ("synthetic", "README.md", "trainings", "results.json")
STAGES = {
    "dm": ("scoring", "coreset.parquet", "step-00000008", *SAVED),
    "dm prior": (*MATCHED, *SAVED),
    "mtt": (*MATCHED, *SAVED),
    "refine": ("step-00000016", "step-00000024", *SAVED),
    "cao2": ("classifiers", "step-00000016", "step-00000024", *SAVED),
    "mgd3": ("step-00000008", "step-00000016", *SAVED),
    "d3hr": ("step-00000008", "step-00000016", *SAVED),
    "dmgd": ("step-00000008", "step-00000016", *SAVED),
}
GROUPS = tuple(STAGES)
FOLDERS = {"dm": "run", "dm prior": "prior", "mtt": "mtt", "refine": "refined", "cao2": "refined"}
CLOSE = 1e-4  # of latents, in parts of their spread
ALIKE = 0.01  # of accuracies, of which one test image is 0.003


def attempt(group: str, draw: random.Random, lab: Lab) -> Trial:
    """End a stage; then run the command to its end on another number of processes."""
    stage, sign = draw.choice(STAGES[group]), draw.choice(SIGNALS)
    to, again = draw.choice(("one", "both")), draw.choice((1, 3))
    return tried(group, stage, sign, to, again, lab)


def tried(group: str, stage: str, sign: signal.Signals, to: str, again: int, lab: Lab) -> Trial:
    """As `attempt`, of what was drawn; `to` says whether both processes get the signal."""
    what = f"{sign.name} to {to} before {stage}, then {again} processes"
    former = ((desk.EXPERTS, None),) if group == "mtt" else ()
    folder = f"runs/{FOLDERS.get(group, 'guided')}"
    work = Work(desk.METHODS[group], under(folder, [*desk.SET, "coreset.parquet"]), former)
    usual = lab.undisturbed(work).results
    here = lab.copy(former)
    struck = here / "struck"

    def seen(count: int, paths: list[str]) -> None:
        if any(stage in path for path in paths) and not struck.exists():
            struck.touch()
            if to == "one":
                os.kill(os.getpid(), sign)
            else:
                os.killpg(0, sign)

    first = call_ranks(work.command, here, 2, _port(), watch_files(here / "runs", seen))
    if not struck.exists():
        return Trial(what, f"never came to it: {first[0].text.strip()[-300:]}")
    end = call_ranks(work.command, here, again, _port())
    stopped = next((one for one in end if one.code != 0), None)
    failed = f"does not go on: {stopped.text.strip()[-600:]}" if stopped else None
    found = contents(here, work.results)
    other = difference(rounded(found, usual), usual)
    return Trial(what, _complaint(first) or failed or other)


def _complaint(ends: list[End]) -> str | None:
    """Why the processes, signalled or beside one that was, ended in no orderly way."""
    for end in ends:
        if end.code is None or "Traceback (most recent call last)" in end.text:
            return f"code {end.code}: {end.text.strip()[-600:]}"
    return None


def rounded(found: dict[str, object], usual: dict[str, object]) -> dict[str, object]:
    """What was found, with the usual content wherever that is as much, but for rounding."""
    close = {
        name: usual[name]
        for name, content in found.items()
        if name in usual and content != usual[name] and _close(name, content, usual[name])
    }
    return found | close


def _close(name: str, one: Any, other: Any) -> bool:
    if name.endswith("/results.json"):  # which names machines, and sets by their hashes
        first, second = (_accuracies(results) for results in (one, other))
        return first.keys() == second.keys() and all(
            np.abs(first[key] - second[key]).max() <= ALIKE for key in first
        )
    if name.endswith(".parquet") and "/synthetic/" in name:
        first, second = (_levels(table) for table in (one, other))
        return first.shape == second.shape and int(np.abs(first - second).max()) <= 1
    if name.endswith(".safetensors"):
        first, second = safetensors.numpy.load(one), safetensors.numpy.load(other)
        return first.keys() == second.keys() and all(
            np.abs(first[key] - second[key]).max() <= CLOSE * second[key].std() for key in first
        )
    return name.endswith(("README.md", "grid.png", "provenance.json"))  # made of those


def _accuracies(results: dict[str, Any]) -> dict[tuple[str, str], np.ndarray]:
    rows = results["results"]
    return {(row["set"], row["student"]): np.array(row["accuracies"]) for row in rows}


def _levels(table: bytes) -> np.ndarray:
    """(N, H, W, 3) levels of a set, in their order."""
    images = pq.read_table(io.BytesIO(table))["image"].to_pylist()
    return np.stack([np.array(Image.open(io.BytesIO(one["bytes"]))) for one in images]).astype(int)


def _port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
