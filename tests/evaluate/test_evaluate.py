import json
from dataclasses import replace

import pytest
import torch

from latentdc.data.dataset import random_images
from latentdc.errors import InputError
from latentdc.evaluate import evaluate
from latentdc.evaluate.baselines import with_baselines
from latentdc.evaluate.evaluate import evaluate_sets, score_sets
from latentdc.evaluate.setting import Accuracy
from latentdc.preprocessing import Normalization
from latentdc.ranks import warn
from latentdc.recipe.labels import Views
from latentdc.synthetic import SyntheticSet, files
from latentdc.synthetic.files import encode
from latentdc.synthetic.synthetic_set import set_hash
from tests.evaluate.toys import TEST, TWO, protocol, setting, stripes
from tests.processes import run_two

OPTIONS = {"normalization": Normalization()}
TRAIN = stripes(60, seed=3)
ONE = protocol(seeds=1, steps=1)


@pytest.fixture
def trainings(monkeypatch):
    """(student, seed) of every training, in order."""
    done = []
    train = evaluate.train_together

    def counting(sets, network, *others, seeds, **options):
        done.extend((network, seed) for seed in seeds)
        return train(sets, network, *others, seeds=seeds, **options)

    monkeypatch.setattr(evaluate, "train_together", counting)
    return done


def drawn(seed):
    return stripes(9, seed=10 + seed)


def by_set(results):
    """The first student's result of each set."""
    return {result.set: result for result in reversed(results)}


def test_there_is_a_result_for_each_student_with_an_accuracy_for_each_seed(trainings):
    data = stripes(12)
    results = evaluate_sets(data, TEST, TWO, **OPTIONS)
    assert sorted(trainings) == [(s, i) for s in ("alexnet@2", "convnet3@4") for i in (0, 1)]
    assert [(one.set, one.student) for one in results] == [("distilled", s) for s in TWO.students]
    for one in results:
        assert len(one.accuracies) == 2 and one.hashes == (set_hash(data),) * 2
        assert (one.protocol_hash, one.test) == (TWO.hash, set_hash(TEST))
        assert (one.ipc, one.classes, one.counts, one.data) == (4, 3, None, "stripes")
    assert results == evaluate_sets(data, TEST, TWO, **OPTIONS)
    assert list(results.to_frame()["accuracy"]) == [x for one in results for x in one.accuracies]


def test_a_student_that_learned_no_set_is_told_of_and_one_that_learned_any_is_not(
    capsys, monkeypatch
):
    found = {"alexnet@2": 0.2, "convnet3@4": 1 / 3}
    monkeypatch.setattr(evaluate, "train_together", lambda sets, student, *_, **__: [student])
    monkeypatch.setattr(evaluate, "accuracy", lambda name, *_, **__: Accuracy(found[name], None))
    told = (
        "is at chance (33.33%) in every row after 3 steps, so that its accuracies compare nothing"
    )
    for best, learned in ((1 / 3, ()), (0.4, ("convnet3@4",))):
        found["convnet3@4"] = best
        warn.cache_clear()
        evaluate_sets({"distilled": stripes(12), "full": TRAIN}, TEST, TWO, **OPTIONS)
        printed = capsys.readouterr().err
        for name in found:
            assert (f"warning: {name} {told}" in printed) == (name not in learned)
    rows = [TEST.members(0), TEST.members(1)[:2], TEST.members(2)[:3]]
    found["convnet3@4"] = 0.5  # more than one of three classes, and less than the largest
    evaluate_sets(stripes(12), TEST.select(torch.cat(rows)), TWO, **OPTIONS)
    assert "convnet3@4 is at chance (66.67%) in every row" in capsys.readouterr().err


def test_classes_that_a_set_holds_nothing_of_are_told(capsys, trainings):
    some = stripes(12).select(torch.arange(12)[torch.arange(12) % 3 != 1])
    evaluate_sets({"mine": some, "whole": stripes(12)}, TEST, TWO, **OPTIONS)
    told = capsys.readouterr().err
    assert "the mine set holds nothing of 1 of 3 classes ('columns')" in told
    assert "whole" not in told


