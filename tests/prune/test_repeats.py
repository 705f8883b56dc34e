"""Exact repeats: told once, counted once below keep=1, all kept at keep=1."""

import pytest
import torch
from PIL import Image

from latentdc.data.dataset import Dataset, random_images
from latentdc.errors import InputError
from latentdc.evaluate.__main__ import main as evaluate
from latentdc.prune.__main__ import main as prune
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import choose_coreset, prune_dataset
from latentdc.prune.score import score_dataset
from latentdc.recipe import Prune, RuleSettings, Scorer
from latentdc.recipe.rules import RULES
from tests.prune.toys import colours

SCORER = Scorer(network="convnet3@16", epochs=12, lr=0.1, batch=4)
SETTINGS = RuleSettings(span=3, subsets=4, base="loss", strata=3, neighbours=2)


def repeated(different: int = 12, times: int = 5) -> Dataset:
    """`colours` with the first image of each class `times` times more, at the front."""
    data = colours(different)
    return data.select(torch.tensor([0, 1] * times + list(range(different))))


@pytest.fixture(scope="module")
def table():
    prune = Prune(columns=list(RULES), scorer=SCORER, rules=SETTINGS)
    return score_dataset(repeated(), prune)


@pytest.mark.parametrize("score", RULES)
def test_no_rule_keeps_an_image_twice_and_the_budget_counts_different_ones(table, score):
    for budget, size in (({"keep": 0.5}, 6), ({"count": 3}, 6), ({"count": 6}, 12)):
        for scope in ("class", "global")[: 1 if RULES[score].stage == "groups" else 2]:
            if scope == "global" and "count" in budget:
                budget = {"count": size}
            given = {"score": score, "rules": SETTINGS, "scope": scope, **budget}
            chosen = choose_coreset(table, repeated(), Prune(**given))
            assert len(chosen.hashes.unique()) == len(chosen) == size


@pytest.mark.parametrize("score", RULES)
def test_keep_one_keeps_every_row(table, score):
    for scope in ("class", "global")[: 1 if RULES[score].stage == "groups" else 2]:
        chosen = choose_coreset(table, repeated(), Prune(score=score, rules=SETTINGS, scope=scope))
        assert len(chosen) == len(repeated()) == 22


def test_without_repeats_in_it_a_set_chooses_as_before_and_repeats_change_no_choice(table):
    plain = colours()
    first = torch.tensor([0, 1, *range(12, 22)])  # the different rows of `repeated`
    for score in ("loss", "herding", "kcenter", "d2", "ccs", "moderate", "gist", "s3"):
        prune = Prune(score=score, rules=SETTINGS, keep=0.5)
        own = choose_coreset(table.select(first), plain, prune)
        other = choose_coreset(table, repeated(), prune)
        assert torch.equal(own.hashes.sort().values, other.hashes.sort().values), score


def test_a_budget_above_the_different_images_names_both_counts():
    with pytest.raises(InputError, match=r"smallest class has 6 different ones among 11"):
        prune_dataset(repeated(), Prune(score="random", count=7))
    with pytest.raises(InputError, match=r"the budget is 13 of 12 different ones among 22 images"):
        prune_dataset(repeated(), Prune(score="random", count=13, scope="global"))


def test_random_rows_hold_no_image_twice_and_a_class_that_is_too_small_names_both_counts():
    for seed in range(5):
        assert len(random_images(repeated(), 6, seed).hashes.unique()) == 12
    with pytest.raises(InputError, match=r"11 images of class 'red' \(6 different ones\), .* 7"):
        random_images(repeated(), 7, 0)


def test_an_image_under_two_labels_is_a_sample_of_each_class():
    data = colours(4)
    both = data.select(torch.tensor([0, 1, 2, 3, 0]))
    both.labels[4] = 1
    kept = prune_dataset(both, Prune(score="random", count=2))
    assert kept.labels.bincount().tolist() == [2, 2]


def folder(root, *, repeats: int, leaks: int, two: int = 0):
    """Folders of 8 x 8 px PNGs: 6 a class, and repeats, leaks and contradictions of class red."""
    data = colours(24)
    for place, image in enumerate(data.images):
        split, name = ("train", "test")[place >= 12], data.class_names[data.labels[place]]
        path = root / split / name / f"{place:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    first = (root / "train/red/00.png").read_bytes()
    for number in range(repeats):
        (root / f"train/red/again-{number}.png").write_bytes(first)
    for number in range(leaks):
        (root / f"test/red/seen-{number}.png").write_bytes(first)
    for number in range(two):
        (root / f"train/blue/other-{number}.png").write_bytes(first)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toy.yaml").write_text(
        "data: {source: images, resolution: 8}\nprior: {kind: pixel}\n"
        "evaluate: {students: [convnet3@2], seeds: 1, steps: 1}\nthreads: 1\n"
    )
    return tmp_path


def test_the_commands_say_repeats_and_leaks_in_one_line_of_counts(desk, capsys):
    folder(desk / "images", repeats=30, leaks=2, two=1)
    prune(["toy.yaml", "prune.score=random", "prune.count=6", "output=run"])
    told = "note: exact repeats: 2 of 14 images of images test are in images train too; 30 of 43"
    notes = [line for line in capsys.readouterr().err.splitlines() if "repeat" in line]
    assert len(notes) == 1 and told in notes[0]
    assert "; 1 of 14 images of images test repeat another of their class; " in notes[0]
    assert notes[0].endswith("; under more than one label: 1 image of images train.")
    assert len(Coreset.load(desk / "run/coreset.parquet").hashes) == 12
    evaluate(["run", "evaluate.rows=[random,coreset]"])
    assert capsys.readouterr().err.count(told) == 1


def test_data_without_repeats_say_nothing(desk, capsys):
    folder(desk / "images", repeats=0, leaks=0)
    prune(["toy.yaml", "prune.score=random", "prune.count=6", "output=run"])
    assert "repeats" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_synthetic_set_starts_from_different_images(desk, capsys):
    from latentdc.distill import main as distill

    folder(desk / "images", repeats=20, leaks=0)
    given = [
        "prune.keep=1.0",
        "distill.steps=0",
        "evaluate.rows=[]",
        "objective.network=convnet3@2",
    ]
    distill(["toy.yaml", *given, "ipc=6", "output=run"])
    from latentdc import SyntheticSet

    images = SyntheticSet.from_pretrained(desk / "run/synthetic").images
    assert len(images.flatten(1).unique(dim=0)) == 12
    with pytest.raises(SystemExit):
        distill(["toy.yaml", *given, "ipc=7", "output=more"])
    assert "'blue' has 6 images (exact repeats count once)" in capsys.readouterr().err
