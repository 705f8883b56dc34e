"""Run folders with texts that would act on a page, and what a browser's parser finds there."""

import json
from html.parser import HTMLParser

import torch

from latentdc import config
from latentdc.prune.coreset import Coreset
from latentdc.prune.score_table import ScoreTable
from latentdc.results.result import save
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash
from tests.prune.toys import colours
from tests.results.toys import table

ATTACK = "</script><img src=//evil.example/x onerror=alert(1)>"
NAMES = (ATTACK, "n01440764")  # the second is a tench
RECIPE = {"name": ATTACK, "note": "=1+1", "weights": "/home/someone/secret/prior"}


def synthetic_set(count=2, side=8, **changes):
    """`count` images of each of two classes, the first of which is an attack."""
    draw = torch.Generator().manual_seed(0)
    shape = (2 * count, 3, side, side)
    fields = {
        "images": torch.randint(256, shape, generator=draw, dtype=torch.uint8),
        "labels": torch.arange(2 * count) % 2,
        "class_names": NAMES,
        "provenance": {"dataset": ATTACK, "method": "matching", "steps": 30, "seed": 0},
    }
    return SyntheticSet(**{**fields, **changes})


def run_folder(folder, synthetic=None, *, accuracies=(0.5, 0.75), steps=30, run=None):
    """What a run leaves: set, results, measures of its steps, recipe."""
    made = synthetic or synthetic_set()
    folder.mkdir(parents=True, exist_ok=True)
    made.save_pretrained(folder / "synthetic")
    digest = {"hashes": (set_hash(made),) * 2, "image_bytes": 900, "run": run}
    rows = {"distilled": (accuracies, (0.25, 0.5)), "random": ((0.25, 0.25), (0.25, 0.25))}
    random = {"image_bytes": 1200}
    everywhere = {"data": ATTACK, "machine": {"device": ATTACK, "latentdc": "0"}}
    changes = {"distilled": digest, "random": random, "all": everywhere}
    save(folder / "results.json", table(None, changes, **rows))
    lines = [{"step": step, "loss": 1 / (1 + step), "seconds": 0.5} for step in range(steps)]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 30, "lo')  # cut short by a kill
    (folder / "recipe.yaml").write_text(config.dump(RECIPE))
    return folder


def pruned_folder(folder, train=None):
    """What `latentdc prune` leaves of `colours`, scored by loss and aum."""
    train = train or colours(12, names=NAMES)
    folder.mkdir(parents=True, exist_ok=True)
    scores = {"loss": torch.arange(12.0), "aum": -torch.arange(12.0)}
    scored = ScoreTable(train.hashes, train.labels, train.class_names, scores, train.name)
    scored.save(folder / "scores.parquet")
    whole = Coreset.whole(train, "easy")
    few = {name: getattr(whole, name)[:4] for name in ("hashes", "scores", "labels")}
    Coreset(**few, **{**about(whole), "rule": "loss", "keep": 1 / 3}).save(
        folder / "coreset.parquet"
    )
    (folder / "recipe.yaml").write_text(config.dump(RECIPE))
    return folder


def about(coreset):
    return {name: getattr(coreset, name) for name in ("class_names", "order", "dataset")}


class Parsed(HTMLParser):
    """Tags with their attributes, all text, and the contents of style and script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.raw = [], [], {"style": [], "script": []}
        self.within = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.within = tag if tag in self.raw else None
        if self.within:
            self.raw[tag].append("")

    def handle_endtag(self, tag):
        self.within = None

    def handle_data(self, data):
        if self.within:
            self.raw[self.within][-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