def test_epochs_are_counted_on_the_first_set_that_is_no_baseline():
    sets = {"random": stripes(3), "mine": stripes(9, seed=5), "other": stripes(30)}
    epochs = protocol(steps=None, epochs=2, batch=4, seeds=1)
    results = evaluate_sets(sets, TEST, epochs, **OPTIONS)
    assert {one.steps for one in results} == {6}  # 2 epochs of 9 by 4
    (alone,) = score_sets({"random": drawn}, epochs, setting(), ipc=1)
    assert (alone.steps, alone.ipc) == (2, 1)


def test_a_restarted_evaluation_trains_only_what_is_missing(tmp_path, trainings):
    first = evaluate_sets(stripes(12), TEST, TWO, trainings=tmp_path, **OPTIONS)
    (lost,) = tmp_path.glob("*-alexnet@2-1.json")
    lost.unlink()
    trainings.clear()
    assert evaluate_sets(stripes(12), TEST, TWO, trainings=tmp_path, **OPTIONS) == first
    assert trainings == [("alexnet@2", 1)]
    assert lost.exists()


def test_top_5_of_a_student_is_kept_where_every_seed_has_it(monkeypatch):
    every = [Accuracy(0.2, 0.6)] * 2 + [Accuracy(0.1, 0.5)] * 2  # the longest first
    found = iter([*every, every[0], Accuracy(0.2), *every[2:]])  # of five classes or fewer
    monkeypatch.setattr(evaluate, "accuracy", lambda *args, **kwargs: next(found))
    first, second = (evaluate_sets(stripes(12), TEST, TWO, **OPTIONS) for _ in range(2))
    assert [one.top5 for one in first] == [(0.5, 0.5), (0.6, 0.6)]
    assert [one.top5 for one in second] == [(0.5, 0.5), None]


