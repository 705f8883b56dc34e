"""Small commands, each with what it leaves behind: the undamaged results that faults must not move.

A *desk* is a working directory with recipes and whatever former commands left in it. It is made
once and copied for every fault.
"""

import json
import mmap
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.faults.calls import call, kill_near, watch_files
from tests.priors.convert.yamls import CIN256
from tests.synthetic.foreign.layouts import named

SCORED = "prune: {keep: 0.5, scorer: {network: convnet3@8, epochs: 3, lr: 0.2, batch: 64}}\n"
REST = """
prior: {kind: pixel}
objective: {kind: dm, network: convnet3@4, batch: 4}
distill: {steps: 12, lr_z: 1.0, lr_c: 1.0, checkpoint_every: 4}
evaluate: {students: [convnet3@2], seeds: 2, steps: 2, rows: [distilled, random]}
threads: 1
"""
GUIDED = """
data: {source: digits, resolution: 16}
prune: {score: random, keep: 0.1, scorer: {network: convnet3@8, epochs: 1, lr: 0.2, batch: 64}}
prior: {kind: diffusion, weights: prior, steps: 2, guidance: 2.0}
sampling: {batch: 4, checkpoint_seconds: 0}
evaluate: {students: [convnet3@2], seeds: 2, steps: 2, rows: [distilled, random]}
threads: 1
"""
RECIPES = {
    "run.yaml": f"data: {{source: digits, resolution: 8}}\n{SCORED}{REST}",
    "plain.yaml": f"data: {{source: digits, resolution: 8}}\n{REST}",
    "folder.yaml": f"data: {{source: pictures, resolution: 8}}\n{REST}",
    "mtt.yaml": """
data: {source: digits, resolution: 8}
prior: {kind: pixel}
objective:
  {kind: mtt, network: convnet3@4, trajectory: {syn_steps: 2, expert_epochs: 1, max_start_epoch: 1}}
experts: {count: 2, epochs: 1}
distill: {steps: 2, lr_z: 1.0, lr_c: 1.0}
evaluate: {rows: []}
threads: 1
""",
    "guided.yaml": f"{GUIDED}method: {{kind: sampling}}\nipc: 2\n",
    "refined.yaml": f"""{GUIDED}method: {{kind: refine}}
objective: {{kind: dm, network: convnet3@4, batch: 4}}
distill: {{steps: 6, lr_z: 1.0, lr_c: 1.0, checkpoint_every: 2}}
""",
    "divided.yaml": """
data: {source: digits, resolution: 8}
prune: {keep: 0.5, scorer: {network: convnet3@8, epochs: 6, lr: 0.2, batch: 64}}
prior: {kind: pixel}
objective: {kind: dm, network: convnet3@4, batch: 4}
distill: {steps: 4, lr_z: 1.0, lr_c: 1.0}
evaluate:
  students: [convnet3@4]
  seeds: 1
  steps: 60
  rows: [kept]
  changes:
    - >-
      labels={source: online, loss: kl,
      teachers: [{network: convnet3@8, epochs: 4, lr: 0.2, batch: 64}]}
    - augment=null
    - views.pad=1
threads: 1
""",
    "mosaic.yaml": f"""
data: {{source: digits, resolution: 8}}
{SCORED.replace("keep: 0.5, ", "")}method: {{kind: mosaic}}
mosaic: {{grid: 2, fit: squash}}
evaluate: {{students: [convnet3@2], seeds: 2, steps: 2, rows: [distilled, random]}}
threads: 1
""",
    "sweep.yaml": """
recipe: plain.yaml
overrides: [distill.steps=2, evaluate.seeds=1]
axes:
  images: {one: [ipc=1], two: [ipc=2]}
""",
    "soft.yaml": """
name: soft
students: [convnet3@2]
seeds: 1
steps: 4
batch: 10
views: {pad: 1}
labels: {source: stored, loss: kl, precision: uint8, top: 3,
  teachers: [{network: convnet3@4, epochs: 2, lr: 0.2, batch: 64}]}
""",
}
RUN, PLAIN, FOLDER = ("distill", "run.yaml"), ("distill", "plain.yaml"), ("distill", "folder.yaml")
PRUNE = ("prune", "run.yaml")
PRIOR = ("prior.kind=diffusion", "prior.weights=prior", "prior.steps=2", "data.resolution=16")
DIFFUSION = (*PLAIN, *PRIOR, "output=runs/prior")
SOFT = ("evaluate", "runs/plain", "protocol=soft.yaml")
EXPERTS, FOLLOW = ("experts", "mtt.yaml"), ("distill", "mtt.yaml")
SWEEP = ("sweep", "sweep.yaml")
MOSAIC = ("distill", "mosaic.yaml")
COMPARE = ("compare", "runs/plain", "runs/run", "--output", "compared")
SET = ["synthetic/**/*", "results.json"]
ROWS = tuple(
    f"evaluate.{words}"
    for words in ("rows=[distilled, random]", "students=[convnet3@2]", "seeds=2", "steps=2")
)


