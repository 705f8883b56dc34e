import importlib
import os
import sys
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

from latentdc.augment.views import draw_views, view
from latentdc.errors import InputError, RunError
from latentdc.evaluate import evaluate, teachers
from latentdc.evaluate.evaluate import evaluate_sets, score_sets
from latentdc.evaluate.label_store import decode
from latentdc.evaluate.soft_labels import open_labelling
from latentdc.evaluate.teachers import Ensemble, open_teacher, require_given_teachers
from latentdc.evaluate.training import train_student
from latentdc.io import save_tensors
from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.synthetic_set import set_hash
from tests.evaluate.toys import TEST, protocol, setting, stripes
from tests.processes import run_two

TRAIN, SMALL = stripes(60, seed=3), SyntheticSet.from_real(stripes(9, seed=5))
QUICK = Teacher(network="convnet3@8", epochs=40, lr=0.05, batch=10)
VIEWS = Views(pad=1, flip=True, mix="cutmix")
CPU = torch.device("cpu")


def softly(source, **changes):
    labels = Labels(source=source, loss="kl", temperature=4.0, teachers=[QUICK], **changes)
    return protocol(steps=None, epochs=4, batch=4, views=VIEWS, labels=labels)


def opened(some, folder=None, test=TEST, **changes):
    return open_labelling(some.resolve(9, 3), setting(test, train=TRAIN, folder=folder, **changes))


def logits(some, epoch, rows, folder=None, seed=0):
    """Of the views that a training of seed 0 sees, by whatever source."""
    labelling, digest = opened(some, folder), set_hash(SMALL)
    labelling.prepare({digest: SMALL}, [digest])
    soft = labelling.soft_labels(SMALL, digest)
    seed, epoch = soft.replay(seed, epoch)
    drawn = draw_views(some.views, count=9, size=8, seed=seed, epoch=epoch)
    return soft.logits(rows, drawn, view(SMALL.images, rows, drawn, CPU))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Keeps the trained teacher between the tests."""
    return tmp_path_factory.mktemp("run") / "rows"


@pytest.mark.parametrize("batch", [9, 4, 1])
def test_stored_labels_are_the_teachers_of_the_replayed_views_whatever_the_batch(folder, batch):
    for epoch in (0, 3):
        for rows in torch.randperm(9).split(batch):
            online = logits(softly("online"), epoch, rows, folder)
            stored = logits(softly("stored"), epoch, rows, folder)
            torch.testing.assert_close(stored, online, atol=0.02, rtol=2e-3)  # half precision


def test_a_store_depends_on_set_views_and_teachers_but_not_on_loss_or_batch(folder):
    one = opened(softly("stored"), folder).store("a", SMALL)
    other_loss = replace(softly("stored"), labels=replace(softly("stored").labels, loss="mse"))
    assert opened(other_loss, folder).store("a", SMALL) == one
    flipped = replace(softly("stored"), views=replace(VIEWS, flip=False))
    assert opened(flipped, folder).store("a", SMALL) != one
    assert opened(softly("stored"), folder).store("b", SMALL) != one
    for form in ({"precision": "uint8"}, {"top": 2}, {"epochs": 1}):
        other = replace(softly("stored"), labels=replace(softly("stored").labels, **form))
        assert opened(other, folder).store("a", SMALL) != one


def test_a_store_depends_on_what_teachers_see(folder, tmp_path):
    (teacher,) = opened(softly("online"), folder).teachers.teachers
    path = tmp_path / "teacher.safetensors"
    save_file(dict(teacher.network.state_dict()), path)

    def store(normalization=None, **changes):
        normalization = normalization or Normalization()
        given = Teacher(network="convnet3@8", weights=str(path), **changes)
        some = softly("stored")
        some = replace(some, labels=replace(some.labels, teachers=[given]))
        return opened(some, tmp_path / "rows", normalization=normalization).store("a", SMALL)

    plain = store()
    assert store() == plain
    assert store(mean=(0.4, 0.5, 0.5)) != plain
    assert store(resolution=8) == plain, "the size of the images, which is what null takes"
    assert store(normalization=Normalization(std=(0.3, 0.3, 0.3))) != plain


OWN_TEACHER = """
from torch import nn


class Teacher(nn.Module):
    def __init__(self, num_classes, resolution):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(4 * (resolution - 2) ** 2, num_classes)

    def forward(self, images):
        return self.head(self.body(images))
