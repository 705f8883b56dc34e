"""Every draw of a method, a choice or a training follows its seed, under keys of its own."""

from collections import Counter

import pytest
import torch
from accelerate import Accelerator

from latentdc import clusters, draws, training
from latentdc.distill import main as distill
from latentdc.draws import key_seed
from latentdc.evaluate.training import train_student
from latentdc.experts.training import ExpertTraining
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.methods.mosaics import mosaic
from latentdc.methods.rded import rded
from latentdc.methods.sampling import sampling
from latentdc.methods.selection import selection
from latentdc.networks.build import build_network
from latentdc.objectives.build import build_objective
from latentdc.preprocessing import Normalization
from latentdc.priors.pixel import PixelPrior
from latentdc.prune import score
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import prune_dataset
from latentdc.prune.scorers import Classifier
from latentdc.recipe import (
    Denoising,
    Experts,
    Loops,
    Matching,
    Mosaic,
    ObjectiveSettings,
    Prune,
    Rded,
    RuleSettings,
    Sampling,
    Scorer,
    Selection,
    Trajectory,
)
from latentdc.recipe.labels import Views
from latentdc.synthetic import SyntheticSet
from tests.evaluate.toys import protocol, setting, stripes
from tests.methods import setup
from tests.methods.test_sampling import CENTRES, EVERY, MODE
from tests.priors import small
from tests.prune.toys import colours

SEED, PLAIN = 7, Normalization()
GAUSSIAN = {"anchors": {"kind": "gaussian", "inverted": 4}, "start": "anchors", "eta": 0}
GUIDES = {name: options for guide in EVERY.values() for name, options in guide.items()}
CHOICES = {name: {"select": {"kind": name, "groups": 2}} for name in ("random", "moments")}
KINDS = ("dm", "dc", "dc loops", "mtt", "denoise")
# One draw for several steps or choices.
AGAIN = ("classes", "lap", "subsets", "denoise noise", "k-means", "prune")


def network(classes=3):
    """Of weights that no key knows."""
    torch.manual_seed(0)
    return build_network("convnet3@4", num_classes=classes, resolution=8)


class Ready:
    """Two experts of weights at hand."""

    count, known = 2, [dict(network().named_parameters()) for _ in range(4)]

    def weights(self, expert, epoch):
        return {name: w.detach() + epoch / 100 for name, w in self.known[expert].items()}


def context(data, **parts):
    return Context(ipc=2, seed=SEED, train=data, **parts)


def matching(kind):
    prior, data = small.prior(steps=4), setup.dataset()
    made = build_objective(
        ObjectiveSettings(
            kind=kind.split()[0],
            network="convnet3@4",
            batch=4,
            loops=Loops(outer=3 if "loops" in kind else 1, inner=2, batch_syn=4),
            trajectory=Trajectory(syn_steps=3, batch_syn=4, max_start_epoch=2),
            denoise=Denoising(share=0.75),
        ),
        num_classes=3,
        resolution=8,
        experts=Ready() if kind == "mtt" else None,
        prior=prior,
        class_names=data.class_names,
        seed=SEED,
    )
    settings = Matching(steps=4, lr_z=0.1, classes_per_step=2 if kind == "dm" else None)
    return lambda: match(data, PixelPrior(8), made, settings, context(data))


def sampled(**settings):
    data, prior, one = setup.dataset(), small.prior(steps=4), Classifier(network(), torch.tanh)
    parts = {
        "classifier": lambda: (one.eval().requires_grad_(False), 1.0),
        "snapshots": lambda real, epochs: [
            Classifier(network(), torch.tanh).eval() for _ in epochs
        ],
        "student": lambda few: one.eval(),
        "open_set": lambda name: SyntheticSet.from_real(data),
    }
    core = Coreset.whole(data, "easy")
    return lambda: sampling(core, prior, Sampling(**settings), context(data, **parts))


def of_real(method, settings):
    data, one = stripes(60), Classifier(network(), torch.tanh).eval()
    around, core = context(data, classifier=lambda: (one, 1.0)), Coreset.whole(data, "easy")
    return lambda: method(core, None, settings, around)


def student(**changes):
    seen = Views(
        crop=(0.5, 1.0), flip=True, pad=1, jitter=0.1, lighting=0.1, shuffle=2, cutout=True,
        randaugment=(2, 9), mix="cutmix",
    )  # fmt: skip
    views = {} if "infobatch" in changes else {"views": seen}
    chosen = protocol(steps=9, batch=4, augment="color_crop", **views, **changes)
    data = SyntheticSet.from_real(stripes(12))
    return lambda: train_student(data, "convnet3@4", chosen, setting(), seed=SEED)