Words = tuple[str, ...]
Moment = tuple[str, int]  # at the n-th change of a path with this name
Former = tuple[tuple[Words, Moment | None], ...]


@dataclass(frozen=True)
class Work:
    """A command, what was there before it, and what it leaves.

    Attributes:
        command: words after `latentdc`.
        results: patterns of the files that it makes and that are the same every time.
        former: commands that were run before it; a moment after a command is when it was killed.
    """

    command: Words
    results: list[str]
    former: Former = ()


def under(folder: str, patterns: list[str]) -> list[str]:
    """The patterns inside a folder."""
    return [f"{folder}/{pattern}" for pattern in patterns]


# Methods, each with the words that make one of the recipes it.
MODE = ("sampling.anchors.kind=centres", "sampling.mode.scale=0.1")
GAUSSIAN = ("prior.steps=4", "sampling.start=anchors", "sampling.strength=0.65", "sampling.eta=0")
METHODS = {
    "dm": RUN,
    "dm prior": (*DIFFUSION, "distill.steps=6", "distill.checkpoint_every=2"),
    "mtt": ("distill", "mtt.yaml", "distill.steps=6", "distill.checkpoint_every=2", *ROWS),
    "refine": ("distill", "refined.yaml", *MODE, "sampling.select={kind: centroids, groups: 2}"),
    "cao2": (
        *("distill", "refined.yaml", "sampling.select={kind: confidence, groups: 2}"),
        *("prior.steps=4", "objective={kind: denoise, denoise: {share: 0.5}}"),
        *("distill.optimizer=adam", "distill.lr_z=6e-4"),
    ),
    "mgd3": ("distill", "guided.yaml", *MODE),
    "d3hr": (
        *("distill", "guided.yaml", *GAUSSIAN, "sampling.anchors={kind: gaussian, inverted: 5}"),
        "sampling.select={kind: moments, groups: 10}",
    ),
    "dmgd": ("distill", "guided.yaml", "sampling.transport={scale: 0.2, clusters: 3}"),
}
WORKS = {
    "run": Work(RUN, under("runs/run", [*SET, "coreset.parquet"])),
    "prune": Work(PRUNE, ["runs/run/coreset.parquet", "runs/run/scores.parquet"]),
    "diffusion": Work(DIFFUSION, under("runs/prior", SET)),
    "labels": Work(SOFT, ["runs/plain/evaluation.json"], ((PLAIN, None),)),
    "experts": Work(EXPERTS, ["runs/experts/**/*.safetensors", "runs/experts/**/*.json"]),
    "divided": Work(("distill", "divided.yaml"), under("runs/divided", ["*.parquet", *SET])),
    "divided experts": Work(
        (*EXPERTS, "experts.count=1", "experts.epochs=8"),
        ["runs/experts/**/*.safetensors", "runs/experts/**/*.json"],
    ),
    "mosaics": Work(MOSAIC, under("runs/mosaic", SET)),
    "sweep": Work(SWEEP, ["runs/sweep/results.json", "runs/sweep/*/synthetic/**/*"]),
    "folder": Work(FOLDER, under("runs/folder", SET)),
    "again": Work(PLAIN, under("runs/plain", SET), ((PLAIN, None),)),
}


