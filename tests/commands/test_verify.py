import json
import math
import os
import re
import sys

import pytest

from latentdc import cli, ranks
from latentdc.commands import verify
from latentdc.commands.verify import judge
from latentdc.data.dataset import random_images
from latentdc.data.open import open_splits
from latentdc.evaluate import load_protocol
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.locks import locked
from latentdc.preprocessing import Normalization
from latentdc.recipe import Data
from latentdc.recipe.fields import build
from latentdc.recipe.protocol import EvalProtocol
from latentdc.results.result import to_json
from latentdc.synthetic import SyntheticSet

DATA = Data(source="digits", resolution=16)
RECIPE = "data: {source: digits, resolution: 16}\n"


@pytest.fixture(scope="module")
def scored():
    """A set of real digits and its results under a protocol of three steps."""
    train, test = open_splits(DATA)
    synthetic = SyntheticSet.from_real(random_images(train, 1, 0))
    protocol = load_protocol("quick", students=["convnet3@8"], seeds=2, steps=3)
    seen = Normalization(DATA.mean, DATA.std)
    return synthetic, to_json(evaluate_sets(synthetic, test, protocol, normalization=seen))


@pytest.fixture
def published(scored, tmp_path):
    synthetic, results = scored
    synthetic.save_pretrained(tmp_path / "set", recipe=RECIPE, results=results)
    return tmp_path / "set"


def changed(folder, change) -> None:
    """Let somebody change what the results say."""
    path = folder / "results.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(capsys, words, code=2) -> str:
    with pytest.raises(SystemExit, match=str(code)):
        cli.main(["verify", *map(str, words)])
    [*_, line] = capsys.readouterr().err.splitlines()
    assert line.startswith("latentdc: error: ")
    return line


@pytest.fixture
def untrained(monkeypatch):
    """Whoever trains a student fails the test."""
    monkeypatch.setattr("latentdc.evaluate.evaluate.train_together", lambda *a, **k: pytest.fail())


def test_the_same_trainings_hold_to_the_last_digit_after_their_cost(published, capsys):
    before = {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}
    cli.main(["verify", str(published)])
    cost, _, verdict, criterion = capsys.readouterr().out.splitlines()
    assert cost.startswith(
        "cost: 2 trainings of convnet3@8 under protocol quick, each 3 steps that see 30 images, "
    )
    assert "difference +0.0, at most " in verdict and verdict.endswith(" by chance: holds")
    assert criterion == verify.CRITERION
    assert before == {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}


def test_a_number_that_does_not_hold_ends_with_code_1(published, capsys):
    def boast(content):
        row = content["results"][0]
        row["accuracies"], row["mean"], row["std"] = [0.99, 0.99], 0.99, 0.0
        row["top5"], row["top5_mean"] = [1.0, 1.0], 1.0

    changed(published, boast)
    line = refusal(capsys, [published, "--seeds", 3], code=1)
    assert line == "latentdc: error: the accuracy of convnet3@8 does not hold here."


def test_the_main_process_alone_tells_costs_and_recipes(published, capsys, monkeypatch):
    calls = [
        ["verify", str(published), "--dry-run"],
        ["evaluate", str(published), "--print-config"],
    ]
    for rank, told in ((0, True), (1, False)):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        for call in calls:
            cli.main(call)
            assert (capsys.readouterr().out != "") == told


def test_a_dry_run_stops_at_the_cost(published, capsys, untrained):
    cli.main(["verify", str(published), "--dry-run", "--seeds", "5", "--tflops", "1"])
    told = capsys.readouterr().out
    cost, data = told.splitlines()
    assert cost.startswith("cost: 5 trainings of convnet3@8 ")
    assert " of memory, " in cost and cost.endswith(" hours at 1 TFLOP/s")
    assert data == (
        "data: digits, 0 MAC (1,797 images are decoded once, without a network); 1.38 MB in the "
        "cache"
    )


@pytest.mark.parametrize("seeds", [0, -3])
def test_no_seeds_are_refused_and_not_taken_for_as_many_as_were_published(published, capsys, seeds):
    line = refusal(capsys, [published, "--dry-run", "--seeds", seeds])
    assert line == f"latentdc: error: --seeds is at least 1, got {seeds}."


def test_what_is_not_here_cannot_be_counted_and_is_said(published, capsys, untrained):
    cli.main(["verify", str(published), "--dry-run", "data.source=user/digits"])
    cost, data = capsys.readouterr().out.splitlines()
    assert "images, at least " in cost and data.startswith("data: user/digits is not on this machi")


