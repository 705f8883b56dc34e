"""Malformed recipes, sweeps and protocols: each ends with code 2 and one line, at once."""

import os
import random
import time
from pathlib import Path

import pytest

from latentdc import cli, config
from latentdc.errors import InputError
from latentdc.recipe import Data, Hub, Matching, Prune, Recipe, Scorer
from latentdc.recipe.prior_training import PriorRecipe
from latentdc.sweep.spec import Sweep
from tests.synthetic.sets import random_set

SECRET = "hf_secret_in_the_environment"
BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
TEN = f"{{{', '.join(f'n{n}: []' for n in range(10))}}}"
LONG_BOMB = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]"

TEXTS = [  # of a recipe's file, and what is said of it
    # nothing, or no mapping
    ("", "it is empty; write keys and values"),
    ("\n\n", "it is empty"),
    ("# a comment alone\n", "it is empty"),
    ("---\n", "it is empty"),
    ("null", "it is empty"),
    ("~", "it is empty"),
    ("- ipc", "it holds a list; a recipe is a mapping"),
    ("just words", "it holds 'just words'; a recipe is a mapping"),
    ("42", "it holds '42'"),
    ('"ipc: 1"', "it holds 'ipc: 1'"),
    # no YAML
    ("ipc: [1", "line 2: "),
    ("ipc: 1\n}", "line 2: "),
    ("ipc: 'a", "line "),
    ("ipc: 1: 2", "line 1: "),
    ("\tipc: 1", "line 1: found character that cannot start any token"),
    ("data:\n\tsource: digits", "line 2: found character"),
    ("a: b\n c: d\n", "line 2: "),
    ("ipc: @x", "line 1: found character"),
    ("ipc: `x`", "line 1: found character"),
    ("%YAML 9.9\n---\nipc: 1", "line "),
    ("ipc: 1\n---\nipc: 2", "line 2: a second document begins; keep one"),
    ("ipc: *nowhere", "*nowhere stands for nothing"),
    # keys
    ("ipc: 1\nseed: 2\nipc: 3", "line 3: found duplicate key ipc"),
    ("data: {source: x, source: y}", "found duplicate key source"),
    ("ipc: 1\n'ipc': 3", "line 2: found duplicate key ipc"),
    ("? [a, b]\n: 1", "a key is text"),
    ("? {a: b}\n: 1", "a key is text"),
    ("null: 1", "a key is text, and this one is null"),
    ("? \n: 1", "a key is text, and this one is null"),
    ("010: 1", "unknown key '010'"),
    ("pcr: 1", "unknown key 'pcr'; did you mean 'ipc'?"),
    ("data: {sorce: x}", "did you mean 'data.source'?"),
    ("<<: {ipc: 3}", "merging mappings by '<<' is not read; write their keys"),
    ("data: &a {source: x}\nprior: {<<: *a}", "merging mappings by '<<' is not read"),
    (
        "objective.kind: dm",
        "in a file and in braces write objective: {kind: ...}.",
    ),
    ("prune: {scorer.lr: 1}", "write scorer: {lr: ...}."),
    ("prune.scorer.lr: 1", "write prune: {scorer: {lr: ...}}."),
    ("ipc:3", "it holds 'ipc:3'; a recipe is a mapping of keys to values, `key: value`"),
    (f"{'k' * 5000}: 1", "line 1: "),
    (f"? {'k' * 5000}\n: 1", "unknown key 'kkk"),
    ("'a\\0b': 1", "unknown key"),
    # tags
    ("!!python/object/apply:os.system [ls]", "line 1: tag tag:yaml.org,2002:python/object"),
    ("output: !!python/name:os.environ", "write the value without a tag"),
    ("output: !!python/object/apply:pathlib.Path [x]", "write the value without a tag"),
    ("output: !!binary aGVsbG8=", "write the value without a tag"),
    ("trackers: !!set {a, b}", "write the value without a tag"),
    ("seed: !!str 1", "write the value without a tag"),
    ("seed: !own 1", "tag !own"),
    ("ipc: !!int '010'", "write the value without a tag"),
    ("!!omap [ipc: 1]", "write the value without a tag"),
    # interpolation, in any place and spelling
    ("output: ${oc.env:HF_TOKEN}", "line 1: '${' would be an interpolation"),
    ("output: '${oc.env:HF_TOKEN}'", "'${' would be an interpolation"),
    ('output: "$\\u007boc.env:HF_TOKEN}"', "'${' would be an interpolation"),
    ('output: "\\x24{oc.env:HF_TOKEN}"', "'${' would be an interpolation"),
    ("output: a ${oc.env:HF_TOKEN} b", "'${' would be an interpolation"),
    ("output: >-\n  ${oc.env:HF_TOKEN}", "'${' would be an interpolation"),
    ("output: \\${oc.env:HF_TOKEN}", "'${' would be an interpolation"),
    ("output: ${oc.decode:'1'}", "'${' would be an interpolation"),
    ("output: ${.seed}", "'${' would be an interpolation"),
    ("output: ${seed", "'${' would be an interpolation"),
    ("seed: ${ipc}", "'${' would be an interpolation"),
    ("trackers: [a, '${ipc}']", "'${' would be an interpolation"),
    ("prior: {names: {'${oc.env:HF_TOKEN}': x}}", "'${' would be an interpolation"),
    ("prior: {prompt: 'a {} of ${oc.env:HF_TOKEN}'}", "'${' would be an interpolation"),
    ("${oc.env:HF_TOKEN}: 1", "'${' would be an interpolation"),
    # the mark of a missing value
    ("output: ???", "output is ???, which stands for a missing value"),
    ("seed: ???", "seed takes a whole number, got '???'"),
    ("data: ???", "data takes a mapping"),
    ("trackers: ['???']", "trackers is ???"),
    # whole numbers
    ("ipc: 010", "ipc takes a whole number, got 010. Write numbers in digits"),
    ("ipc: 1:30", "ipc takes a whole number, got 1:30."),
    ("ipc: 1_000", "ipc takes a whole number, got 1_000."),
    ("ipc: 0x10", "ipc takes a whole number, got 0x10."),
    ("ipc: 0b11", "ipc takes a whole number, got 0b11."),
    ("ipc: 0o17", "ipc takes a whole number, got 0o17."),
    ("ipc: 1,000", "ipc takes a whole number, got 1,000."),
    ("ipc: 1e3", "ipc takes a whole number, got 1e3."),
    ("ipc: 1.0", "ipc takes a whole number, got 1.0."),
    ("ipc: '10'", "ipc takes a whole number, got '10'. Write it without quotes."),
    ("ipc: '1e1'", "ipc takes a whole number, got '1e1'.\n"),
    ("distill: {lr_z: '1e-3'}", "got '1e-3'. Write it without quotes."),
    ("ipc: true", "ipc takes a whole number, got true."),
    ("ipc: yes", "ipc takes a whole number, got 'yes'."),
    ("ipc: null", "ipc takes a whole number, got null."),
    ("ipc:", "ipc takes a whole number, got null."),
    ("ipc: [1]", "ipc takes a whole number, got [1]."),
    ("ipc: {a: 1}", "ipc takes a whole number, got {'a': 1}."),
    ("ipc: 2020-01-01", "ipc takes a whole number, got 2020-01-01."),
    ("ipc: \uff12", "ipc takes a whole number"),
    ("ipc: 1 000", "ipc takes a whole number"),
    ("ipc: 3\u00a0", "ipc takes a whole number, got '3\\xa0'."),
    ("ipc: 1\u200b0", "ipc takes a whole number, got '1\\u200b0'."),
    ("ipc: .nan", "ipc takes a whole number"),
    ("ipc: 0", "ipc is at least 1"),
    ("ipc: -1", "ipc is at least 1"),
    ("ipc: 1000000000", "ipc is at most 1,000,000, got 1000000000"),
    (f"ipc: {'9' * 5000}", "ipc is at most 1,000,000, got 999"),
    ("seed: -1", "seed is at least 0, got -1"),
    ("seed: 9223372036854775808", "seed is at most 9,223,372,036,854,775,807"),
    ("seed: false", "seed takes a whole number, got false."),
    ("distill: {steps: 1e23}", "distill.steps takes a whole number, got 1e23."),
    (f"distill: {{steps: 1{'0' * 23}}}", "distill.steps is at most 1,000,000,000"),
    ("data: {resolution: 1000000}", "data.resolution is at most 16,384"),
    ("evaluate: {seeds: 1000000}", "evaluate.seeds is at most 10,000"),
    ("evaluate: {students: [convnet3@1000000000]}", "base width after '@'"),
    (f"evaluate: {{students: [convnet3@{'9' * 5000}]}}", "base width after '@'"),
    ("threads: 100000", "threads is at most 10,000"),
    ("experts: {count: 100000000}", "experts.count is at most 100,000"),
    ("prune: {window: [1, 2, 3]}", "prune.window takes a list of 2 whole numbers or null"),
    ("prune: {window: [1, 010]}", "prune.window takes a list of 2 whole numbers or null"),
    # numbers
    ("data: {mean: [.nan, 0.5, 0.5]}", "data.mean is a finite number"),
    ("data: {mean: [0.5, .inf, 0.5]}", "data.mean is a finite number"),
    ("data: {std: [nan, 0.5, 0.5]}", "data.std is a finite number"),
    ("data: {std: [0.2, 0.2, -.inf]}", "data.std is a finite number"),
    ("data: {mean: [123.7, 116.3, 103.5]}", "data.mean is of images in [0, 1]"),
    ("data: {std: [58.4, 57.1, 57.4]}", "divide one of levels by 255"),
    ("data: {std: [1e-300, 0.2, 0.2]}", "at least 1e-4"),
    ("data: {std: [0.2, 0.2, 0]}", "data.std must be positive"),
    ("distill: {lr_z: .nan}", "distill.lr_z is a finite number"),
    ("distill: {lr_c: 1e999}", "distill.lr_c is a finite number"),
    ("distill: {lr_z: -.INF}", "distill.lr_z is a finite number"),
    ("distill: {momentum: NaN}", "distill.momentum is a finite number"),
    ("distill: {lr_z: 1:30}", "distill.lr_z takes a number or 'auto', got 1:30."),
    ("distill: {lr_z: 0_1.5}", "distill.lr_z takes a number or 'auto', got 0_1.5."),
    ("distill: {lr_z: 010}", "distill.lr_z takes a number or 'auto', got 010."),
    ("distill: {lr_z: true}", "distill.lr_z takes a number or 'auto', got true."),
    ("distill: {lr_z: 1+2j}", "distill.lr_z takes a number"),
    ("distill: {lr_z: 1/3}", "distill.lr_z takes a number"),
    ("distill: {lr_z: 50%}", "distill.lr_z takes a number"),
    ("prune: {keep: .nan}", "prune.keep is a finite number"),
    ("prune: {keep: 20}", "for 20 % write 0.2"),
    ("prune: {scorer: {lr: .inf}}", "prune.scorer.lr is a finite number"),
    ("prune: {rules: {gamma: .inf}}", "prune.rules.gamma is a finite number"),
    ("prior: {guidance: .inf}", "prior.guidance is a finite number"),
    ("experts: {lr: .inf}", "experts.lr is a finite number"),
    ("objective: {loops: {lr_student: .inf}}", "objective.loops.lr_student is a finite number"),
    ("objective: {trajectory: {lr_lr: .nan}}", "objective.trajectory.lr_lr is a finite number"),
    ("rded: {scale: [.nan, 1]}", "rded.scale is a finite number"),
    # flags, choices, lists, text
    ("data: {zca: 1}", "data.zca takes true or false, got 1."),
    ("data: {zca: 'true'}", "data.zca takes true or false, got 'true'."),
    ("push: {private: maybe}", "push.private takes true or false"),
    ("prior: {kind: gan}", "prior.kind takes one of 'pixel'"),
    ("prior: {kind: [pixel]}", "prior.kind takes one of 'pixel'"),
    ("precision: '16'", "precision takes one of 'no', 'tf32', 'bf16' or null, got '16'.\n"),
    ("precision: fp16", "precision takes one of 'no', 'tf32', 'bf16' or null"),
    ("data: {classes: cat}", "mine.yaml: data.classes takes a list of texts or null"),
    ("data: {classes: []}", "data.classes names one class or more"),
    ("data: {classes: [a, '']}", "data.classes names one class or more"),
    ("data: {classes: [a, null]}", "data.classes takes a list of texts or null, got ['a', null]"),
    ("data: {classes: [[a]]}", "data.classes takes a list of texts or null"),
    ("data: {source: null}", "data.source takes text, got null"),
    ("data: {source: [a]}", "data.source takes text, got ['a']."),
    ('data: {source: ""}', "empty or too long"),
    ("data: null", "data takes a mapping with the keys kind, source"),
    ("data: [a]", "data takes a mapping with the keys"),
    ("data: digits", "data takes a mapping with the keys"),
    ('output: "a\\0b"', "output has control characters"),
    ('output: "\\e[31mred"', "output has control characters"),
    ('output: "\\ud800"', "line "),
    (f"output: {'x' * 300}", "empty or too long"),
    (f"output: {'x/' * 3000}", "empty or too long"),
    (f"output: {'é' * 200}", "empty or too long"),
    (f"output: {'x' * 20_000}", "output has 20,000 characters"),
    ("data: {source: |\n  digits\n}", "line "),
    ("data:\n  source: |\n    digits\n", "data.source is a path or name in one line"),
    ("output: >\n  runs/x\n", "write |- or >-"),
    ("prune: {scorer: {weights: ~nobody_has_this_home/x}}", "prune.scorer.weights=~nobody"),
    ("output: ~nobody_has_this_home/x", "~ is the home of a user"),
    (f"evaluate: {{protocol: {'p' * 300}}}", "no file ppp"),
    ('evaluate: {protocol: "a\\0b"}', "control characters"),
    ("evaluate: {protocol: ~nobody_has_this_home/x}", "no file ~nobody"),
    ("evaluate: {protocol: .}", "is a folder"),
    ("push: {repo: a}", "push.repo is user/name"),
    ("push: {repo: a/b/c}", "push.repo is user/name"),
    ("push: {repo: ./a}", "push.repo is user/name"),
    ("push: {repo: a/b.git}", "push.repo is user/name"),
    ("push: {repo: a--b/c}", "push.repo is user/name"),
    ("push: {repo: a b/c}", "push.repo is user/name"),
    # bombs
    (BOMB, "more than 60,000 values"),
    (LONG_BOMB, "or 1,048,576 characters"),
    ("a: &a [*a]", "*a stands for nothing"),
    ("a: &a {b: *a}", "*a stands for nothing"),
    (f"a: {'[' * 500}{']' * 500}", "more than 20 lists and mappings"),
    (f"a: {'[' * 200_000}", "line "),
    (f"a: {'{a: ' * 100_000}", "line "),
    ("- " * 100_000, "line "),
    (f"data: {{classes: [{','.join(map(str, range(70_000)))}]}}", "more than 60,000 values"),
    (f"output: {'x' * 600_000}", "more than 512 KB"),
]
OVERRIDES = [
    ("ipc", "an override is key=value, got 'ipc'"),
    ("=3", "an override is key=value"),
    ("evaluate.students=[vit", "cannot read evaluate.students=[vit: "),
    ("output=${oc.env:HF_TOKEN}", "'${' would be an interpolation"),
    ("output='$'{oc.env:HF_TOKEN}", "cannot read output="),
    ("${oc.env:HF_TOKEN}=1", "'${' would be an interpolation"),
    ("prior.names={'${oc.env:HF_TOKEN}': x}", "'${' would be an interpolation"),
    ("output=???", "which stands for a missing value"),
    ("ipc=010", "ipc takes a whole number, got 010."),
    ("ipc=", "error: ipc takes a whole number, got null."),  # the file is sound
    ("evaluate.students=convnet3", "list of texts or null, got 'convnet3'. Write [convnet3]."),
    ("evaluate.protocol=''", "is meant; got ''"),
    ("ipc.x=1", "ipc takes a whole number, got {'x': 1}."),
    ("ipc[0]=1", "unknown key 'ipc[0]'; did you mean 'ipc'?"),
    ("data.mean=[0.5,nan,0.5]", "data.mean is a finite number"),
    ("data..source=x", "unknown key 'data.'"),
    (".=1", "unknown key"),
    ("seed=!!python/name:os.environ", "write the value without a tag"),
    ("seed=&a [*a]", "stands for nothing"),
    ("evaluate.rows.0=full", "evaluate.rows takes a list of values"),
    ("output=\udcff", "UTF-8"),
    ("out\udcffput=x", "UTF-8"),
    ("output=\x1b[31m", "cannot read output="),
    ("output=runs/a #1", "cannot read output=runs/a #1: '#1' would be a comment"),
    ("output=runs/a\nb", "cannot read output=runs/a b: its line breaks would become spaces"),
    ("data.test=#1", "'#1' would be a comment; write the value in quotes"),
    ("data.classes=[a, b] # two", "'# two' would be a comment"),
    ("ipc=5\n...", "'...' would end the value; write the value in quotes"),
    ("output=&a b", "&a would be an anchor; write it in quotes"),
    (".".join("a" * 5000) + "=1", "unknown key 'a'"),
    ("trackers=" + "[" * 5000, "cannot read trackers="),
]
BYTES = [
    (b"ipc: 1\xff", "it is not UTF-8 text"),
    ("ipc: 1".encode("utf-16"), "it is not UTF-8 text"),
    ("output: ä".encode("latin-1"), "it is not UTF-8 text"),
    (b"ipc: 1\x00", "control characters are not allowed"),
    (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "it is not UTF-8 text"),
    (b"\x89PNG\r\n\x1a\n", "it is not UTF-8 text"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    return tmp_path


def refused(capsys, *argv: str) -> str:
    """The one line with which the command ends, under code 2 and within a second."""
    start = time.process_time()
    with pytest.raises(SystemExit) as stop:
        cli.main(list(argv))
    assert time.process_time() - start < 1, argv[0]
    told = capsys.readouterr()
    assert stop.value.code == 2, told
    assert told.err.startswith("latentdc: error: ") and told.err.count("\n") == 1, told.err
    assert len(told.err) < 2500 and SECRET not in told.err + told.out and told.out == ""
    assert not Path("runs").exists()
    return told.err


def short(case) -> str:
    return ascii(case if isinstance(case, str) else "")[:40]


@pytest.mark.parametrize(("text", "message"), TEXTS, ids=short)
def test_a_malformed_file_ends_in_one_line(capsys, folder, text, message):
    (folder / "mine.yaml").write_text(text)
    assert message in refused(capsys, "distill", "mine.yaml")


@pytest.mark.parametrize(("override", "message"), OVERRIDES, ids=short)
def test_a_malformed_override_ends_in_one_line(capsys, override, message):
    assert message in refused(capsys, "distill", "digits_ipc1", override)


@pytest.mark.parametrize(("content", "message"), BYTES)
def test_a_file_that_is_no_text_ends_in_one_line(capsys, folder, content, message):
    (folder / "mine.yaml").write_bytes(content)
    assert message in refused(capsys, "distill", "mine.yaml")


@pytest.mark.parametrize(
    ("command", "file"),
    [("distill", "sweeps/prune_first"), ("train-prior", "digits_ipc1"), ("sweep", "priors/digits")],
)
def test_a_file_of_another_command_is_called_that(capsys, command, file):
    assert "it is a file of another kind" in refused(capsys, command, file)


def test_what_is_no_file_of_a_recipe_ends_in_one_line(capsys, folder):
    (folder / "run").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    with (folder / "huge.yaml").open("wb") as file:
        file.truncate(2**31)  # sparse
    for name, message in {
        "run": "run is a folder; name a YAML file, such as run/recipe.yaml.",
        "pipe.yaml": "no file pipe.yaml",
        "huge.yaml": "it has more than 512 KB",
        "/dev/zero": "no file /dev/zero",
        "x" * 300: "no file xxx",
        "digit_ipc1": "did you mean 'digits_ipc1'?",
        "~nobody_has_this_home/x": "no file ~nobody",
        "${oc.env:HF_TOKEN}": "'${' would be an interpolation",
    }.items():
        assert message in refused(capsys, "distill", name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("{}", "it lacks recipe."),
        ("recipe: digits_ipc1", "a sweep varies something"),
        ("{recipe: digits_ipc1, axes: {a: {b: [seed=1]}}, skip: [{c: [d]}]}", "no axis 'c'"),
        ("{recipe: digits_ipc1, axes: {a: {b: ['output=${seed}']}}}", "would be an interpolation"),
        ("{recipe: '${oc.env:HF_TOKEN}', axes: {a: {b: []}}}", "would be an interpolation"),
        ("{recipe: digits_ipc1, axes: {'${oc.env:HF_TOKEN}': {b: []}}}", "would be an interpol"),
        ("{recipe: digits_ipc1, axes: {a: {b: seed=1}}}", "axes takes a mapping of texts to"),
        ("{recipe: digits_ipc1, axes: {a: {b: [seed=-1]}}}", "cell b (seed=-1): seed is at least"),
        ("{recipe: digits_ipc1, axes: {a: {b: ['seed=010']}}}", "seed takes a whole number"),
        ("{recipe: digits_ipc1, axes: {a: {b: [], c: [output=x]}}}", "a sweep has one folder"),
        ("{recipe: '???', axes: {a: {b: []}}}", "recipe is ???"),
        (BOMB, "more than 60,000 values"),
        (
            f"{{recipe: digits_ipc1, axes: {{{', '.join(f'a{n}: {TEN}' for n in range(9))}}}}}",
            "axes make 1,000,000,000 cells",
        ),
        (f"{{recipe: digits_ipc1, axes: {{a: {{? {'x' * 300} : []}}}}}}", "at most 200 bytes"),
        ("{recipe: digits_ipc1, axes: {a: {..: []}}}", "names become folders"),
    ],
    ids=short,
)
def test_a_malformed_sweep_ends_in_one_line(capsys, folder, text, message):
    (folder / "sweep.yaml").write_text(text)
    assert message in refused(capsys, "sweep", "sweep.yaml", "--print-config")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("{}", "mine.yaml: it lacks name, students."),
        ("{name: x, students: [vit], steps: 1, lr: .nan}", "lr is a finite number"),
        ("{name: x, students: [vit], steps: 1, lr: '${oc.env:HF_TOKEN}'}", "would be an interpol"),
        ("{name: '${oc.env:HF_TOKEN}', students: [vit], steps: 1}", "would be an interpolation"),
        ("{name: x, students: [vit], steps: 1, lr_of: {vit: slow}}", "lr_of takes a mapping of"),
        ("{name: x, students: [vit], epochs_of_ipc: {010: 1}}", "epochs_of_ipc takes a mapping"),
        ("{name: x, students: [vit], steps: 1, views: {crop: [.inf, 1]}}", "views.crop is a fin"),
        ("{name: x, students: [vit], steps: 1, views: {pad: 1000000}}", "views.pad is at most"),
        ("{name: x, students: [vit], steps: 1, milestones: [.nan]}", "milestones is a finite"),
        ("{name: x, students: [vit], steps: 1, labels: {teachers: [{netwrk: a}]}}", "'network'?"),
        ("{name: x, students: [vit], steps: 1, labels: {teachers: [a]}}", "labels.teachers takes"),
        (
            "{name: x, students: [vit], steps: 1, labels: {teachers: [{mean: [.nan, 0, 0]}]}}",
            "mean is a finite number",
        ),
        (BOMB, "more than 60,000 values"),
    ],
    ids=short,
)
def test_a_malformed_protocol_ends_in_one_line(capsys, folder, text, message):
    (folder / "mine.yaml").write_text(text)
    told = refused(capsys, "distill", "digits_ipc1", "evaluate.protocol=mine.yaml")
    assert message in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{autoencoder: {kl: .nan}}", "autoencoder.kl is a finite number"),
        ("{unet: {channels: [160000000, 32]}}", "unet.channels is at most 16,384"),
        ("{unet: {attention: [yes, 1]}}", "unet.attention takes a list of flags"),
        ("{seed: -1}", "seed is at least 0"),
        ("{licence: '${oc.env:HF_TOKEN}'}", "would be an interpolation"),
    ],
)
def test_a_malformed_recipe_of_a_prior_ends_in_one_line(capsys, folder, text, message):
    (folder / "mine.yaml").write_text(text)
    assert message in refused(capsys, "train-prior", "mine.yaml")


