"""The page itself: what is said first, tables with their bars, charts, and the HTML of it all."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from statistics import fmean

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from latentdc import __version__, config, io
from latentdc.data.dataset import Dataset
from latentdc.errors import InputError, counted
from latentdc.plain_text import in_page
from latentdc.published import published
from latentdc.ranks import say
from latentdc.recipe import BASELINES
from latentdc.recipe.rules import RULES
from latentdc.report.charts import Chart, histogram, shown
from latentdc.report.curves import accuracy_charts, step_charts
from latentdc.report.images import Album, Gallery, ends_of_ranking, synthetic_images
from latentdc.report.runs import Run, of_same_set, open_runs
from latentdc.results import comparison
from latentdc.results.means import by_seed, deviation, plus_minus

NAME = "report.html"  # in a run folder
LARGEST = 20 * 2**20  # bytes of a page
ROOMS = (9 * 2**20, 2 * 2**20, 0)  # for images; less where the rest is large
_SETS = 40  # of a sweep, whose images and recipes are shown


def written(folder: Path) -> Path | str:
    """The page of a run in its folder; or where what lies there cannot be told of, why."""
    try:
        return write(folder / NAME, [folder])
    except InputError as error:
        return f"none, for {error}"


def write(
    path: Path,
    given: Sequence[str | Path],
    *,
    real: Callable[[], Dataset] | None = None,
    against: str | None = None,
    value: str = "accuracy",
    frame: pd.DataFrame | None = None,
    begun: str | None = None,
) -> Path:
    """Write the page of runs, whole or not at all; returns its path.

    Args:
        path: of the file.
        given: folders of runs, sweeps, prunings or evaluations, or files of results.
        real: opens the training images to show, once all else is read; None shows none.
        against: set from which the others are subtracted; None takes the random row, or where there
            is none the first set.
        value: `accuracy` or `top5`.
        frame: of `read_runs`, in place of the results there; one of sets of one name and size.
        begun: the command that made all of it; None tells that of each run.

    Raises:
        InputError: a place that holds nothing to report, a damaged file, no set of that name, or no
            top-5 accuracies.
    """
    runs, frame = open_runs(given, frame)
    if frame is not None:
        comparison.require_choices(frame, against, value)
    images = None if real is None else real()
    if images is not None and (others := [one.name for one in runs if not _is_of(one, images)]):
        say("note", f"no real images beside {', '.join(others)}, made of others than {images.name}")
    several = counted(len(runs) or len(given), "run")
    title = Path(given[0]).expanduser().resolve().name if len(given) == 1 else several
    for room in ROOMS:
        text = _html(title, runs, frame, Album(room), images, against, value, begun)
        if len(text.encode()) <= LARGEST:
            break
    io.write_text(path, text)
    return path


def _html(
    title: str,
    runs: Sequence[Run],
    frame: pd.DataFrame | None,
    album: Album,
    real: Dataset | None,
    against: str | None,
    value: str,
    begun: str | None,
) -> str:
    """The page, whose style and script are named by their hashes."""
    if against is None and frame is not None and "random" in set(frame["name"]):
        against = "random"
    note, found = (None, []) if frame is None else comparison.tables(frame, against, value)
    folder = files("latentdc.report")
    style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    return _template().render(
        title=title,
        version=__version__,
        policy=_policy(style, script),
        style=Markup(style),  # our own files, and nothing else
        script=Markup(script),
        lines=_in_short(runs, frame, value),
        galleries=_galleries(runs, frame, album, real, value),
        note=note,
        tables=[shown(table) for table in found],
        accuracy=[] if frame is None else accuracy_charts(runs, frame, value),
        curves=step_charts(runs),
        pruning=[_pruning(run, album, real) for run in runs if run.scores][:_SETS],
        protocols=[] if frame is None else _protocols(frame),
        machines=[] if frame is None else _machines(frame),
        provenance=list(_provenance(runs))[: 2 * _SETS],
        recipes=[(run.name, run.recipe) for run in runs if run.recipe][:_SETS],
        begun=[begun] if begun else list(_begun(runs))[:_SETS],
        commands=_commands(runs),
        data=_data(frame),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("latentdc.report", ""),
        autoescape=True,
        finalize=in_page,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def _policy(style: str, script: str) -> str:
    """Forbids everything but the page's own style and script and images inside of it."""

    def named(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {named(style)}; "
        f"script-src {named(script)}; base-uri 'none'; form-action 'none'"
    )


# ---- What was done, in a few lines ----