def test_a_set_scored_with_stored_labels_is_verified_and_leaves_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    train, test = open_splits(DATA)
    synthetic = SyntheticSet.from_real(random_images(train, 1, 0))
    teacher = {"network": "convnet3@8", "epochs": 2, "batch": 64}
    words = ["labels.source=stored", "labels.loss=kl", f"labels.teachers=[{json.dumps(teacher)}]"]
    protocol = load_protocol(
        "quick", students=["convnet3@8"], seeds=2, steps=3, changes=[*words, "augment=null"]
    )
    seen = Normalization(DATA.mean, DATA.std)
    results = evaluate_sets(
        synthetic, test, protocol, normalization=seen, train=train, trainings=tmp_path / "t"
    )
    synthetic.save_pretrained(tmp_path / "set", recipe=RECIPE, results=to_json(results))
    cache = tmp_path / "cache"
    new, used, old = (cache / f".latentdc-verify-{digit * 12}" for digit in "abc")
    users = [cache / name for name in ("verify-faces", "verify-0123456789ab", f"{old.name}.kept")]
    for folder in (new, used, old, *users):  # three as commands that were killed leave them
        (folder / "labels").mkdir(parents=True)
    for folder in (used, old, *users):
        os.utime(folder, (0, 0))
    with locked(used):
        cli.main(["verify", str(tmp_path / "set")])
    told = capsys.readouterr().out
    assert " of disk until it ends" in told and ": holds" in told
    assert {*cache.iterdir()} == {new, used, *users}


def test_a_set_is_verified_by_its_name_on_the_hub(published, hub, capsys):
    SyntheticSet.from_pretrained(published)
    cli.main(["push", str(published), "user/name", "--tag", "v1"])
    text = hub.files("datasets/user/name")["README.md"].decode()
    assert "\nlatentdc verify user/name\n" in text
    capsys.readouterr()
    cli.main(["verify", "user/name", "--revision", "v1"])
    assert capsys.readouterr().out.splitlines()[2].endswith(": holds")


def one_seed(content):
    row = content["results"][0]
    for key in ("accuracies", "hashes", "top5"):
        row[key] = row[key][:1]
    row["mean"], row["top5_mean"] = row["accuracies"][0], row["top5"][0]


def other_rate(content):
    [settings] = content["protocols"].values()
    settings["lr"] = 0.5


def other_test(content):
    content["results"][0]["test"] = "0123456789abcdef"