def test_the_recipe_inside_a_foreign_set_resolves_nothing(capsys, folder):
    random_set().save_pretrained(folder / "theirs")
    for text in ("data: {source: '${oc.env:HF_TOKEN}'}", "output: ${oc.env:HF_TOKEN}"):
        (folder / "theirs" / "recipe.yaml").write_text(text)
        told = refused(capsys, "evaluate", "theirs", "--print-config")
        assert "would be an interpolation" in told


def test_words_stay_words_where_text_is_meant(folder):
    (folder / "mine.yaml").write_text(
        "data: {classes: [no, yes, 010, 1_000, 1e3, 2020-01-01, off, 'null', 1:30, 0x1F, 3.10]}\n"
        "trackers: [on]\nprecision: no\nprior: {kind: pixel, names: {no: yes, 007: y}}\n"
    )
    made = config.load(Recipe, folder / "mine.yaml", ["data.train=off", "data.test=2024"])
    words = [
        "no",
        "yes",
        "010",
        "1_000",
        "1e3",
        "2020-01-01",
        "off",
        "null",
        "1:30",
        "0x1F",
        "3.10",
    ]
    assert made.data.classes == words
    assert (made.trackers, made.precision) == (["on"], "no")
    assert made.prior.names == {"no": "yes", "007": "y"}
    assert (made.data.train, made.data.test) == ("off", "2024")
    config.save(made, folder / "again.yaml")
    assert config.load(Recipe, folder / "again.yaml") == made