def make(folder: Path) -> Path:
    """An empty desk: recipes, pictures in folders, a prior."""
    folder.mkdir(parents=True)
    for name, text in RECIPES.items():
        (folder / name).write_text(text)
    for split in ("train", "test"):
        named(folder / "pictures" / split, ["cat", "dog", "eel"], ipc=6)
    (folder / "ldm.yaml").write_text(json.dumps(CIN256))
    torch.save({"state_dict": {}}, folder / "prior.ckpt")
    shipped = Path(__file__).parents[2] / "assets" / "priors" / "digits"
    shutil.copytree(shipped, folder / "prior")
    return folder


def prepare(folder: Path, former: Former) -> Path:
    """A desk on which commands were run."""
    make(folder)
    for command, killed in former:
        end = call(command, folder, before=kill_near(folder, *killed) if killed else None)
        if end.code != (-9 if killed else 0):
            raise SystemExit(f"preparing: latentdc {' '.join(command)}: {end.code}\n{end.text}")
    return folder


def remove(folder: Path) -> None:
    """Delete a desk, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def files(folder: Path, patterns: list[str]) -> list[Path]:
    """Regular files that fit one of the patterns, in order."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def contents(folder: Path, patterns: list[str]) -> dict[str, object]:
    """What result files say, without the seconds that were taken."""
    return {str(path.relative_to(folder)): _content(path) for path in files(folder, patterns)}


def _content(path: Path) -> object:
    content = path.read_bytes()
    if path.suffix != ".json":
        return content
    try:
        return _timeless(json.loads(content))
    except ValueError:
        return content


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(some) for key, some in value.items() if "seconds" not in str(key)}
    return [_timeless(some) for some in value] if isinstance(value, list) else value


def difference(found: dict[str, object], wanted: dict[str, object]) -> str | None:
    """In words, which results are not the wanted ones."""
    other = sorted(name for name in wanted if found.get(name) != wanted[name])
    return f"another result: {', '.join(other)}" if other else None


@dataclass(frozen=True)
class Trial:
    """One fault: what was done, and what was wrong about the end, None where it was held."""

    what: str
    complaint: str | None


class Skip(Exception):
    """Why a group of faults cannot be tried on this machine."""


class Lab:
    """Desks and undamaged results, each made once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._desks: dict[Former, Path] = {}
        self._undisturbed: dict[str, Undisturbed] = {}
        self.two_processes: dict[str, tuple[dict[str, object], float]] = {}  # of signals

    def copy(self, former: Former = ()) -> Path:
        """A desk for one fault, on which commands were run."""
        if former not in self._desks:
            name = self.root / f"desk{len(self._desks)}" / "case"
            name.parent.mkdir(parents=True)
            self._desks[former] = prepare(name, former)
        to = self.root / "now" / "case"
        to.parent.mkdir(exist_ok=True)
        remove(to)
        shutil.copytree(self._desks[former], to, symlinks=True)
        return to

    def undisturbed(self, work: "Work") -> "Undisturbed":
        """What a command leaves where nothing disturbs it."""
        key = repr(work)
        if key not in self._undisturbed:
            folder = self.copy(work.former)
            before, counter = used(folder), mmap.mmap(-1, 8)

            def seen(count: int, paths: list[str]) -> None:
                counter[:] = count.to_bytes(8)

            end = call(work.command, folder, before=watch_files(folder, seen))
            if end.code != 0:
                raise SystemExit(f"undisturbed: latentdc {' '.join(work.command)}\n{end.text}")
            self._undisturbed[key] = Undisturbed(
                results=contents(folder, work.results),
                changes=int.from_bytes(counter[:]),
                seconds=end.seconds,
                used=(before, used(folder)),
            )
            if not self._undisturbed[key].results:
                raise SystemExit(f"latentdc {' '.join(work.command)} left none of {work.results}")
        return self._undisturbed[key]


@dataclass(frozen=True)
class Undisturbed:
    """Of a command: its results, the number of its changes of files, its seconds, the disk used."""

    results: dict[str, object]
    changes: int
    seconds: float
    used: tuple[int, int]


def used(folder: Path) -> int:
    """Bytes of whole pages under a folder."""
    return sum(4096 * (path.lstat().st_size // 4096 + 2) for path in folder.rglob("*"))