def _in_short(runs: Sequence[Run], frame: pd.DataFrame | None, value: str) -> list[str]:
    made = [run for run in runs if run.synthetic is not None]
    lines = [] if len(made) != 1 else list(_of_one(made[0]))
    if len(made) > 1:
        sources = dict.fromkeys(str(run.provenance.get("dataset")) for run in made)
        lines.append(f"{len(made)} synthetic sets of {', '.join(sources)}.")
    if not made:
        lines += [_of_pruning(run) for run in runs if run.coreset is not None]
        lines += [_of_training(run) for run in runs if run.metrics and run.coreset is None]
    if frame is None:
        return lines
    groups = [group for _, group in comparison.groups_of(frame, value)]
    for student in groups[0]["student"].unique()[:2] if groups else ():
        lines.append(_best(groups[0], student, value, named=len(made) > 1))
    lines.append(_cost(frame))
    first, *others = [line for line, _ in _protocols(frame)]
    more = f"; {len(others)} more below, under which numbers do not compare" if others else ""
    return [*lines, f"Protocol {first}{more}."]


def _of_one(run: Run) -> Iterator[str]:
    """What the set is, and how it was made."""
    synthetic, facts = run.synthetic, run.provenance
    assert synthetic is not None
    least, most = min(run.counts), max(run.counts)
    size = synthetic.images.shape[-1]
    what = f"images of {size} x {size} pixels"
    if synthetic.kind == "vectors":
        what = f"feature vectors of {size} values"
    each = f"{least}" if least == most else f"{least} to {most}"
    yield (
        f"{sum(run.counts):,} {what}, {each} in each of {counted(len(run.counts), 'class')}, in "
        f"place of the training images of {facts.get('dataset', 'a data set')}."
    )
    many = facts.get("steps")
    steps = f", {counted(many, 'step')}" if isinstance(many, int) else ""
    parts = {
        "objective": "objective {}",
        "network": "network {}",
        "prior": "prior {}",
        "weights": "weights {}",
    }
    known = [text.format(facts[key]) for key, text in parts.items() if facts.get(key) is not None]
    core = ""
    if isinstance(facts.get("core_set"), int) and facts.get("rule") not in (None, "all"):
        core = f", from {facts['core_set']:,} real images chosen by {facts['rule']}"
        core += f" ({facts['order']})" if facts.get("order") else ""
    method = facts.get("method", "an unknown method")
    yield f"Made by {method}{steps}{': ' if known else ''}{', '.join(known)}{core}."


def _of_pruning(run: Run) -> str:
    assert run.coreset is not None
    of = "" if run.scores is None else f" of {len(run.scores):,}"
    classes = counted(len(run.coreset.class_names), "class")
    return (
        f"{len(run.coreset):,}{of} images of {published(run.coreset.dataset)} in {classes} "
        f"kept by {run.coreset.by}."
    )


def _of_training(run: Run) -> str:
    seconds = f", {run.seconds:,.0f} seconds" if run.seconds else ""
    return f"{run.name}: a training, told of up to step {run.metrics[-1]['step']:,}{seconds}."


def _best(group: pd.DataFrame, student: str, value: str, *, named: bool) -> str:
    """The set with the highest mean, by its name where there are several, and the random one."""
    means, randoms = [], {}
    for line in comparison.lines_of(group):
        values = by_seed(line, [student], value)
        if values and line["set"].iloc[0] not in BASELINES:
            means.append((fmean(values), values, line))
        if values and line["set"].iloc[0] == "random":
            randoms[line["ipc"].iloc[0]] = (values, line)
    if not means:
        return f"{student}: no set but real images was scored."
    mean, values, line = max(means, key=lambda one: one[0])
    name, random = line["name"].iloc[0], randoms.get(line["ipc"].iloc[0])
    what = "top-5 test accuracy" if value == "top5" else "test accuracy"
    rank = f"highest mean {what} of {len(means)} sets" if len(means) > 1 else f"{what} of"
    text = f"{student}: {rank} {plus_minus(mean, deviation(values))} %"
    text += f" ({name})" if named else ""
    if random is None:
        return f"{text}."
    text += (
        f", of as many random real images {plus_minus(fmean(random[0]), deviation(random[0]))} %"
    )
    pair = comparison.paired_difference(line, random[1], [student], value)
    if pair is None:
        return f"{text}."
    return f"{text}: {plus_minus(pair.mean, pair.error, '+')} points, paired by seed."


def _cost(frame: pd.DataFrame) -> str:
    own = frame[~frame["set"].isin(BASELINES)]
    parts = []
    for column, unit in (("bytes", "bytes"), ("seconds", "seconds of distillation")):
        known = own[column].dropna()
        if not known.empty:
            low, high = known.min(), known.max()
            span = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
            parts.append(f"{span} {unit.replace('seconds', 'second') if span == '1' else unit}")
    known = frame["machine.device"].dropna() if "machine.device" in frame else ()
    devices = ", ".join(dict.fromkeys(map(str, known)))
    return f"Cost: {'; '.join(parts) or 'not recorded'}{f', on {devices}' if devices else ''}."


# ---- Images and pruning ----


