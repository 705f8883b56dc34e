"""The list of rules: each exists, says its direction truly, and is documented."""

import dataclasses
from pathlib import Path

import pytest
import torch

from latentdc.errors import InputError
from latentdc.prune import score
from latentdc.prune.prune import choose_coreset
from latentdc.prune.rules.dynamics import held_out_parts
from latentdc.prune.score import score_dataset
from latentdc.recipe import Prune, RuleSettings, Scorer
from latentdc.recipe.rules import RULES, require_rule
from tests.prune.toys import colours

ROOT = Path(__file__).parents[3]


SETTINGS = {field.name for field in dataclasses.fields(RuleSettings)}
SEEN = {
    "contents": {"hashes", "labels", "seed", *SETTINGS},
    "predictions": {"logits", "labels", "features", "images", "classifier", "rows"},
    "last": {"logits", "labels", "features", "images", "classifier", "rows"},
    "records": {"loss", "logit_margin", "change", *SETTINGS},
    "subsets": {"loss", "held_out"},
    "features": {"features", "labels", "seed", *SETTINGS},
    "choice": {"features", "hardness", "draws", "count", *SETTINGS},
    "groups": {"features", "members", "counts", "seed", *SETTINGS},
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_asks_for_what_its_stage_may_see(name):
    rule = RULES[name]
    assert {*rule.inputs} <= SEEN[rule.stage] and rule._implementation.__doc__


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_in_the_docs(name):
    assert f"| `{name}` |" in (ROOT / "docs/pruning.md").read_text()


def test_an_unknown_rule_is_told_the_nearest_one():
    with pytest.raises(InputError, match="there is no rule 'forgeting'; did you mean 'forgetting'"):
        require_rule("forgeting", "prune.score")


@pytest.fixture(scope="module")
def table():
    """Colours of which the last eight are dim, and the two before them have the wrong label."""
    train = colours(64)
    train.images[-8:] = (train.images[-8:].float() * 0.2 + 40).byte()
    train.labels[54:56] = 1 - train.labels[54:56]
    prune = Prune(
        columns=list(RULES),
        scorer=Scorer(network="convnet3@16", epochs=6, lr=0.03, batch=8, runs=2),
        rules=RuleSettings(span=3, strata=4, neighbours=3),
    )
    return train, score_dataset(train, prune)


def test_all_rules_are_scored_in_one_go(table):
    train, scores = table
    assert set(scores.columns) - {"predicted"} == {n for n in RULES if not RULES[n].chooses}
    for column in scores.columns.values():
        assert len(column) == len(train) and column.isfinite().all()


LABEL_RULES = [
    *("loss", "el2n", "grand", "grand_full", "aum", "aum_probability", "forgetting"),
    "distance",
]


def test_a_training_of_memorization_sees_nothing_that_it_holds_out(monkeypatch):
    seen, make = [], score.ScorerTraining

    def noting(*given, rows=None, **named):
        seen.append(rows)
        return make(*given, rows=rows, **named)

    monkeypatch.setattr(score, "ScorerTraining", noting)
    monkeypatch.setattr(score, "refuse_chance", lambda *_: None)
    scorer, train = Scorer(network="convnet3@16", epochs=1, lr=0.03, batch=8), colours(32)
    prune = Prune(score="memorization", scorer=scorer, rules=RuleSettings(subsets=4))
    score_dataset(train, prune, seed=3)
    held_out = held_out_parts(train.labels, train.hashes, 4, 3)
    rows = [some.tolist() for some in seen if some is not None]
    assert rows == [(~part).nonzero().flatten().tolist() for part in held_out]
    assert all(part.any() for part in held_out)


@pytest.mark.parametrize("name", LABEL_RULES)
def test_wrong_labels_are_hard_and_not_easy(name, table):
    train, scores = table
    wrong = {54, 55}
    for order, expected in (("hard", wrong), ("easy", set())):
        chosen = choose_coreset(
            scores, train, Prune(score=name, order=order, count=12, scope="global")
        )
        assert set(chosen.indices(train).tolist()) & wrong == expected


@pytest.mark.parametrize("name", ["entropy", "margin", "least_confidence"])
def test_dim_images_are_uncertain(name, table):
    train, scores = table
    given = {"score": name, "count": 20, "scope": "global"}
    chosen = (choose_coreset(scores, train, Prune(**given, order=end)) for end in ("hard", "easy"))
    dim = [int((coreset.indices(train) >= 56).sum()) for coreset in chosen]
    assert dim[0] > dim[1]


@pytest.mark.parametrize("name", [name for name in RULES if RULES[name].chooses])
@pytest.mark.parametrize("scope", ["class", "global"])
def test_rules_that_choose_meet_the_budget_and_are_the_same_again(name, scope, table):
    train, scores = table
    if scope == "global" and RULES[name].stage == "groups":
        with pytest.raises(InputError, match=r"prune.scope=global .* s3 chooses a group of each"):
            Prune(score=name, count=17, scope=scope)
        return
    count = {"class": 9, "global": 17}[scope]
    rules = RuleSettings(strata=4, neighbours=3)
    prune = Prune(score=name, count=count, scope=scope, rules=rules)
    one, again = (choose_coreset(scores, train, prune) for _ in range(2))
    assert len(one) == {"class": 18, "global": 17}[scope]
    assert len(set(one.indices(train).tolist())) == len(one)
    assert torch.equal(one.hashes, again.hashes)


def test_the_order_of_the_images_changes_no_choice(table):
    train, scores = table
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    moved = train.select(order)
    for name in RULES:
        one = choose_coreset(scores, train, Prune(score=name, keep=0.2))
        other = choose_coreset(scores, moved, Prune(score=name, keep=0.2))
        assert set(one.hashes.tolist()) == set(other.hashes.tolist()), name
