"""The results of any runs as one frame, in which every set has a name of its own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latentdc.errors import InputError
from latentdc.recipe import BASELINES
from latentdc.results.result import EVALUATION, RESULTS, Result, Results, load


@dataclass
class _Line:
    """Results that are of the same images under the same conditions: a line of a table.

    One for each student, or more where several files hold the same; `files` are those that the
    results are read from, one for each.
    """

    results: list[Result]
    files: list[Path]
    name: str

    @property
    def run(self) -> Path:
        """Folder of the first file: of a run, or of a sweep."""
        return _run_of(self.files[0])

    @property
    def own(self) -> bool:
        """Whether it is no baseline."""
        return self.results[0].set not in BASELINES

    def is_of(self, other: "_Line") -> bool:
        """Whether both are of the same images, and nothing that both hold contradicts it.

        Baselines may be those of another run, and a sweep holds the results of the runs inside it.
        """
        a, b = self.results[0], other.results[0]
        nested = self.run in other.run.parents or other.run in self.run.parents
        return (
            (not self.own or nested or (self.run, a.run) == (other.run, b.run))
            and (a.set, a.ipc, a.conditions) == (b.set, b.ipc, b.conditions)
            and all(
                _agree(one.hashes, two.hashes)
                and (one.student != two.student or _agree(one.accuracies, two.accuracies))
                for one in self.results
                for two in other.results
            )
        )


def _run_of(file: Path) -> Path:
    """Folder of the run that a file is of, or a copy of it that lies with the set."""
    return file.parent.parent if file.parent.name == "synthetic" else file.parent


def _agree(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether values by seed are the same, as far as both go."""
    return all(a == b for a, b in zip(one, other, strict=False))


def read_runs(given: Iterable[str | Path | Sequence[Result]]) -> pd.DataFrame:
    """`to_frame` of results, with the columns `name` and `origin`.

    Given are folders of runs and sweeps, files of results, or results that lie in no file.

    Sets stand in the given order, and baselines after all of them. A baseline that several runs
    share has one name. `origin` is the run that a result is of.

    Raises:
        InputError: nothing to read, or a file that is none of ours.
    """
    lines: list[_Line] = []
    for path, results in _opened(given).items():
        for line in _lines(path, results):
            same = next((known for known in lines if known.is_of(line)), None)
            if same is None:
                lines.append(line)
            else:
                same.results += line.results
                same.files += line.files
    if not lines:
        raise InputError(
            "these files hold no results yet; finish a cell of the sweep, with evaluate.rows that "
            "are not empty."
        )
    lines.sort(key=lambda line: not line.own)
    _name_apart(lines)
    frame = Results(result for line in lines for result in line.results).to_frame()
    names = [line.name for line in lines for _ in line.results]
    origins = [
        (_run_of(file), result.run)
        for line in lines
        for file, result in zip(line.files, line.results, strict=True)
    ]
    return frame.assign(
        name=[names[number] for number in frame["result"]],
        origin=[origins[number] for number in frame["result"]],
    )


def _opened(given: Iterable[str | Path | Sequence[Result]]) -> dict[Path, Sequence[Result]]:
    """Results by their file; those that lie in none are a run `results 1`, `results 2`, ..."""
    opened: dict[Path, Sequence[Result]] = {}
    for place, one in enumerate(given, start=1):
        if isinstance(one, str | Path):
            opened |= {file: load(file) for file in _files(Path(one).expanduser())}
        else:
            opened[Path(f"results {place}") / RESULTS] = one
    return opened


def _files(path: Path) -> list[Path]:
    files = [path / name for name in (RESULTS, EVALUATION) if (path / name).is_file()]
    files = [path] if path.is_file() else files
    if not files:
        raise InputError(
            f"{path} holds no {RESULTS} or {EVALUATION}; give run folders or these files. "
            "latentdc evaluate writes one."
        )
    return [file.resolve() for file in files]


def _lines(path: Path, results: Sequence[Result]) -> list[_Line]:
    """The lines of the results of one file."""
    lines: dict[tuple[object, ...], _Line] = {}
    for result in results:
        counts = None if result.set not in BASELINES else result.counts
        key = (result.set, result.run, result.ipc, result.hashes[0], counts, result.conditions)
        line = lines.setdefault(key, _Line([], [], ""))
        line.results.append(result)
        line.files.append(path)
    for line in lines.values():
        first = line.results[0]
        distilled = first.set == "distilled"
        line.name = (first.run or line.run.name) if distilled else first.set
    return list(lines.values())


def _name_apart(lines: Sequence[_Line]) -> None:
    """Give different sets different names: by the sets beside them, their run, file or hash."""
    _name_beside(lines)
    short = {line.run.name for line in lines}
    unique = len(short) == len({line.run for line in lines})

    def run(line: _Line) -> str:
        return line.results[0].run or (line.run.name if unique else str(line.run))

    ways: tuple[Callable[[_Line], str], ...] = (
        run,
        lambda line: f"{run(line)}/{line.files[0].relative_to(line.run)}",
        lambda line: line.results[0].hashes[0][:8],
    )
    names = [line.results[0].set if line.own else line.name for line in lines]
    for way in ways:
        clashing = [n for n, line in enumerate(lines) if any(_clash(line, o) for o in lines)]
        for number in clashing:
            set_name = lines[number].results[0].set
            base = set_name if set_name == "distilled" else names[number]
            lines[number].name = f"{base} ({way(lines[number])})"


def _clash(line: _Line, other: _Line) -> bool:
    a, b = line.results[0], other.results[0]
    if line is other or (line.name, a.ipc) != (other.name, b.ipc):
        return False
    return a.conditions == b.conditions or (line.own and (line.run, a.run) != (other.run, b.run))


def _name_beside(lines: Sequence[_Line]) -> None:
    """A baseline that stands in a run with another of other class sizes names its sets."""
    names = {}
    for number, line in enumerate(lines):
        first = line.results[0]
        near = [
            each
            for each in lines
            if (each.run, each.results[0].run, each.results[0].ipc, each.results[0].conditions)
            == (line.run, first.run, first.ipc, first.conditions)
        ]
        alike = {e.results[0].counts for e in near if e.results[0].set == first.set}
        if not line.own and len(alike) > 1:
            sets = [e.name for e in near if e.own and e.results[0].counts == first.counts]
            beside = ", ".join(dict.fromkeys(sets)) or f"sets of class sizes {first.counts}"
            names[number] = f"{first.set} beside {beside}"
    for number, name in names.items():
        lines[number].name = name