def test_numbers_and_flags_have_their_usual_spellings(folder):
    (folder / "mine.yaml").write_text(
        "\ufeffipc: +3\nseed: 9223372036854775807\ndata: {zca: yes, std: [1, .5, 5e-1]}\n"
        "distill: {lr_z: 1e-3, lr_c: 2, steps: 0}\nthreads: ~\n# end\n",
        encoding="utf-8",
    )
    made = config.load(Recipe, folder / "mine.yaml", ["push.private=off", "distill.momentum=0"])
    assert (made.ipc, made.seed, made.data.zca, made.threads) == (3, 2**63 - 1, True, None)
    assert made.data.std == (1.0, 0.5, 0.5) and type(made.distill.lr_c) is float
    assert (made.distill.lr_z, made.push.private, made.distill.momentum) == (1e-3, False, 0.0)
    assert config.load(Recipe, folder / "mine.yaml", ["prior.steps=5"]).prior.weights == "digits"


def test_anchors_repeat_what_they_name(folder):
    (folder / "mine.yaml").write_text(
        "data: {mean: &half [0.5, 0.5, 0.5], std: *half}\nprior: {kind: pixel}\n"
    )
    made = config.load(Recipe, folder / "mine.yaml")
    assert made.data.mean == made.data.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("component", "arguments", "message"),
    [
        (Data, {"mean": (float("nan"), 0.5, 0.5)}, r"data\.mean is a finite number"),
        (Data, {"std": (0.2, 0.2)}, r"data\.std takes a list of 3 numbers, got \[0\.2, 0\.2\]"),
        (Data, {"resolution": 32.0}, r"data\.resolution takes a whole number, got 32\.0"),
        (Data, {"resolution": True}, r"data\.resolution takes a whole number, got True"),
        (Data, {"zca": 1}, r"data\.zca takes true or false, got 1"),
        (Data, {"unreadable": "ignore"}, r"data\.unreadable takes one of 'stop', 'skip'"),
        (Data, {"classes": "cat"}, r"data\.classes takes a list of texts or null, got 'cat'"),
        (Data, {"source": None}, r"data\.source takes text, got null"),
        (Data, {"source": "${oc.env:HF_TOKEN}"}, r"data\.source: '\$\{' would be"),
        (Prune, {"keep": "0.5"}, r"prune\.keep takes a number, got '0\.5'"),
        (Prune, {"keep": 1j}, r"prune\.keep takes a number"),
        (Prune, {"order": "best"}, r"prune\.order takes one of 'easy', 'hard', 'middle'"),
        (Prune, {"scorer": Data()}, r"prune\.scorer takes a mapping with the keys network"),
        (Scorer, {"lr": float("inf")}, r"prune\.scorer\.lr is a finite number"),
        (Scorer, {"epochs": 10**400}, r"prune\.scorer\.epochs is at most 1,000,000"),
        (Scorer, {"epochs": 10**5000}, r"prune\.scorer\.epochs is at most 1,000,000"),
        (Matching, {"steps": 10**23}, r"distill\.steps is at most 1,000,000,000"),
        (Matching, {"lr_z": 10**400}, r"distill\.lr_z is a finite number"),
        (Hub, {"repo": "a/b/c"}, r"push\.repo is user/name"),
        (Recipe, {"seed": -1}, r"seed is at least 0, got -1"),
        (Recipe, {"seed": 2**63}, r"seed is at most"),
        (Recipe, {"output": "???"}, r"output is \?\?\?"),
        (Recipe, {"data": {"sorce": "x"}}, r"did you mean 'source'"),
        (PriorRecipe, {"seed": True}, r"seed takes a whole number, got True"),
        (Sweep, {"recipe": 3}, r"recipe takes text, got 3"),
    ],
)
def test_python_has_the_checks_of_yaml(component, arguments, message):
    with pytest.raises(InputError, match=message):
        component(**arguments)


