"""What a page is made of, read from the folders that runs, sweeps and prunings leave."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from latentdc.config import RECIPE
from latentdc.errors import InputError
from latentdc.prune.coreset import Coreset
from latentdc.prune.score import SCORES
from latentdc.prune.score_table import ScoreTable
from latentdc.published import published_yaml
from latentdc.recipe import BASELINES
from latentdc.results.result import EVALUATION, RESULTS, load
from latentdc.results.runs import read_runs
from latentdc.run_folder import CORESET, METRICS, SET, stage_seconds
from latentdc.synthetic.folder import is_set
from latentdc.synthetic.synthetic_set import SyntheticSet, first_of_each, set_hash

_MOST = 400  # sets that are read: of a larger sweep the first ones
_IMAGES, CLASSES = 10, 100  # that are shown: of a class (shared between sets), and of a set


@dataclass(frozen=True)
class Run:
    """What one run folder holds, each part None or empty where it is missing.

    Attributes:
        name: as in the tables.
        synthetic: what is shown of the set: the first images of its first classes.
        counts: images of each class of the whole set; empty without a set.
        hash: of the whole set.
        metrics: measures of each step.
        recipe: YAML, without paths.
        scores: of the training images.
        coreset: what pruning kept.
    """

    name: str
    synthetic: SyntheticSet | None
    counts: Sequence[int]
    hash: str | None
    metrics: Sequence[Mapping[str, Any]]
    recipe: str | None
    scores: ScoreTable | None
    coreset: Coreset | None

    @property
    def provenance(self) -> Mapping[str, object]:
        """Provenance of the run's set; empty without a set."""
        return {} if self.synthetic is None else self.synthetic.provenance

    @property
    def seconds(self) -> float | None:
        """Seconds of making the set (`stage_seconds`); None where nothing was timed."""
        told = self.provenance.get("seconds")
        sampled = told.items() if isinstance(told, dict) else ()
        facts = {"method": "", "seconds": {stage: s for stage, s in sampled if _is_number(s)}}
        steps = [line for line in self.metrics if _is_number(line.get("seconds"))]
        return sum(stage_seconds(facts, steps).values()) or None

    def measure(self, name: str) -> dict[int, float]:
        """A measure by step, as far as it was written."""
        return {line["step"]: line[name] for line in self.metrics if _is_number(line.get(name))}


