import dataclasses
import re
from math import isnan

import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune.prune import choose_coreset
from latentdc.prune.report import overlap, suspects, within_class_spearman, write_report
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe import Prune
from tests.prune.toys import colours

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
RISING = torch.tensor([1.0, 2, 3, 4, 1, 2, 3, 4])


def test_spearman_is_within_classes_and_knows_only_ranks():
    assert within_class_spearman(RISING, RISING**3 + 9 * LABELS, LABELS) == pytest.approx(1)
    assert within_class_spearman(RISING, -RISING, LABELS) == pytest.approx(-1)
    half = torch.tensor([1.0, 2, 3, 4, 4, 3, 2, 1])
    assert within_class_spearman(RISING, half, LABELS) == pytest.approx(0)


def test_what_the_scorer_says_keeps_the_name_of_its_class():
    made = colours(8, names=("red", "blue"))
    said = torch.tensor([0.0, 1, 1, 0, 0, 1, 0, 1])
    scores = {"aum": torch.arange(8.0), "predicted": said}
    whole = ScoreTable(made.hashes, made.labels, made.class_names, scores, made.name)
    turned = dataclasses.replace(made, labels=1 - made.labels, class_names=("blue", "red"))
    alone = dataclasses.replace(made.select(made.members(0)), class_names=("red",))
    for train, wanted in ((turned, [1.0, 0, 0, 1, 1, 0, 1, 0]), (alone, [0.0, -1, 0, 0])):
        fitted = whole.fitted(train)
        assert fitted.columns["predicted"].tolist() == wanted
        again = fitted.fitted(train.select(torch.arange(2)))
        assert again.columns["predicted"].tolist() == wanted[:2]


def test_scores_are_written_to_a_path_that_may_be_text(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made = colours(8)
    table = ScoreTable(made.hashes, made.labels, made.class_names, {"loss": RISING}, made.name)
    table.save("~/scores.parquet")
    assert (tmp_path / "scores.parquet").is_file()
    assert torch.equal(ScoreTable.load("~/scores.parquet").column("loss"), RISING)
    for call in (table.save, ScoreTable.load):
        with pytest.raises(InputError, match="path is a path, got 5"):
            call(5)


def test_scores_kept_under_another_form_of_a_class_name_still_fit(tmp_path):
    made = colours(8, names=("rose\u0301", "blue"))
    kept = ("rose\u0301", "blue")  # a table is not told which form is meant
    ScoreTable(made.hashes, made.labels, kept, {"loss": RISING}, made.name).save(tmp_path / "s")
    fitted = ScoreTable.load(tmp_path / "s").fitted(made)
    assert torch.equal(fitted.column("loss"), RISING)


def test_equal_scores_share_a_rank():
    from scipy.stats import spearmanr

    a = torch.tensor([1.0, 1, 2, 3, 3, 3, 4, 9])
    b = torch.tensor([2.0, 1, 1, 3, 5, 4, 4, 4])
    one_class = torch.zeros(8).long()
    expected = spearmanr(a.numpy(), b.numpy()).statistic
    assert within_class_spearman(a, b, one_class) == pytest.approx(float(expected))


def test_classes_in_which_all_scores_are_equal_have_no_correlation():
    flat = RISING.clone()
    flat[:4] = 7
    assert within_class_spearman(RISING, flat, LABELS) == pytest.approx(1)
    assert isnan(within_class_spearman(RISING, torch.ones(8), LABELS))


def test_overlap_is_the_common_share_of_the_easiest():
    assert overlap(RISING, RISING, LABELS, 0.5) == 1
    assert overlap(RISING, -RISING, LABELS, 0.5) == 0


def table() -> tuple:
    train = colours(300)
    scores = {
        "loss": torch.arange(300.0),
        "aum": -torch.arange(300.0),
        "forgetting": torch.ones(300),
    }
    columns = {**scores, "predicted": 1.0 - train.labels}
    return train, ScoreTable(train.hashes, train.labels, train.class_names, columns, train.name)


def test_a_report_shows_every_rule_and_the_choice_and_names_only_pictures_that_exist(tmp_path):
    pytest.importorskip("matplotlib")
    train, scores = table()
    kept = choose_coreset(scores, train, Prune(score="ccs", count=20))
    page = write_report(tmp_path / "r", scores, train, kept)
    text = page.read_text()
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(pictures) == 10 and "kept.png" in pictures
    assert "40 of 300 images kept by ccs.\n" in text
    assert {path.name for path in page.parent.iterdir()} == {*pictures, "report.md"}
    assert "| red | 150 | 20 | 50.00% | 50.00% | 1 |" in text
    assert re.search(r"\| loss \|  \| 1.00 \| nan \|", text)  # aum agrees, whatever its sign


def test_a_report_says_what_the_easiest_of_two_rules_have_in_common(tmp_path):
    pytest.importorskip("matplotlib")
    train, scores = table()
    loss = scores.column("loss")
    other = torch.where(loss < 12, loss + 1000, loss)  # the easiest 6 of each class are its hardest
    two = dataclasses.replace(scores, columns={"loss": loss, "el2n": other})
    kept = choose_coreset(two, train, Prune(keep=0.1))
    text = write_report(tmp_path / "r", two, train, kept).read_text()
    parts = [part.split("##")[0] for part in text.split("What the easiest ")[1:]]
    # Of 150 images of each class 2, 15 and 45, of which 0, 9 and 39.
    for part, share, common in zip(parts, ("1%", "10%", "30%"), (0, 9 / 15, 39 / 45), strict=True):
        assert part.startswith(f"{share} of each class") and f"| loss |  | {common:.2f} |" in part


def test_suspicious_labels_are_those_with_the_lowest_aum_or_else_the_largest_loss():
    _, scores = table()
    assert suspects(scores).tolist() == [299, 298, 297]
    for column, rows in (("loss", [299, 298, 297]), ("forgetting", None)):
        found = suspects(dataclasses.replace(scores, columns={column: scores.column(column)}))
        assert (None if found is None else found.tolist()) == rows