def test_python_may_pass_paths_lists_and_whole_numbers(folder):
    made = Data(source=folder, mean=[0, 0, 0], std=[1, 1, 1])
    assert made == Data(source=str(folder), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert Recipe(distill={"steps": 3}).distill == Matching(steps=3)


def test_a_repo_of_the_hub_may_be_called_like_a_folder_that_is_there(folder):
    from latentdc.provenance import shared_recipe

    (folder / "user" / "name").mkdir(parents=True)
    assert "repo: user/name" in shared_recipe(Recipe(push=Hub(repo="user/name")))


def mutated(text: str, draw: random.Random) -> str:
    """A recipe with some characters, words or lines changed, doubled or lost."""
    odd = [
        "\t",
        "${",
        "???",
        "&a ",
        "*a",
        "!!int ",
        "- ",
        "? ",
        "{",
        "]",
        "'",
        '"',
        "|\n",
        "#",
        ":",
    ]
    odd += ["010", ".nan", "1e999", "~", "null", "\x00", "\ufeff", "\u2028", "<<: *a", "---\n", "%"]
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.choice([0, 1, 1, 5, 30]))
        text = text[:start] + draw.choice([*odd, text[start:end] * 2, ""]) + text[end:]
    return text


def test_hundreds_of_mutated_recipes_are_read_or_refused_in_one_line(folder):
    draw = random.Random(0)
    texts = [path.read_text() for path in sorted(config.shipped_folder("recipes").glob("*.yaml"))]
    read = 0
    for _ in range(150):
        (folder / "mine.yaml").write_text(mutated(draw.choice(texts), draw), encoding="utf-8")
        try:
            made = config.load(Recipe, folder / "mine.yaml")
        except InputError as error:
            assert "\n" not in str(error).strip() and len(str(error)) < 2500
            continue
        config.save(made, folder / "again.yaml")
        assert config.load(Recipe, folder / "again.yaml") == made
        read += 1
    assert 15 < read < 135
