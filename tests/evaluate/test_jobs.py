from dataclasses import replace

import pytest

from latentdc.errors import InputError
from latentdc.evaluate import evaluate, job
from latentdc.evaluate.accuracy import Accuracy
from latentdc.evaluate.jobs import score_sets
from latentdc.images import Normalization
from latentdc.synthetic.synthetic_set import set_hash
from tests.evaluate.toys import TEST, TWO, protocol, stripes
from tests.processes import run_two

OPTIONS = {"normalization": Normalization()}


@pytest.fixture
def trainings(monkeypatch):
    """(student, seed) of every training, in order."""
    done = []
    train = job.train_student

    def counting(labelled, network, protocol, *, seed, **others):
        done.append((network, seed))
        return train(labelled, network, protocol, seed=seed, **others)

    monkeypatch.setattr(job, "train_student", counting)
    return done


def drawn(seed):
    return stripes(9, seed=10 + seed)


def test_a_score_has_an_accuracy_of_each_student_and_seed(trainings):
    data = stripes(12)
    score = evaluate(data, TEST, TWO, **OPTIONS)
    assert sorted(trainings) == [(s, i) for s in ("alexnet@2", "convnet3@4") for i in (0, 1)]
    assert {len(values) for values in score.accuracies.values()} == {2}
    assert list(score.accuracies) == TWO.students
    assert score.sets == (set_hash(data),) * 2 and score.protocol == TWO
    assert score == evaluate(data, TEST, TWO, **OPTIONS)


def test_epochs_are_counted_on_the_given_set():
    score = evaluate(stripes(20), TEST, protocol(steps=None, epochs=2, seeds=1), **OPTIONS)
    assert score.protocol.steps == 6


def test_a_restarted_evaluation_trains_only_what_is_missing(tmp_path, trainings):
    first = evaluate(stripes(12), TEST, TWO, rows=tmp_path, **OPTIONS)
    (lost,) = tmp_path.glob("*-alexnet@2-1.json")
    lost.unlink()
    trainings.clear()
    assert evaluate(stripes(12), TEST, TWO, rows=tmp_path, **OPTIONS) == first
    assert trainings == [("alexnet@2", 1)]
    assert lost.exists()


def test_top_5_of_a_student_is_kept_where_every_seed_has_it(tmp_path, monkeypatch):
    every = [Accuracy(0.1, 0.5), Accuracy(0.2, 0.6)] * 2
    found = iter(every)
    monkeypatch.setattr(job, "accuracy", lambda *args, **kwargs: next(found))
    score = evaluate(stripes(12), TEST, TWO, rows=tmp_path, **OPTIONS)
    assert score.top5 == {"convnet3@4": (0.5, 0.5), "alexnet@2": (0.6, 0.6)}
    found = iter([*every[:3], Accuracy(0.2)])  # of five classes or fewer
    again = evaluate(stripes(12), TEST, TWO, **OPTIONS)
    assert again.accuracies == score.accuracies and list(again.top5) == ["convnet3@4"]


@pytest.mark.parametrize(
    "changed",
    [
        {"labelled": stripes(12, seed=5)},
        {"test": stripes(30, seed=2)},
        {"protocol": replace(TWO, lr=0.06)},
        {"normalization": Normalization(mean=(0.5, 0.5, 0.5))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_rows_of_something_else_are_not_taken(tmp_path, trainings, changed):
    call = {"labelled": stripes(12), "test": TEST, "protocol": TWO, **OPTIONS}
    evaluate(**call, rows=tmp_path)
    trainings.clear()
    evaluate(**{**call, **changed}, rows=tmp_path)
    assert len(trainings) == 4


def test_a_killed_evaluation_keeps_the_rows_that_were_finished(tmp_path, monkeypatch):
    train, calls = job.train_student, []

    def killed(*args, **kwargs):
        calls.append(kwargs["seed"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(job, "train_student", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(stripes(12), TEST, TWO, rows=tmp_path, **OPTIONS)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_set_may_be_drawn_for_each_seed_and_equal_sets_are_trained_on_once(trainings):
    scores = score_sets(
        {"one": drawn, "again": drawn, "fixed": drawn(0)}, TEST, protocol(), **OPTIONS
    )
    assert scores["one"] == scores["again"]
    assert scores["one"].sets == (set_hash(drawn(0)), set_hash(drawn(1)))
    assert scores["fixed"].accuracies["convnet3@4"][0] == scores["one"].accuracies["convnet3@4"][0]
    assert sorted(trainings) == [("convnet3@4", 0), ("convnet3@4", 1), ("convnet3@4", 1)]


def test_wrong_classes_or_students_are_refused_before_anything_is_trained(trainings):
    other = replace(stripes(6), class_names=("columns", "rows", "chessboard"))
    with pytest.raises(InputError, match="class 0 is 'columns' in the given set"):
        evaluate(other, TEST, TWO, **OPTIONS)
    with pytest.raises(InputError, match="resnet18@2 takes images of 16 px or more, got 8 px"):
        evaluate(stripes(6), TEST, protocol(students=["convnet3@4", "resnet18@2"]), **OPTIONS)
    assert trainings == []


@pytest.mark.smoke
@pytest.mark.slow
def test_two_processes_share_the_trainings_and_agree_with_one(tmp_path, trainings):
    alone = evaluate(stripes(12), TEST, TWO, **OPTIONS)
    run_two("tests.evaluate.two_processes", tmp_path)
    assert (tmp_path / "0.txt").read_text() == f"{trainings[::2]}{alone.accuracies}"
    assert (tmp_path / "1.txt").read_text() == f"{trainings[1::2]}{alone.accuracies}"
    assert len(list((tmp_path / "rows").glob("*.json"))) == 4
