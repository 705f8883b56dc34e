"""Code of one's own that cannot be used, or fails at work: one line, and nothing is done before."""

import inspect
import sys

import pytest

from latentdc.distill import main as distill
from latentdc.synthetic import SyntheticSet
from tests.recipe.test_own import Pixels

CODE = f"""
import torch
from torch import nn

import latentdc


{inspect.getsource(Pixels)}"""
CODE += """

def helper(options):
    return options["nothing"]


def picked(context, size):
    train = context.train
    rows = torch.cat([(train.labels == k).nonzero()[: context.ipc, 0] for k in range(2)])
    images = torch.zeros(len(rows), 3, size, size, dtype=torch.uint8)
    return latentdc.SyntheticSet(images, train.labels[rows], train.class_names)


"""
FAILS = CODE[: CODE.index('options["nothing"]')].count("\n") + 1  # line
SMALL = [
    *("digits_ipc1", "data.resolution=8", "data.classes=['0','1']", "threads=1"),
    *("prior.kind=pixel", "prior.weights=null", "distill.steps=1", "distill.lr_c=0"),
    *("objective.network=convnet3@8", "evaluate.rows=[]"),
]
METHOD = ["method.kind=own_fails:mine", "prune.keep=1"]
RULE = ["prune.score=own_fails:mine", "prune.keep=0.5"]
PRIOR = ["prior.kind=own_fails:Mine", "prune.keep=1"]
GUIDE = ["method.kind=sampling", "prior.kind=diffusion", "prior.weights=digits", "prior.steps=2"]
GUIDE += ["data.resolution=16", "sampling.own=[{kind: own_fails:mine, scale: 1}]"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`distill` of a small run beside a module; what it tells at its end, and its code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))

    def run(code, *overrides):
        (tmp_path / "own_fails.py").write_text(CODE + code)
        with pytest.raises(SystemExit) as end:
            distill([*SMALL, *overrides, "output=run"])
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith("latentdc: error: ")
        return told[-1], end.value.code

    yield run
    sys.modules.pop("own_fails", None)