def experts():
    settings = Experts(epochs=2, batch=4, augment="color_crop")
    made = ExpertTraining(stripes(12), settings, "convnet3@4", PLAIN, SEED, Accelerator())
    return lambda: [made.train(0), made.train(1)]


def pruned(rule, *columns):
    scorer = Scorer(network="convnet3@16", epochs=2, lr=0.03, batch=8, runs=2)
    asked = Prune(
        score=rule, keep=0.25, columns=list(columns), scorer=scorer, rules=RuleSettings(subsets=2)
    )
    data = colours(32)
    return lambda: prune_dataset(data, asked, seed=SEED)


CASES = {
    **{kind: lambda kind=kind: matching(kind) for kind in KINDS},
    "guides": lambda: sampled(**{**GUIDES, **MODE, "batch": 2}),
    "gaussian": lambda: sampled(**GAUSSIAN),
    "anchors": lambda: sampled(anchors=CENTRES, start="anchors", strength=0.5, weights=True),
    **{name: lambda choice=choice: sampled(**choice) for name, choice in CHOICES.items()},
    "gaussian groups": lambda: sampled(**GAUSSIAN, **CHOICES["moments"]),
    "rded": lambda: of_real(rded, Rded(grid=2, pool=9, crops=2)),
    "mosaic": lambda: of_real(mosaic, Mosaic(grid=2, order="random")),
    "selection": lambda: of_real(selection, Selection(select={"kind": "random"})),
    "student": student,
    "student of parts": lambda: student(subset=0.5),
    "student under infobatch": lambda: student(infobatch=0.5),
    "experts": experts,
    "pruning": lambda: pruned("s3", "random", "memorization", "prototypes"),
    "pruning by ccs": lambda: pruned("ccs"),
}


@pytest.fixture
def asked(monkeypatch):
    """Seed and keys of every draw."""
    found = []

    def noting(seed, *keys):
        found.append((int(seed), *keys))
        return key_seed(seed, *keys)

    for module in (draws, training, clusters):
        monkeypatch.setattr(module, "key_seed", noting)
    return found


def of_results(asked):
    """The draws without those of checks, all of the seed or of a scorer's repeated trainings."""
    drawn = [one for one in asked if one[1:] and one[1] not in ("try", "teacher check")]
    runs = [one for one in drawn if one[1] == "scorer" and isinstance(one[-1], str)]
    assert drawn and {seed for seed, *_ in drawn} <= {SEED, *(key_seed(*one) for one in runs)}
    return drawn


@pytest.mark.parametrize("case", CASES)
def test_every_draw_follows_the_seed_under_keys_of_its_own(case, asked, monkeypatch):
    run = CASES[case]()
    asked.clear()
    monkeypatch.setattr(score, "refuse_chance", lambda *_: None)  # of scorers of two epochs
    run()
    twice = [one for one, count in Counter(of_results(asked)).items() if count > 1]
    assert [one for one in twice if one[1] not in AGAIN] == []


@pytest.mark.parametrize(
    "words",
    [
        ["methods/igd_digits", "prior.steps=3", "sampling.influence.network=convnet3@2",
         "sampling.influence.epochs=[0, 1]", "sampling.influence.window=[1, 2]",
         "sampling.influence.real=4", "sampling.deviation.scale=0", "prune.score=random",
         "prune.keep=0.5", "sampling.select.kind=confidence", "sampling.select.groups=2",
         "prune.scorer.network=convnet3@4", "prune.scorer.epochs=2"],
        ["digits_ipc1", "distill.steps=1", "prior.steps=2", "objective.network=convnet3@2"],
    ],
)  # fmt: skip
def test_every_draw_of_a_run_follows_the_seed_of_its_recipe(words, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["data.classes=['0', '1']", "data.resolution=16", "ipc=1", "evaluate.rows=[]"]
    distill([*words, *tiny, f"seed={SEED}", "output=one", "threads=1"])
    known = {one[1] for one in of_results(asked)}
    wanted = {"real", "start", "noise"}
    if "igd" in words[0]:
        wanted = {"prune", "scorer", "expert", "influence", "sample", "ancestral"}
    assert known >= wanted