@pytest.mark.parametrize(
    "changed",
    [
        {"sets": stripes(12, seed=5)},
        {"test": stripes(30, seed=2)},
        {"protocol": replace(TWO, lr=0.06)},
        {"normalization": Normalization(mean=(0.5, 0.5, 0.5))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_trainings_of_something_else_are_not_taken(tmp_path, trainings, changed):
    call = {"sets": stripes(12), "test": TEST, "protocol": TWO, **OPTIONS}
    evaluate_sets(**call, trainings=tmp_path)
    trainings.clear()
    evaluate_sets(**{**call, **changed}, trainings=tmp_path)
    assert len(trainings) == 4


def test_a_killed_evaluation_keeps_the_trainings_that_were_finished(tmp_path, monkeypatch):
    train, calls = evaluate.train_together, []

    def killed(*args, **kwargs):
        calls.append(kwargs["seeds"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(evaluate, "train_together", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_sets(stripes(12), TEST, TWO, trainings=tmp_path, **OPTIONS)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_set_may_be_drawn_for_each_seed_and_equal_sets_are_trained_on_once(trainings):
    sets = {"one": drawn, "again": drawn, "fixed": drawn(0)}
    found = by_set(evaluate_sets(sets, TEST, protocol(), **OPTIONS))
    assert found["one"] == replace(found["again"], set="one")
    assert found["one"].hashes == (set_hash(drawn(0)), set_hash(drawn(1)))
    assert found["fixed"].accuracies[0] == found["one"].accuracies[0]
    assert sorted(trainings) == [("convnet3@4", 0), ("convnet3@4", 1), ("convnet3@4", 1)]


def test_a_set_is_trained_in_its_own_cells_and_scored_on_the_part_that_the_protocol_crops(
    monkeypatch,
):
    cells, crops = {}, []

    def training(sets, student, own, *_, **__):
        cells[sets[0].grid] = own.views.cells
        return [student]

    def scoring(network, setting, *, crop):
        crops.append(crop)
        return Accuracy(0.5, None)

    monkeypatch.setattr(evaluate, "train_together", training)
    monkeypatch.setattr(evaluate, "accuracy", scoring)
    data = stripes(12)
    sets = {
        f"grid {grid}": SyntheticSet(data.images, data.labels, data.class_names, grid=grid)
        for grid in (1, 2)
    }
    chosen = protocol(seeds=1, views=Views(crop=(0.5, 1.0), cells=2), test_crop=0.75)
    evaluate_sets(sets, TEST, chosen, **OPTIONS)
    assert cells == {1: None, 2: 2} and crops == [0.75, 0.75]


def test_a_seed_trains_on_the_set_that_was_drawn_for_it(monkeypatch):
    seen, train = [], evaluate.train_together

    def seeing(sets, *others, seeds, **options):
        seen.extend(zip(seeds, map(set_hash, sets), strict=True))
        return train(sets, *others, seeds=seeds, **options)

    monkeypatch.setattr(evaluate, "train_together", seeing)
    evaluate_sets({"drawn": drawn}, TEST, protocol(), **OPTIONS)
    assert sorted(seen) == [(0, set_hash(drawn(0))), (1, set_hash(drawn(1)))]


def test_wrong_classes_or_students_are_refused_before_anything_is_trained(trainings):
    other = replace(stripes(6), class_names=("columns", "rows", "chessboard"))
    with pytest.raises(InputError, match="class 0 is 'columns' in the distilled set"):
        evaluate_sets(other, TEST, TWO, **OPTIONS)
    large = protocol(students=["convnet3@4", "resnet18@2"])
    with pytest.raises(InputError, match="resnet18@2 takes images of 16 px or more, got 8 px"):
        evaluate_sets(stripes(6), TEST, large, **OPTIONS)
    assert trainings == []


@pytest.mark.smoke
@pytest.mark.slow
def test_two_processes_share_the_trainings_and_agree_with_one(tmp_path, trainings):
    alone = [one.accuracies for one in evaluate_sets(stripes(12), TEST, TWO, **OPTIONS)]
    run_two("tests.evaluate.two_processes", tmp_path)
    done = [json.loads((tmp_path / f"{rank}.txt").read_text()) for rank in (0, 1)]
    assert [one["accuracies"] for one in done] == [[list(each) for each in alone]] * 2
    first, second = sorted((one["trainings"] for one in done), key=len)
    assert first == [list(trainings[0])]  # the longest, which is made to last
    assert second == [list(each) for each in trainings[1:]]
    assert len(list((tmp_path / "rows").glob("*.json"))) == 4


def test_the_longest_trainings_come_first(trainings):
    small_first = protocol(students=["convnet3@2", "convnet3@8", "convnet3@4"], steps=1)
    results = evaluate_sets(stripes(12), TEST, small_first, **OPTIONS)
    wide, middle, narrow = "convnet3@8", "convnet3@4", "convnet3@2"
    assert trainings == [(s, i) for s in (wide, middle, narrow) for i in (0, 1)]
    assert [one.student for one in results] == small_first.students


def test_random_rows_are_drawn_by_seed_and_full_is_all():
    coreset = TRAIN.select((TRAIN.hashes < 30).nonzero().squeeze(1))
    rows = ["distilled", "random", "coreset", "kept", "full"]
    sets = with_baselines({"distilled": stripes(6)}, rows, 2, train=TRAIN, coreset=coreset)
    assert list(sets) == rows
    found = by_set(evaluate_sets(sets, TEST, protocol(steps=1), **OPTIONS))
    for name, source in [("random", TRAIN), ("coreset", coreset)]:
        hashes = tuple(set_hash(random_images(source, 2, seed)) for seed in (0, 1))
        assert found[name].hashes == hashes
    assert found["full"].hashes == (set_hash(TRAIN),) * 2
    assert found["kept"].hashes == (set_hash(coreset),) * 2


def test_the_sets_in_question_stand_in_the_place_of_distilled():
    sets = {"one": stripes(6, seed=5), "two": stripes(6, seed=6)}
    rows = ["random", "distilled", "full"]
    assert list(with_baselines(sets, rows, 2, train=TRAIN)) == ["random", "one", "two", "full"]


@pytest.mark.parametrize("name", ["random", "coreset", "kept", "full"])
def test_a_set_with_the_name_of_a_baseline_is_refused(name):
    with pytest.raises(InputError, match=f"a set is called '{name}', and so is a row beside it"):
        with_baselines({name: stripes(6)}, ["distilled"], 2)


def test_without_pruning_the_core_set_row_costs_nothing(tmp_path):
    sets = with_baselines({}, ["random", "coreset"], 2, train=TRAIN, coreset=TRAIN)
    found = by_set(evaluate_sets(sets, TEST, protocol(), trainings=tmp_path, **OPTIONS))
    assert found["random"] == replace(found["coreset"], set="random")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_row_without_images_is_left_out_and_said(capsys):
    warn.cache_clear()
    rows = ["distilled", "random", "coreset", "full"]
    assert list(with_baselines({"distilled": stripes(6)}, rows, 2)) == ["distilled"]
    said = capsys.readouterr().err
    assert "the row 'random' is left out: no real training images were given." in said
    assert "the row 'coreset' is left out: no core set was given." in said
    with pytest.raises(InputError, match="none of the rows"):
        with_baselines({}, rows, 2)


def test_random_rows_have_as_many_images_of_each_class_as_the_set():
    uneven = TRAIN.select(torch.cat([TRAIN.members(0)[:1], TRAIN.members(2)[:3]]))
    sets = with_baselines({"uneven": uneven}, ["distilled", "random"], [1, 0, 3], train=TRAIN)
    found = by_set(evaluate_sets(sets, TEST, ONE, **OPTIONS))
    assert found["random"].hashes == (set_hash(random_images(TRAIN, [1, 0, 3], 0)),)
    assert found["random"].counts == found["uneven"].counts is not None
    assert found["random"].ipc == 2  # 4 images of 3 classes
    turned = TRAIN.select(torch.cat([TRAIN.members(0)[:3], TRAIN.members(2)[:1]]))
    (other,) = evaluate_sets({"turned": turned}, TEST, ONE, **OPTIONS)
    assert other.counts != found["uneven"].counts  # other classes have these numbers


def test_bytes_of_small_sets_stand_beside_their_numbers():
    one, flat = stripes(6, seed=5), TRAIN.images.clone()
    flat[::2] = 0  # so that random images of each seed have other bytes
    train = replace(TRAIN, images=flat)
    sets = with_baselines({"distilled": one}, ["distilled", "random", "full"], 2, train=train)
    found = by_set(evaluate_sets(sets, TEST, protocol(steps=1), **OPTIONS))
    png = sum(len(encode(image)) for image in one.images)
    random, other = (
        sum(len(encode(image)) for image in random_images(train, 2, seed).images) for seed in (0, 1)
    )
    assert random != other
    assert [result.image_bytes for result in found.values()][::-1] == [png, random, None]


def test_images_are_encoded_once_for_all_protocols(monkeypatch):
    monkeypatch.setattr(evaluate, "_BYTES", {})
    found = []
    monkeypatch.setattr(
        files, "encode", lambda image, encode=files.encode: found.append(1) or encode(image)
    )
    sets = with_baselines(
        {"distilled": stripes(6, seed=5)}, ["distilled", "random"], 2, train=TRAIN
    )
    for steps in (1, 2):
        evaluate_sets(sets, TEST, replace(ONE, steps=steps), **OPTIONS)
    assert len(found) == 6 + 2 * TRAIN.num_classes


def distilled(network, seed):
    made = SyntheticSet.from_real(stripes(6, seed=seed))
    return replace(made, provenance={"method": "matching", "network": network})


def test_each_set_has_students_of_its_own_that_it_was_not_distilled_with_at_any_width():
    some = protocol(students=["convnet3@4", "alexnet@2", "vgg11@2"], seeds=1, steps=1)
    sets = {"one": distilled("convnet3", 0), "two": distilled("alexnet@8", 1), "random": drawn}
    for name, scale in (("guided", 5.0), ("unguided", 0.0)):
        influence = {"influence": {"network": "convnet3@2", "scale": scale}}
        sets[name] = replace(distilled("", 2), provenance={"settings": influence})
    for name, facts in (("asked", {"classifier": "vgg11@4"}), ("chosen", {"networks": ["vgg11"]})):
        sets[name] = replace(distilled("", 3), provenance={"method": "selection", **facts})
    results = evaluate_sets({**sets, "real": stripes(6)}, TEST, some, **OPTIONS)
    unseen = {}
    for result in results:
        unseen.setdefault(result.set, []).extend([result.student] * result.unseen)
    assert unseen == {
        "one": ["alexnet@2", "vgg11@2"],
        "two": ["convnet3@4", "vgg11@2"],
        "guided": ["alexnet@2", "vgg11@2"],
        "unguided": some.students,
        "asked": ["convnet3@4", "alexnet@2"],
        "chosen": ["convnet3@4", "alexnet@2"],
        "random": [],
        "real": some.students,
    }