@pytest.mark.parametrize(
    ("code", "overrides", "told"),
    [
        ("def mine(): ...", METHOD, "(core set, prior, settings, context) -> SyntheticSet, got ()"),
        ("def mine(coreset, prior): ...", METHOD, "got (coreset, prior)."),
        ("class mine: ...", METHOD, "-> SyntheticSet, got ()"),
        (
            "def mine(coreset, prior: None, settings, context): return picked(context, 16)",
            METHOD,
            "samples of shape (3, 16, 16), and those of the data set are (3, 8, 8)",
        ),
        ("def mine(logits, labels): 1 / 0", RULE, "fails: ZeroDivisionError"),
        ("def mine(logits, labels): return logits", RULE, "of shape (64,), got (64, 2)"),
        ("def mine(logits): return logits[:, 0] / 0", RULE, "scores that are not finite"),
        ("def mine(features): return features.nothing", RULE, "fails: AttributeError"),
        ("def mine(features): return features[:, 0] * float('nan')", RULE, "not finite"),
        ("def mine(count): return torch.arange(count) + 5000", RULE, "whole numbers from 0 to 999"),
        ("def mine(count): return torch.rand(count)", RULE, "whole numbers from 0 to 999"),
        ("def mine(count, features): return features[:count]", RULE, "of shape (250,), got (250,"),
        (
            "class Mine(Pixels):\n    def condition(self, labels): return torch.zeros(len(labels))",
            PRIOR,
            "condition gives (2,) of 2 labels, and finite values of (2, D), (2, T, D) or more axes",
        ),
        (
            "class Mine(Pixels):\n    def decode(self, z, c, noise): return z * float('nan')",
            PRIOR,
            "decode gives values that are not finite of 2 images of 8 px",
        ),
        (
            "def mine(num_classes):\n    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n"
            "    return net.requires_grad_(False)",
            ["evaluate.students=[own_fails:mine]", "evaluate.rows=[distilled,random]"],
            "network=own_fails:mine has nothing to train: no gradient leads from its logits",
        ),
        (
            "def mine(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 2), nn.Softmax(dim=1))",
            ["evaluate.students=[own_fails:mine]", "evaluate.rows=[distilled,random]"],
            "network=own_fails:mine goes on after its last nn.Linear, such as by a softmax",
        ),
        ("def mine(scale): return scale", GUIDE, "made a float; it makes a latentdc.Guide"),
        (
            "def mine(): return 0 if torch.is_grad_enabled() else '0'",  # tried as it will run
            GUIDE,
            "made a str; it makes a latentdc.Guide",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_before_anything_is_scored(
    command, monkeypatch, code, overrides, told
):
    monkeypatch.setattr("latentdc.prune.score.ScorerTraining", None)
    line, exit_code = command(code, *overrides)
    assert told in line and exit_code == 2


def test_the_networks_of_teachers_are_tried_before_anything_is_scored(command, monkeypatch):
    monkeypatch.setattr("latentdc.prune.score.ScorerTraining", None)
    teachers = "'labels.teachers=[{network: own_fails:mine}]'"
    changes = f"[augment=null,labels.source=online,labels.loss=kl,{teachers}]"
    line, exit_code = command(
        "def mine(width): ...",
        "evaluate.rows=[distilled,random]",
        f"evaluate.changes={changes}",
    )
    assert "network=own_fails:mine" in line and "wants width" in line and exit_code == 2


@pytest.mark.parametrize(
    ("code", "overrides"),
    [
        ("def mine(coreset, prior: None, settings, context): return helper({})", METHOD),
        (
            "def mine(student, real, synthetic, label):\n"
            "    return synthetic.sum() if label == 0 else helper({})",
            ["objective.kind=own_fails:mine", "prune.keep=1"],
        ),
    ],
)
def test_what_fails_at_work_is_one_line_that_says_where(command, code, overrides):
    line, exit_code = command(code, *overrides)
    assert line == (
        f"latentdc: error: your own code fails (own_fails.py, line {FAILS}): KeyError: 'nothing' "
        "(LATENTDC_TRACEBACK=1 shows where)."
    )
    assert exit_code == 1


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        ("resolution", ["data.source=own_fails:mine", "data.classes=null"]),
        ("logits, labels", RULE),
        ("student, real, synthetic, label", ["objective.kind=own_fails:mine", "prune.keep=1"]),
        ("coreset, prior: None, settings, context", METHOD),
    ],
)
def test_own_code_that_exits_is_told_and_no_success(
    command, monkeypatch, arguments, overrides, traced
):
    if traced:
        monkeypatch.setenv("LATENTDC_TRACEBACK", "1")
    line, code = command(f"def mine({arguments}): sys.exit(0)\n\n\nimport sys", *overrides)
    at = CODE.count("\n") + 1
    assert f"your own code fails (own_fails.py, line {at}): SystemExit: 0" in line and code == 1


def test_conditions_of_ones_own_prior_need_no_axis_of_tokens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = (
        "class Tokenless(Pixels):\n"
        "    def condition(self, labels): return torch.ones(len(labels), 4)\n"
        "    def decode(self, z, c, noise): return z * c.mean(1)[:, None, None, None]"
    )
    (tmp_path / "own_tokenless.py").write_text(CODE + code)
    own = ["prior.kind=own_tokenless:Tokenless", "prune.keep=1", "distill.lr_c=0.1"]
    distill([*SMALL, *own, "output=run"])
    assert SyntheticSet.from_pretrained("run/synthetic").c.shape == (2, 4)


def test_what_latentdc_fails_at_below_own_code_is_not_told_as_its_fault(command, monkeypatch):
    def broken(*_):
        exec("1 / 0", {"__name__": "latentdc.draws"})

    monkeypatch.setattr("latentdc.draws.key_seed", broken)
    code = (
        "def mine(coreset, prior: None, settings, context):\n"
        "    import latentdc.draws\n    return latentdc.draws.key_seed(0)"
    )
    with pytest.raises(ZeroDivisionError):
        command(code, *METHOD)


def test_a_name_that_its_module_lacks_is_told_with_its_own_names(command):
    code = "from torch import *\n\n\ndef splits(resolution): ..."
    line, exit_code = command(code, "data.source=own_fails:spilts", "data.classes=null")
    told = "own_fails has no spilts; it has Pixels, helper, picked, splits; did you mean 'splits'?"
    assert told in line and exit_code == 2


def test_a_fault_of_latentdc_itself_keeps_its_traceback(command, monkeypatch):
    def broken(*_, **__):
        raise AssertionError("ours")

    monkeypatch.setattr("latentdc.methods.selection.check_call", broken)
    with pytest.raises(AssertionError, match="ours"):
        command("", "method.kind=selection", "prune.keep=1")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("context.on_step(3)", "what on_step is told is a Mapping, got 3"),
        ("context.on_step({'loss': 1.0})", "step of what on_step is told is a whole number"),
        ("context.on_step({'step': 0, 'loss': print})", "what on_step is told maps texts to"),
        ("context.save_state(3)", "state is a State, got 3"),
    ],
)
def test_what_a_method_tells_of_a_step_is_checked(command, line, told):
    code = f"def mine(coreset, prior, settings, context):\n    {line}\n"
    said, status = command(code, *METHOD)
    assert told in said and status == 2


def test_a_method_tells_numbers_of_torch_as_they_are(command, tmp_path):
    step = "{'step': torch.tensor(0), 'loss': torch.tensor([0.5])}"
    command(f"def mine(coreset, prior, settings, context):\n    context.on_step({step})\n", *METHOD)
    assert (tmp_path / "run/metrics.jsonl").read_text() == '{"step": 0, "loss": 0.5}\n'