def _galleries(
    runs: Sequence[Run],
    frame: pd.DataFrame | None,
    album: Album,
    real: Dataset | None,
    value: str,
) -> list[Gallery]:
    made = [run for run in runs if run.synthetic is not None][:_SETS]
    found = []
    for run in made:
        assert run.synthetic is not None
        title = run.name
        if len(made) > 1 and frame is not None:
            own = frame[of_same_set(frame, run) & frame[value].notna()]
            scored = own.groupby("student", sort=False)[value].mean().items()
            title += "".join(f", {student} {100 * mean:.1f} %" for student, mean in scored)
        near = real if real is not None and _is_of(run, real) else None
        found.append(
            synthetic_images(title, run.synthetic, run.counts, album, near, strip=len(made) > 1)
        )
    return [gallery for gallery in found if gallery is not None]


def _is_of(run: Run, real: Dataset) -> bool:
    """Whether a run is of these training images, as far as its set and core set tell."""
    made = run.provenance.get("made")
    told = made.get("data_hash") if isinstance(made, Mapping) else None
    kept = None if run.coreset is None else run.coreset.data_hash
    return told in (None, real.hash) and kept in (None, real.hash)


@dataclass(frozen=True)
class _Pruning:
    name: str
    charts: Sequence[Chart]
    galleries: Sequence[Gallery]


def _pruning(run: Run, album: Album, real: Dataset | None) -> _Pruning:
    """Histograms of all scores, the rule's that chose first, and with real images its two ends."""
    table, coreset = run.scores, run.coreset
    assert table is not None
    kept = set() if coreset is None else set(coreset.hashes.tolist())
    chosen = pd.Series(table.hashes.tolist()).isin(kept).to_numpy()
    own = None if coreset is None else coreset.rule
    rules = sorted((name for name in table.columns if name in RULES), key=lambda name: name != own)
    charts, galleries = [], []
    for rule in rules:
        values = table.columns[rule].double().numpy()
        if pd.notna(values).all():
            title = f"{rule}: {RULES[rule].hard} is hard"
            charts.append(histogram(rule, values, chosen, title=title))
    if real is not None and real.kind == "images" and rules and _is_of(run, real):
        galleries = ends_of_ranking(rules[0], table, real, album)
    return _Pruning(run.name, charts, galleries)


# ---- Facts ----


def _protocols(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """A line on each protocol, and all of its settings as YAML."""
    found = {}
    for _, group in frame.groupby(["protocol_hash", "test"], sort=False):
        first, settings = group.iloc[0], json.loads(group["settings"].iloc[0])
        seeds = int(group.groupby(["result"])["seed"].nunique().max())
        labels = " and ".join(dict.fromkeys(group["labels"]))
        line = (
            f"{first['protocol']} ({first['protocol_hash']}): "
            f"{counted(int(first['steps']), 'step')}, {counted(seeds, 'seed')}, {labels} labels, "
            f"test set {published(first['data'] or '')} ({first['test']})"
        )
        seen = json.loads(first["preprocessing"])
        found[line] = config.dump(published({**settings, "preprocessing": seen}))
    return list(found.items())


def _machines(frame: pd.DataFrame) -> list[Mapping[str, str]]:
    """Versions and hardware of all trainings, each combination once."""
    columns = [name for name in frame.columns if name.startswith("machine.")]
    alike = frame[columns].drop_duplicates()
    alike.columns = [name.removeprefix("machine.") for name in columns]
    return [
        {key: str(value) for key, value in one.items() if not pd.isna(value)}
        for one in alike.to_dict("records")
    ]


def _provenance(runs: Sequence[Run]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What is known of the making of sets and scores."""
    for run in runs:
        if run.provenance:
            yield f"Provenance of {run.name}", _facts(run.provenance)
        if run.scores is not None and run.scores.facts:
            yield f"Scores of {run.name}", _facts(run.scores.facts)


def _facts(provenance: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (key, config.dump(value).strip() if isinstance(value, dict | list) else str(value))
        for key, value in published(provenance).items()
        if value is not None
    ]


def _begun(runs: Sequence[Run]) -> Iterator[str]:
    """The command line of each run that keeps it."""
    for run in runs:
        made = run.provenance.get("made")
        if isinstance(made, dict) and isinstance(made.get("command"), str):
            yield published(made["command"])


def _commands(runs: Sequence[Run]) -> list[str]:
    """What repeats a run whose recipe is saved; there is none for a training."""
    made = [run for run in runs if run.synthetic is not None and run.recipe]
    if made:
        return [
            "latentdc distill recipe.yaml output=runs/again",
            "latentdc compare results.json runs/again",
        ]
    if any(run.recipe and run.coreset is not None for run in runs):
        return ["latentdc prune recipe.yaml output=runs/again"]
    return []


def _data(frame: pd.DataFrame | None) -> Mapping[str, object] | None:
    """All results, to be read out of the page; None where they would fill it."""
    if frame is None or len(frame) > 5000:
        return None
    plain = frame.drop(columns=["origin", "settings", "result"])
    plain = plain.assign(data=[published(name) for name in plain["data"]])
    rows: Mapping[str, object] = json.loads(plain.to_json(orient="split", index=False))
    return rows