def other_mean(content):
    content["results"][0]["preprocessing"]["mean"] = [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_seed, "published with 1 seed, which has no spread; train several: --seeds 3."),
        (other_rate, "and that of its settings is "),
        (other_test, "the test split of digits is not the one that convnet3@8 was scored on"),
        (other_mean, "students of digits would see images otherwise than convnet3@8 did"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_training(
    published, capsys, untrained, change, said
):
    changed(published, change)
    assert said in refusal(capsys, [published])


def test_accuracies_of_other_images_are_none_of_the_set(published, scored, capsys, untrained):
    synthetic, results = scored
    other = SyntheticSet(255 - synthetic.images, synthetic.labels, synthetic.class_names)
    other.save_pretrained(published, recipe=RECIPE, results=results)
    assert "is of these images (hash " in refusal(capsys, [published])


def test_a_set_without_accuracies_says_so(scored, tmp_path, capsys):
    scored[0].save_pretrained(tmp_path / "set", recipe=RECIPE)
    assert "records no accuracies: it lacks results.json" in refusal(capsys, [tmp_path / "set"])


@pytest.mark.parametrize("where", ["teacher", "row", "recipe"])
def test_code_that_a_set_names_is_refused_and_never_imported(
    published, tmp_path, monkeypatch, capsys, where
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('imported', 'w')\nNet = None\n")
    if where != "recipe":

        def name_code(content):
            [settings] = content["protocols"].values()
            if where == "teacher":
                teachers = [{"network": "evil:Net"}]
                settings["labels"] |= {"source": "online", "loss": "kl", "teachers": teachers}
                settings["augment"] = None
            settings["students"] = ["evil:Net"]  # of which the rows below are trained alone
            if where == "row":
                content["results"][0]["student"] = "evil:Net"

        changed(published, name_code)
        said = "students=evil:Net" if where == "row" else "labels.teachers.network=evil:Net"
    else:
        (published / "recipe.yaml").write_text("data: {source: 'evil:Net', resolution: 16}\n")
        said = "data.source=evil:Net"
    line = refusal(capsys, [published])
    assert said in line
    if where == "row":
        assert "write evaluate.students=[evil:Net] or --recipe FILE" in line
        assert "no accuracy of vit is published" in refusal(
            capsys, [published, "evaluate.students=[vit]"]
        )
    assert not (tmp_path / "imported").exists()


NET = """
from torch import nn

def net(num_classes, resolution):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * resolution**2, num_classes))
"""


@pytest.fixture
def own_student(tmp_path, monkeypatch):
    """A set that was scored by a student of one's own beside one of latentdc's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_for_verify.py").write_text(NET)
    train, test = open_splits(DATA)
    synthetic = SyntheticSet.from_real(random_images(train, 1, 0))
    names = ["own_for_verify:net", "convnet3@8"]
    protocol = load_protocol("quick", seeds=2, steps=3, changes=[f"students=[{','.join(names)}]"])
    seen = Normalization(DATA.mean, DATA.std)
    results = to_json(evaluate_sets(synthetic, test, protocol, normalization=seen))
    recipe = f"{RECIPE}evaluate: {{students: ['{names[0]}']}}\n"
    synthetic.save_pretrained(tmp_path / "set", recipe=recipe, results=results)
    (tmp_path / "mine.yaml").write_text(recipe)
    yield tmp_path / "set"
    sys.modules.pop("own_for_verify", None)


def test_a_student_of_one_s_own_is_trained_where_it_is_named(own_student, capsys):
    assert "students=[own_for_verify:net] or --recipe" in refusal(capsys, [own_student])
    for words, count in (
        (["evaluate.students=[own_for_verify:net]"], 1),
        (["evaluate.students=[convnet3@8]"], 1),
        (["--recipe", "mine.yaml"], 2),
    ):
        cli.main(["verify", str(own_student), *words])
        assert capsys.readouterr().out.count("by chance: holds") == count
    (own_student.parent / "own_for_verify.py").write_text(f"{NET}\n# another edition")
    line = refusal(capsys, [own_student, "evaluate.students=[own_for_verify:net]"])
    assert "no accuracy of own_for_verify:net#" in line and "is published" in line


@pytest.mark.parametrize("nobody", ["null", "[]"])
def test_nobody_named_is_refused_with_those_that_are_published(published, capsys, nobody):
    line = refusal(capsys, [published, f"evaluate.students={nobody}"])
    assert "names nobody" in line and line.endswith("there are some of convnet3@8.")


def test_a_width_that_is_the_default_may_be_written_or_left_out(published, capsys, untrained):
    def plain(content):
        content["results"][0]["student"] = "convnet3"

    changed(published, plain)
    cli.main(["verify", str(published), "evaluate.students=[convnet3@128]", "--dry-run"])
    assert "2 trainings of convnet3 under" in capsys.readouterr().out


def test_how_many_seeds_were_trained_together_is_of_no_account(published, capsys, untrained):
    def together(content):
        (settings,) = content["protocols"].values()
        assert "together" not in settings
        settings["together"] = 3
        content["results"][0]["student"] = "vit@8"

    changed(published, together)
    cli.main(["verify", str(published), "--dry-run"])
    assert "trainings of vit@8" in capsys.readouterr().out


def test_other_keys_of_the_protocol_are_those_of_the_results(published, capsys, untrained):
    line = refusal(capsys, [published, "evaluate.steps=5"])
    assert "'evaluate.steps' is of the protocol" in line and "--seeds how often" in line


def test_the_training_of_teachers_is_counted(published, capsys, untrained):
    def teach(content):
        [settings] = content["protocols"].values()
        teachers = [{"network": "convnet3@8", "epochs": 4}]
        settings["augment"] = None
        settings["labels"] |= {"source": "online", "loss": "kl", "teachers": teachers}
        protocol = build(EvalProtocol, dict(settings))
        content["protocols"] = {protocol.hash: settings}
        content["results"][0]["protocol_hash"] = protocol.hash

    cli.main(["verify", str(published), "--dry-run"])
    plain = capsys.readouterr().out
    changed(published, teach)
    cli.main(["verify", str(published), "--dry-run"])
    told = capsys.readouterr().out
    work, of_teachers = (float(n) for n in re.findall(r"([\d.]+) GMAC", told))
    assert "; of it teachers " in told and "convnet3@8, trained where" in told
    assert work > of_teachers > float(re.search(r"([\d.]+) MMAC|$", plain)[1] or 0) / 1000


def test_the_criterion_is_student_s_t_of_two_means():
    verdict = judge([0.5, 0.7], [0.8, 0.8])  # variances 0.02 and 0, pooled 0.01; t(0.975, 2)
    assert verdict.difference == pytest.approx(0.2)
    assert verdict.allowed == pytest.approx(4.302652729911275 * math.sqrt(0.01 * (1 / 2 + 1 / 2)))
    assert verdict.holds
    assert not judge([0.5, 0.5], [0.6, 0.6]).holds, "no spread allows no difference"
    assert judge([0.1 + 0.2, 0.3], [0.3, 0.3]).holds, "rounding is no difference"
    assert judge([0.5], [0.4, 0.6]).allowed == pytest.approx(
        12.706204736432095 * math.sqrt(0.02 * (1 + 1 / 2))
    )