def open_runs(
    given: Sequence[str | Path], frame: pd.DataFrame | None = None
) -> tuple[list[Run], pd.DataFrame | None]:
    """The runs below these folders, and all their results.

    Args:
        given: folders of runs, sweeps, prunings, evaluations or sets, or files of results.
        frame: all their results, where the caller has put them together; of runs whose sets share a
            name and their images per class there, the first stands for all.

    Returns:
        The runs, and a frame as of `read_runs` in which times of distillation are filled in; None
        where nothing was evaluated.
    """
    paths = [Path(one).expanduser() for one in given]
    files = [file for path in paths for file in _results(path)]
    known = [str(file) for file in files if load(file)]
    together = frame is not None
    if frame is None and known:
        frame = read_runs(known)
    folders = {path: _folders(path) for path in paths}
    for path, found in folders.items():
        if not found and not _results(path):
            raise InputError(
                f"{path} holds nothing to report: neither {RECIPE} of a run nor {RESULTS} or "
                f"{EVALUATION}; give the folder of a run, a sweep or a pruning."
            )
    first: dict[Path, tuple[Path, Path]] = {}  # each run once, however often it is given
    for top, found in folders.items():
        for folder in found:
            first.setdefault(_home(folder), (folder, top))
    each = max(1, _IMAGES // max(1, len(first)))
    runs = [_open(folder, top, frame, each) for folder, top in first.values()]
    if frame is None:
        return runs, None
    if together:
        runs = _first_runs(frame, runs)
    return runs, _timed(frame, runs)


def of_same_set(frame: pd.DataFrame, run: Run) -> "pd.Series[bool]":
    """Which rows are of the run's set, or of another that shares its name and images per class."""
    own = frame[(frame["hash"] == run.hash) & ~frame["set"].isin(BASELINES)]
    own = own[own["name"] == run.name] if run.name in {*own["name"]} else own
    if own.empty:
        return frame["name"] == run.name
    return (frame["name"] == own["name"].iloc[0]) & (frame["ipc"] == own["ipc"].iloc[0])


def _first_runs(frame: pd.DataFrame, runs: Sequence[Run]) -> list[Run]:
    """The first run of each name and images per class, in the order of the frame."""
    found: dict[tuple[str, int], Run] = {}
    for run in runs:
        own = frame[of_same_set(frame, run)]
        if not own.empty:
            key = run.name, int(own["ipc"].iloc[0])
            first = run.hash == own["hash"].iloc[0]  # of repetitions, in the order of the frame
            found[key] = run if first else found.get(key, run)
    several = len({ipc for _, ipc in found}) > 1
    return [
        replace(found[name, ipc], name=f"{name} (ipc {ipc})") if several else found[name, ipc]
        for name, ipc in dict.fromkeys(zip(frame["name"], frame["ipc"], strict=True))
        if (name, ipc) in found
    ]


def _results(path: Path) -> list[Path]:
    """The files of results in a folder, or the file itself."""
    files = [path] if path.is_file() else [path / name for name in (RESULTS, EVALUATION)]
    return [file for file in files if file.is_file()]


def _folders(path: Path) -> list[Path]:
    """The run folders at or below `path`, in the order of their names."""
    own = any((path / name).is_file() for name in (RECIPE, METRICS))
    if own or is_set(path) or is_set(path / SET):
        return [path]
    if not path.is_dir():
        return []
    found = sorted(file.parent for file in path.rglob(RECIPE) if file.parent.name != SET)
    return found[:_MOST]


def _home(folder: Path) -> Path:
    """The run that a folder is, or whose set it is."""
    real = folder.resolve()
    return real.parent if real.name == SET and (real.parent / RECIPE).is_file() else real


def _open(folder: Path, top: Path, frame: pd.DataFrame | None, each: int) -> Run:
    """What a folder holds, with `each` images of a class: many large sets fill no memory."""
    place = next((one for one in (folder / SET, folder) if is_set(one)), None)
    synthetic = None if place is None else SyntheticSet.from_pretrained(place)
    digest, counts = None, []
    if synthetic is not None:
        digest, counts = set_hash(synthetic), synthetic.counts
        first = torch.tensor(first_of_each(synthetic.labels, each))
        few = synthetic.labels[first].unique()[:CLASSES]
        synthetic = synthetic.rows(first[torch.isin(synthetic.labels[first], few)])
    name = "/".join(folder.relative_to(top).parts) or folder.resolve().name
    if frame is not None and digest is not None:
        own = frame[(frame["hash"] == digest) & ~frame["set"].isin(BASELINES)]
        home = folder.resolve(), None  # another may have its copy
        here = [origin == home for origin in own["origin"]]
        own = own[here] if any(here) else own
        name = name if own.empty else str(own["name"].iloc[0])
    recipe, scores, coreset = folder / RECIPE, folder / SCORES, folder / CORESET
    return Run(
        name=name,
        synthetic=synthetic,
        counts=counts,
        hash=digest,
        metrics=list(_lines(folder / METRICS)),
        recipe=published_yaml(recipe.read_text(encoding="utf-8")) if recipe.is_file() else None,
        scores=ScoreTable.load(scores) if scores.is_file() else None,
        coreset=Coreset.load(coreset) if coreset.is_file() else None,
    )


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    """The measures of each step; a line that a kill cut short is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            yield found


def _timed(frame: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """The frame with the seconds of runs, whose own results do not tell them."""
    took = {run.hash: run.seconds for run in runs if run.seconds is not None}
    own = ~frame["set"].isin(BASELINES) & frame["seconds"].isna()
    found = frame["hash"].map(took).astype(float)
    return frame.assign(seconds=frame["seconds"].astype(float).where(~own, found))


def _is_number(value: object) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(float(str(value)))