"""


def test_a_store_depends_on_the_code_of_teachers_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    weights, module = tmp_path / "own.safetensors", tmp_path / "own_teacher_for_test.py"
    some, found = softly("stored"), []
    for code in (OWN_TEACHER, OWN_TEACHER.replace("Tanh", "ReLU")):
        module.write_text(code)
        importlib.invalidate_caches()
        sys.modules.pop("own_teacher_for_test", None)
        own = Teacher(network="own_teacher_for_test:Teacher", epochs=40, lr=0.02, batch=10)
        if not weights.exists():
            trained = open_teacher(own, some, setting(train=TRAIN)).network
            save_file(dict(trained.state_dict()), weights)
        given = replace(own, weights=str(weights))
        labels = replace(some.labels, teachers=[given])
        monkeypatch.setattr(teachers, "known_accuracy", lambda *_: 1.0)
        found.append(opened(replace(some, labels=labels), tmp_path / "rows").store("a", SMALL))
    sys.modules.pop("own_teacher_for_test", None)
    assert found[0] != found[1]


def test_a_teacher_is_trained_once_on_each_set_of_real_images_in_views_that_are_not_mixed(
    tmp_path, monkeypatch
):
    seen = []

    def training(one, network, learning, *_, **__):
        seen.append((set_hash(one), learning.views))
        return new_network(network, num_classes=3, resolution=8, seed=0)

    monkeypatch.setattr(teachers, "train_student", training)
    some = softly("online").resolve(9, 3)
    for train in (TRAIN, stripes(60, seed=4), TRAIN):
        surround = setting(train=train, folder=tmp_path / "rows")
        open_teacher(some.labels.teachers[0], some, surround)
    plain = replace(VIEWS, mix=None)
    assert seen == [(set_hash(TRAIN), plain), (set_hash(stripes(60, seed=4)), plain)]


def test_a_teacher_that_was_trained_in_another_precision_is_not_taken(tmp_path):
    some, hashes = softly("online"), {}
    short = replace(some, labels=replace(some.labels, teachers=[replace(QUICK, epochs=9)]))
    for precision, folder in (("no", "both"), ("bf16", "both"), ("bf16", "alone")):
        AcceleratorState._reset_state()
        accelerator = Accelerator(mixed_precision=precision)
        found = opened(short, tmp_path / folder, accelerator=accelerator).hash
        hashes[precision, folder] = found
    AcceleratorState._reset_state()
    assert hashes["bf16", "both"] == hashes["bf16", "alone"] != hashes["no", "both"]


def test_no_trained_teacher_starts_where_a_student_or_another_one_does(monkeypatch):
    seeds = []

    def record(train, network, *_, seed, **__):
        seeds.append(seed)
        return new_network(network, num_classes=3, resolution=8, seed=seed)

    monkeypatch.setattr(teachers, "train_student", record)
    monkeypatch.setattr(teachers, "known_accuracy", lambda *_: 1.0)
    some = softly("online")
    labelling = opened(replace(some, labels=replace(some.labels, teachers=[QUICK, QUICK])))
    assert len(set(seeds)) == 2 and max(seeds) < 0  # students have 0, 1, ...
    one, two = labelling.teachers.teachers
    assert not torch.equal(one.network.linear.weight, two.network.linear.weight)


@pytest.mark.parametrize("source", ["stored", "online"])
def test_how_often_teachers_name_views_as_the_set_does_is_told(folder, source):
    labelling = opened(softly(source), folder)
    rows, right = torch.arange(9), []
    for epoch in range(56):  # 56 x 9 views are the first from 500
        drawn = draw_views(VIEWS, count=9, size=8, seed=0, epoch=epoch)
        named = labelling.teachers(view(SMALL.images, rows, drawn, CPU)).argmax(dim=1)
        right += (named == SMALL.labels).tolist()
    found = labelling.facts((set_hash(SMALL),), SMALL)["teacher_accuracy_on_views"]
    assert found == pytest.approx(sum(right) / len(right))
    assert 0.5 < found < 1  # mixtures carry the name of one of their images


def test_labels_of_whole_images_are_compared_on_whole_images(folder):
    labelling = opened(softly("fixed"), folder)
    wrong = replace(SMALL, labels=(SMALL.labels + 1) % 3)
    digest = (set_hash(SMALL),)
    assert labelling.facts(digest, SMALL)["teacher_accuracy_on_views"] == 1
    assert labelling.facts(digest, wrong)["teacher_accuracy_on_views"] == 0


def test_pruned_labels_come_from_the_stored_epochs(folder):
    some = softly("stored", epochs=2)
    labelling, digest = opened(some, folder), set_hash(SMALL)
    labelling.prepare({digest: SMALL}, [digest])
    soft = labelling.soft_labels(SMALL, digest)
    assert {soft.replay(7, epoch) for epoch in range(4)} <= {(0, 0), (0, 1)}
    store = labelling.store(digest, SMALL)
    assert sorted(p.name for p in store.folder.glob("epoch*")) == [
        "epoch-00000.safetensors",
        "epoch-00001.safetensors",
    ]
    _, epoch = soft.replay(7, 3)
    rows = torch.tensor([2, 8])
    expected = decode(store.read(epoch), rows, 3)
    assert torch.equal(soft.logits(rows, {}, torch.empty(0)), expected)


def test_fixed_labels_are_of_the_images_as_they_are_and_mixed_with_them(folder):
    labelling, rows = opened(softly("fixed"), folder), torch.tensor([4, 0, 8, 3])
    soft = labelling.soft_labels(SMALL, "any")
    plain = labelling.teachers(view(SMALL.images, torch.arange(9), {}, CPU))
    torch.testing.assert_close(soft.logits(rows, {}, torch.empty(0)), plain[rows])
    drawn = draw_views(VIEWS, count=9, size=8, seed=1, epoch=2)
    mixed = soft.logits(rows, drawn, torch.empty(0))
    parts = (plain / 4).softmax(dim=1)
    kept = drawn["kept"][rows, None]
    expected = kept * parts[rows] + (1 - kept) * parts[drawn["partner"][rows]]
    torch.testing.assert_close((mixed / 4).softmax(dim=1), expected)


def test_teachers_are_averaged_in_eval_mode_and_trained_once(folder, monkeypatch):
    labelling = opened(softly("online"), folder)
    monkeypatch.setattr("latentdc.evaluate.teachers.train_student", None)
    again = opened(softly("online"), folder)
    assert again.hash == labelling.hash and again.accuracy == labelling.accuracy > 0.8
    images = torch.randn(4, 3, 8, 8)
    (one,) = labelling.teachers.teachers
    other = new_network("convnet3@8", num_classes=3, resolution=8, seed=7)
    both = Ensemble([one, other])
    assert not other.training
    torch.testing.assert_close(
        both(images), (one(images) + other(images)) / 2, rtol=1e-4, atol=1e-4
    )
    assert not both(images).requires_grad


def test_students_learn_from_soft_labels_and_restart_without_training(folder):
    some = replace(softly("stored"), epochs=60, batch=30, lr=0.05, students=["convnet3@8"])
    some = replace(some, labels=replace(some.labels, temperature=1.0), views=Views(flip=True))
    options = {"normalization": Normalization(), "train": TRAIN, "trainings": folder}
    data = stripes(30, seed=6)
    (score,) = evaluate_sets(data, TEST, some, **options)
    assert min(score.accuracies) > 0.6
    assert score.labels["source"] == "stored" and score.labels["label_bytes"] > 60 * 30 * 3 * 2
    finished = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*.safetensors")}
    assert evaluate_sets(data, TEST, some, **options) == [score]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_damaged_labels_are_refused_before_any_training(folder, monkeypatch):
    labelling, digest = opened(softly("stored", epochs=2), folder), set_hash(SMALL)
    labelling.prepare({digest: SMALL}, [digest])
    path = labelling.store(digest, SMALL).path(1)
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 4]) + content[-2:])
    monkeypatch.setattr(evaluate, "train_together", None)
    options = {"normalization": Normalization(), "train": TRAIN, "trainings": folder}
    with pytest.raises(InputError, match=r"epoch-00001.*not as it was written; delete the file"):
        evaluate_sets(SMALL, TEST, softly("stored", epochs=2), **options)


@pytest.mark.parametrize("swapped", ["folders", "files"])
def test_labels_swapped_with_those_of_other_images_are_refused_before_any_training(
    tmp_path, monkeypatch, swapped
):
    some, sets = softly("stored", epochs=1), {"one": SMALL, "two": stripes(9, seed=8)}
    options = {"normalization": Normalization(), "train": TRAIN, "trainings": tmp_path / "rows"}
    evaluate_sets(sets, TEST, some, **options)
    one, two = sorted((tmp_path / "labels").iterdir())
    if swapped == "files":
        one, two = (folder / "epoch-00000.safetensors" for folder in (one, two))
    one.rename(tmp_path / "aside"), two.rename(one), (tmp_path / "aside").rename(two)
    for path in (tmp_path / "rows").glob("*.json"):
        path.unlink()
    monkeypatch.setattr(evaluate, "train_together", None)
    with pytest.raises(InputError, match=r"of another set: set is|it is of another set, prot"):
        evaluate_sets(sets, TEST, some, **options)


def test_a_folder_of_labels_that_a_full_disk_left_empty_is_filled(tmp_path):
    options = {"normalization": Normalization(), "train": TRAIN, "trainings": tmp_path / "rows"}
    some, digest = softly("stored", epochs=1), set_hash(SMALL)
    labelling = opened(some, tmp_path / "rows")
    store = labelling.store(digest, SMALL)
    store.folder.mkdir(parents=True)
    evaluate_sets(SMALL, TEST, some, **options)
    assert store.bytes() > 0


def test_stored_labels_of_earlier_versions_are_read(folder):
    labelling, digest = opened(softly("stored", epochs=1), folder), set_hash(SMALL)
    labelling.prepare({digest: SMALL}, [digest])
    store = labelling.store(digest, SMALL)
    kept = store.read(0)
    save_tensors(store.path(0), kept)  # without what they are of
    assert store.read(0).keys() == kept.keys()


def test_a_damaged_teacher_is_said_and_trained_again(tmp_path, capsys):
    some = softly("online")
    some = replace(some, labels=replace(some.labels, teachers=[replace(QUICK, epochs=8)]))
    labelling = opened(some, tmp_path)
    (path,) = tmp_path.glob("teacher-*.safetensors")
    content = path.read_bytes()
    for damaged in (content[:-2] + bytes([content[-2] ^ 1]) + content[-1:], content[:99], b""):
        path.write_bytes(damaged)
        assert opened(some, tmp_path).hash == labelling.hash
        told = capsys.readouterr().err
        assert "is damaged" in told and "is made again" in told
        assert path.read_bytes() == content


def test_given_labels_are_linked_to_and_those_of_another_set_refused_before_any_training(
    folder, tmp_path, monkeypatch
):
    some, digest = softly("stored", epochs=1), set_hash(SMALL)
    labelling = opened(some, folder)
    labelling.prepare({digest: SMALL}, [digest])
    lying = labelling.store(digest, SMALL).folder
    elsewhere = replace(labelling, setting=setting(folder=tmp_path / "rows"))
    elsewhere.prepare({digest: SMALL}, [], lying)
    store = elsewhere.store(digest, SMALL)
    assert store.folder.readlink() == lying
    assert store.bytes() == labelling.store(digest, SMALL).bytes() > 0
    monkeypatch.setattr(evaluate, "train_together", None)
    monkeypatch.setattr(teachers, "train_student", None)
    other = {"other": stripes(9, seed=8)}
    with pytest.raises(InputError, match=r"of another set: set is .* there and .* here"):
        score_sets(other, some, setting(train=TRAIN, folder=tmp_path), labels=lying)
    (lying / "epoch-00000.safetensors").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=r"lack 1 of 1 epochs, such as epoch-00000.* cannot be wr"):
        score_sets({"own": SMALL}, some, setting(train=TRAIN, folder=tmp_path), labels=lying)


def test_a_teacher_with_its_classes_in_another_order_is_refused(folder, tmp_path, monkeypatch):
    labelling = opened(softly("online"), folder)
    (teacher,) = labelling.teachers.teachers
    state = {key: value.clone() for key, value in teacher.network.state_dict().items()}
    for key in ("linear.weight", "linear.bias"):
        state[key] = state[key].roll(1, dims=0)
    save_file(state, tmp_path / "rolled.safetensors")
    rolled = Teacher(network="convnet3@8", weights=str(tmp_path / "rolled.safetensors"))
    monkeypatch.setattr(evaluate, "train_together", None)
    wrong = replace(softly("online"), labels=replace(softly("online").labels, teachers=[rolled]))
    with pytest.raises(InputError, match=r"rightly; chance is 33.33%, .* in another order"):
        evaluate_sets(SMALL, TEST, wrong, normalization=Normalization())


def test_the_classes_of_which_a_larger_teacher_speaks_are_part_of_the_protocols_hash(
    folder, tmp_path
):
    (teacher,) = opened(softly("online"), folder).teachers.teachers
    state, path = dict(teacher.network.state_dict()), tmp_path / "imagenet.safetensors"
    for key in ("linear.weight", "linear.bias"):
        known = state[key].clone()
        state[key] = torch.full((1000, *known.shape[1:]), 9.0)  # would be named instead of ours
        state[key][[701, 0, 491]] = known
    save_file(state, path)
    larger = Teacher(network="convnet3@8", weights=str(path))
    some = replace(softly("fixed"), labels=replace(softly("fixed").labels, teachers=[larger]))
    names = ("parachute", "tench", "chain saw")
    test, small = replace(TEST, class_names=names), replace(SMALL, class_names=names)
    labelling = opened(some, test=test)
    assert labelling.accuracy == opened(softly("online"), folder).accuracy
    assert labelling.protocol.labels.restricted_to == list(names)
    (score,) = evaluate_sets(small, test, some, normalization=Normalization())
    assert score.protocol_hash == labelling.protocol.hash != some.resolve(9, 3).hash
    same = replace(some, labels=labelling.protocol.labels)
    assert opened(same, test=test).protocol.hash == score.protocol_hash
    with pytest.raises(InputError, match="names 3 classes that are not the data set's 3"):
        opened(same, test=replace(test, class_names=("tench", "parachute", "chain saw")))


def test_a_teacher_of_the_sets_own_classes_leaves_the_protocol_as_it_is(folder):
    some = softly("online")
    assert opened(some, folder).protocol == some.resolve(9, 3)


def test_a_set_that_does_not_fit_is_refused_before_a_teacher_is_trained(monkeypatch):
    monkeypatch.setattr(teachers, "train_student", None)
    other = replace(SMALL, class_names=("columns", "rows", "chessboard"))
    with pytest.raises(InputError, match="class 0 is 'columns'"):
        evaluate_sets(other, TEST, softly("online"), normalization=Normalization(), train=TRAIN)


def test_a_teacher_that_cannot_be_had_is_refused(tmp_path):
    with pytest.raises(InputError, match="no weights and there are no real training images"):
        open_teacher(QUICK, softly("online"), setting())
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    odd = Teacher(network="convnet3@4", weights=str(tmp_path / "x.safetensors"))
    with pytest.raises(InputError, match=r"does not fit convnet3@4 .* in labels.teachers"):
        open_teacher(odd, softly("online"), setting())
    pretrained = Teacher(network="resnet18", weights="torchvision")
    with pytest.raises(InputError, match="ImageNet-1k has no class 'rows'"):
        open_teacher(pretrained, softly("online"), setting())
    with pytest.raises(InputError, match=r"there is no file nowhere\.safetensors"):
        Teacher(network="convnet3", weights="nowhere.safetensors")


def test_given_teachers_are_tried_before_anything_else_is_done(folder, tmp_path):
    (teacher,) = opened(softly("online"), folder).teachers.teachers
    path = tmp_path / "teacher.safetensors"
    save_file(dict(teacher.network.state_dict()), path)
    good = Teacher(network="convnet3@8", weights=str(path))
    pretrained = Teacher(network="resnet18", weights="torchvision")

    def require(*some, test=TEST):
        labels = replace(softly("online").labels, teachers=list(some))
        require_given_teachers(replace(softly("online"), labels=labels), setting(test))

    require(good), require(QUICK), require(good, QUICK)  # QUICK is yet to be trained
    with pytest.raises(InputError, match="ImageNet-1k has no class 'rows'"):
        require(QUICK, pretrained)
    with pytest.raises(InputError, match=r"chance is 33.33%"):
        require(good, test=replace(TEST, labels=(TEST.labels + 1) % 3))


def test_stored_labels_without_a_folder_are_refused_before_a_teacher_is_trained(monkeypatch):
    monkeypatch.setattr(teachers, "train_student", None)
    with pytest.raises(InputError, match="stored labels need a folder"):
        opened(softly("stored"))


def test_soft_labels_that_diverge_end_the_run(folder):
    settings = replace(softly("online"), lr=1e30).resolve(9, 3)
    labelling = opened(softly("online"), folder)
    with pytest.raises(RunError, match="ended with a loss of nan"):
        train_student(
            SMALL,
            "convnet3@4",
            settings,
            setting(),
            seed=0,
            soft=labelling.soft_labels(SMALL, "any"),
        )


@pytest.mark.slow
def test_two_processes_store_and_learn_what_one_does(tmp_path):
    some = softly("stored")
    options = {"normalization": Normalization(), "train": TRAIN}
    options["trainings"] = tmp_path / "one" / "rows"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the two, since labels are named by their teachers' weights
    (alone,) = evaluate_sets(SMALL, TEST, some, **options)
    torch.set_num_threads(threads)
    run_two("tests.evaluate.two_labelling", tmp_path)
    for index in (0, 1):
        assert (tmp_path / f"{index}.txt").read_text() == str(alone.accuracies)
    for path in (tmp_path / "one" / "labels").rglob("*"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.is_dir() or path.read_bytes() == twin.read_bytes()
