import subprocess
import sys

import numpy as np
import pytest

from latentdc.errors import InputError
from latentdc.evaluate import load_protocol
from latentdc.recipe.labels import Labels, Teacher, Views
from tests.evaluate.toys import protocol


def test_ld3m_is_the_published_protocol():
    ld3m = load_protocol("ld3m")
    assert ld3m.students == ["convnet5", "resnet18", "vgg11", "alexnet", "vit"]
    assert (ld3m.seeds, ld3m.epochs, ld3m.batch, ld3m.ema) == (5, 1000, 256, 0.995)
    assert (ld3m.optimizer, ld3m.momentum, ld3m.weight_decay) == ("sgd", 0.9, 5e-4)
    assert [ld3m.lr_for(s) for s in ld3m.students] == [1e-3, 1e-3, 1e-4, 1e-3, 1e-3]


def test_a_student_of_ones_own_has_the_rate_that_is_given_for_it(tmp_path, monkeypatch):
    (tmp_path / "mine_rates.py").write_text("class Net: ...")
    monkeypatch.chdir(tmp_path)
    some = protocol(students=["mine_rates:Net"], lr=0.5, lr_of={"mine_rates:Net": 0.1})
    assert some.lr_for(some.students[0]) == 0.1
    assert some.hash != protocol(students=["mine_rates:Net"], lr=0.5).hash


def test_a_learning_rate_of_a_network_holds_at_any_width_unless_the_student_has_its_own():
    some = protocol(lr=0.1, lr_of={"vgg11": 0.01, "vgg11@8": 0.02})
    assert some.lr_for("convnet3") == 0.1
    assert some.lr_for("vgg11@16") == 0.01
    assert some.lr_for("vgg11@8") == 0.02


def test_epochs_become_steps_of_the_given_set():
    assert protocol(steps=None, epochs=10, batch=256).resolve(100, 10).steps == 10
    resolved = protocol(steps=None, epochs=10, batch=256).resolve(500, 10)
    assert (resolved.steps, resolved.epochs, resolved.update_every) == (20, None, 2)
    assert protocol(steps=7).resolve(10_000, 10) == protocol(steps=7)
    assert protocol(steps=None, epochs=2).resolve(np.int64(9), np.int64(3)).steps == 4
    part = protocol(steps=None, epochs=10, batch=256, subset=0.1).resolve(10_000, 10)
    assert (part.steps, part.update_every) == (10 * 4, 4)  # of 1000 images each


def test_batch_and_epochs_may_follow_from_the_images_per_class():
    rded = protocol(
        steps=None, epochs=300, batch_of_ipc={1: 10, 10: 50, 50: 100}, batch_double_from=100
    )
    batches = {(ipc, c): rded.resolve(ipc * c, c).batch for ipc in (1, 10, 50) for c in (10, 100)}
    assert batches == {
        **{(1, 10): 10, (10, 10): 50, (50, 10): 100},
        **{(1, 100): 20, (10, 100): 100, (50, 100): 200},
    }
    assert rded.resolve(20, 10).batch == 50 and rded.resolve(2000, 10).batch == 100
    minimax = protocol(steps=None, epochs_of_ipc={1: 3000, 10: 2000, 50: 1500}, batch=64)
    assert [minimax.resolve(10 * ipc, 10).steps for ipc in (1, 10, 50)] == [3000, 4000, 12_000]
    resolved = minimax.resolve(500, 10)
    assert resolved.epochs_of_ipc == {} and resolved.update_every == 8


def test_a_hash_follows_from_what_decides_one_training():
    plain = protocol()
    hashes = {plain.hash}
    assert len(plain.hash) == 12 and int(plain.hash, 16) >= 0
    assert plain.hash == protocol(name="other", students=["alexnet"], seeds=9).hash
    for change in [
        {"steps": 4},
        {"subset": 0.5},
        {"batch": 9},
        {"optimizer": "adamw"},
        {"lr": 0.02},
        {"lr_of": {"vgg11": 0.1}},
        {"momentum": 0.8},
        {"views": Views(pad=4)},
        {"views": Views(pad=4, pad_mode="reflect")},
        {"labels": Labels(source="online", loss="kl", soft_weight=4.0, teachers=[Teacher()])},
        {"weight_decay": 0.0},
        {"schedule": "constant"},
        {"augment": "flip"},
        {"ema": 0.9},
        {"update_every": 2},
        {"nesterov": True},
        {"decay": "matrices"},
        {"schedule": "linear"},
        {"zeta": 2.0},
        {"end": 0.1},
        {"warmup": 0.1},
        {"ema": 0.9, "ema_every": "step"},
        {"test_crop": 0.875},
        {"batch_of_ipc": {1: 10}},
        {"views": Views(flip=True)},
        {"views": Views(mix="cutmix")},
        {"labels": Labels(smoothing=0.1)},
        {"labels": Labels(source="online", teachers=[Teacher()])},
        {"labels": Labels(source="online", teachers=[Teacher(network="vit")])},
    ]:
        assert protocol(**change).hash not in hashes
        hashes.add(protocol(**change).hash)


TAUGHT = {"source": "online", "teachers": [Teacher()]}


@pytest.mark.parametrize(
    ("with_it", "without"),
    [
        ({"optimizer": "adamw", "momentum": 0.5}, {"optimizer": "adamw"}),
        ({"optimizer": "adamw", "nesterov": True}, {"optimizer": "adamw"}),
        ({"weight_decay": 0.0, "decay": "matrices"}, {"weight_decay": 0.0}),
        ({"schedule": "constant", "zeta": 2.0}, {"schedule": "constant"}),
        ({"schedule": "constant", "end": 0.5}, {"schedule": "constant"}),
        ({"schedule": "linear", "end": 0.5}, {"schedule": "linear"}),
        ({"schedule": "constant", "update_every": 7}, {"schedule": "constant"}),
        ({"weight_decay": -0.0, "momentum": -0.0}, {"weight_decay": 0.0, "momentum": 0.0}),
        ({"gamma": 0.5}, {}),
        ({"warmup_from": 0.5}, {}),
        ({"ema_every": "step"}, {}),
        ({"batch_double_from": 100}, {}),
        ({"batch_of_ipc": {1: 10}, "batch": 9}, {"batch_of_ipc": {1: 10}, "batch": 8}),
        ({"steps": None, "epochs": 2, "update_every": 3}, {"steps": None, "epochs": 2}),
        (
            {"steps": None, "epochs": 2, "update_every": 3, "ema": 0.9},
            {"steps": None, "epochs": 2, "ema": 0.9},
        ),
        ({"lr": 0.01, "lr_of": {"vgg11": 0.01}}, {"lr": 0.01}),
        ({"lr_of": {"vgg11": 0.2, "vgg11@8": 0.2}}, {"lr_of": {"vgg11": 0.2}}),
        ({"lr": 0.1, "lr_of": {"vgg11@8": 0.1, "vgg11": 0.1}}, {"lr": 0.1}),
        ({"views": Views(mix_alpha=0.8)}, {}),
        ({"views": Views(flip=True, mix_alpha=0.8)}, {"views": Views(flip=True)}),
        ({"views": Views(pad_mode="reflect")}, {}),
        ({"labels": Labels(restricted_to=["cat"])}, {}),
        (
            {"labels": Labels(**TAUGHT, loss="mse", temperature=20.0)},
            {"labels": Labels(**TAUGHT, loss="mse")},
        ),
        (
            {"labels": Labels(**TAUGHT, loss="kl", smoothing=0.2)},
            {"labels": Labels(**TAUGHT, loss="kl")},
        ),
    ],
)
def test_a_setting_without_effect_leaves_the_hash(with_it, without):
    assert protocol(**with_it).hash == protocol(**without).hash
    assert protocol(**with_it).resolve(20, 10).hash == protocol(**without).resolve(20, 10).hash


def test_a_teacher_with_weights_is_the_same_whatever_its_training_would_be(tmp_path):
    (tmp_path / "file").write_bytes(b"weights")

    def hash_of(**changes):
        teacher = Teacher(network="resnet20", **changes)
        return protocol(labels=Labels(source="online", teachers=[teacher])).hash

    given = {"weights": str(tmp_path / "file")}
    assert hash_of(**given) == hash_of(**given, epochs=3) == hash_of(**given, lr=1.0, batch=5)
    assert hash_of() != hash_of(epochs=3)


def test_settings_with_an_effect_stay_in_the_hash_beside_idle_ones():
    def smoothed(smoothing):
        labels = Labels(**TAUGHT, loss="kl", smoothing=smoothing, hard_weight=0.1)
        return protocol(labels=labels).hash

    assert smoothed(0.2) != smoothed(0.0)
    rates = [{"vgg11": 0.2, "vgg11@8": 0.01}, {"vgg11": 0.2}, {}]
    assert len({protocol(lr_of=each).hash for each in rates}) == 3
    assert protocol(ema=0.9, ema_every="step").hash != protocol(ema=0.9).hash


def test_new_settings_at_their_defaults_leave_older_hashes_alone():
    assert load_protocol("quick").hash == "60184819980f"  # of published numbers
    assert load_protocol("ld3m").hash == "7fa78cdb4fa4"


def test_weights_in_a_file_count_by_their_contents(tmp_path):
    def hash_of(content, name):
        (tmp_path / name).write_bytes(content)
        teacher = Teacher(network="resnet20", weights=str(tmp_path / name))
        return protocol(labels=Labels(source="online", teachers=[teacher])).hash

    assert hash_of(b"one", "a") == hash_of(b"one", "b") != hash_of(b"two", "c")


def test_a_hash_is_the_same_in_another_process_and_version():
    code = "from latentdc.evaluate import load_protocol; print(load_protocol('ld3m').hash)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == load_protocol("ld3m").hash == "7fa78cdb4fa4"


def test_parts_of_a_protocol_can_be_replaced():
    changed = load_protocol("ld3m", students=["vit"], seeds=1, steps=5)
    assert (changed.students, changed.seeds, changed.steps, changed.epochs) == (["vit"], 1, 5, None)
    assert changed.name == "ld3m" and changed.hash != load_protocol("ld3m").hash


def test_a_changed_protocol_no_longer_has_its_published_name():
    changed = load_protocol("rdc-hard", changes=["epochs=3", "views.flip=false"])
    assert changed.name == "rdc-hard with other epochs, views.flip"
    assert (changed.epochs, changed.views) == (3, Views(crop=(0.08, 1.0)))
    with pytest.raises(InputError, match=r"unknown key 'views.flap'; did you mean 'views.flip'"):
        load_protocol("rdc-hard", changes=["views.flap=true"])


@pytest.mark.parametrize("name", ["minimax", "rded", "quick", "edc-tiny", "ccs-cifar", "ld3m"])
@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ("epochs=6", 6 * 4),
        ("steps=7", 7),
        ("epochs_of_ipc={10: 5}", 5 * 4),
        ("epochs_of_ipc={1: 3}", 3 * 4),  # the largest of those listed
    ],
)
def test_a_changed_budget_takes_the_place_of_whichever_the_protocol_has(name, change, steps):
    changed = load_protocol(name, changes=[change, "batch=25"]).resolve(100, 10)
    assert (changed.batch, changed.steps) == (25, steps)
    assert changed.name.endswith(f"with other {change.partition('=')[0]}, batch")


def test_two_budgets_or_none_are_refused():
    with pytest.raises(InputError, match="steps 5 and epochs 6; its budget is one of them"):
        load_protocol("minimax", changes=["epochs=6", "steps=5"])
    averaged = load_protocol("rdc-hard", steps=21, changes=["ema=0.9", "update_every=7"])
    assert (averaged.steps, averaged.epochs) == (21, None)
    with pytest.raises(InputError, match=r"steps and changes=\[epochs=...\] say the same"):
        load_protocol("quick", steps=21, changes=["epochs=2"])
    with pytest.raises(InputError, match=r"seeds and changes=\[seeds=...\] say the same"):
        load_protocol("quick", seeds=1, changes=["seeds=2"])
    with pytest.raises(InputError, match="steps None and epochs None"):
        load_protocol("rdc-hard", changes=["epochs=null"])


def test_a_changed_batch_wins_over_batches_by_images_per_class():
    changed = load_protocol("rded", changes=["batch=32"])
    assert changed.batch_of_ipc == {} and changed.resolve(1000, 1000).batch == 32
    changed = load_protocol("quick", changes=["batch_of_ipc={1: 5}"])
    assert changed.resolve(10, 10).batch == 5


def test_a_protocol_is_a_file_too(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, students: [alexnet@8], steps: 5, lr: 0.2}")
    assert load_protocol(str(path)) == protocol(
        name="mine", students=["alexnet@8"], steps=5, lr=0.2, seeds=3, batch=256
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: x, students: [convnet3]}", "steps None and epochs None; its budget is one"),
        ("{name: x, students: [convnet3], steps: 1, epochs: 1}", "steps 1 and epochs 1"),
        ("{name: x, students: [convnet3], steps: 0}", "steps is at least 1, got 0"),
        ("{name: x, students: [convnet3], steps: 1, lr: -1}", "lr is positive, got -1"),
        ("{name: x, students: [convnet3], steps: 1, ema: 1}", r"ema is in \[0, 1\), got 1"),
        ("{name: x, students: [convnet3], steps: 1, lr_of: {vgg: 1}}", "unknown network 'vgg'"),
        ("{name: x, students: [vit], steps: 1, lr_of: {vit@512: 1}}", "which is the student vit;"),
        ("{name: x, students: [vit@8], steps: 1, lr_of: {vit@08: 1}}", "width after '@' is"),
        ("{name: x, students: [convnt3], steps: 1}", "did you mean 'convnet3"),
        ("{name: x, students: [], steps: 1}", "trains no student"),
        ("{name: x, students: [vit, vit], steps: 1}", "names a student twice"),
        ("{name: x, students: [vit], steps: 1, augment: colour}", "'colour' is unknown"),
        ("{name: x, students: [vit], step: 1}", "unknown key 'step'; did you mean 'steps'"),
        ("{name: x, students: [vit], steps: 1, schedule: line}", "schedule"),
        ("{name: x, students: [vit], steps: 1, schedule: multistep}", "come together"),
        ("{name: x, students: [vit], steps: 1, milestones: [0.5, 0.2]}", "rising shares"),
        ("{name: x, students: [vit], steps: 1, epochs_of_ipc: {1: 3}}", "or epochs_of_ipc"),
        ("{name: x, students: [vit], steps: 1, zeta: 0.5}", "zeta is at least 1"),
        (
            "{name: x, students: [vit], steps: 5, update_every: 10, ema: 0.9}",
            "would lack the last 5",
        ),
        (
            "{name: x, students: [vit], steps: 5, update_every: 2, ema: 0.9}",
            "would lack the last 1",
        ),
        ("{name: x, students: [vit], steps: 1, test_crop: 2}", r"test_crop is in \(0, 1\]"),
        ("{name: x, students: [vit], steps: 1, subset: 1}", r"sees, in \(0, 1\), got 1"),
        ("{name: x, students: [vit], steps: 1, subset: 0.1, infobatch: 0.5}", "seen in few epochs"),
        ("{name: x, students: [vit], steps: 1, unsettled: [color]}", "unsettled names settings"),
        ("{name: x, students: [torchvision/resnet19], steps: 1}", "did you mean 'resnet1"),
        ("{name: x, students: [vit], steps: 1, labels: {source: online}}", "needs labels.teachers"),
        ("{name: x, students: [vit], steps: 1, labels: {teachers: [{}]}}", "has no labels.teach"),
        ("{name: x, students: [vit], steps: 1, labels: {loss: kl}}", "with hard labels use ce"),
        ("{name: x, students: [vit], steps: 1, nesterov: true, momentum: 0}", "which is 0"),
        ("{name: x, students: [vit], steps: 1, labels: {top: 5}}", "set labels.source=stored"),
        (
            "{name: x, students: [vit], steps: 1, augment: flip, "
            "labels: {source: online, teachers: [{}]}}",
            "which teachers do not see; use views",
        ),
    ],
)
def test_a_wrong_protocol_is_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_protocol(str(path))


def test_an_unknown_protocol_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'quick'"):
        load_protocol("quik")


def test_a_reflection_of_more_pixels_than_the_image_has_is_refused():
    some = protocol(views=Views(pad=8, pad_mode="reflect"))
    some.check_students(9)
    with pytest.raises(InputError, match="fewer pixels than the image has, 8; got 8"):
        some.check_students(8)


def test_students_that_cannot_take_the_images_are_refused():
    with pytest.raises(InputError, match="convnet5 takes images of 32 px or more, got 16 px"):
        load_protocol("ld3m").check_students(16)


def test_a_protocol_of_soft_labels_is_made_one_of_hard_labels_as_its_message_says():
    with pytest.raises(InputError, match="got 1; write") as refused:
        load_protocol("rdc-soft", changes=["labels.source=hard"])
    said = [word for word in str(refused.value).split() if "=" in word]
    hard = load_protocol("rdc-soft", changes=["labels.source=hard", *(s.strip(",") for s in said)])
    assert (hard.labels.source, hard.labels.loss, hard.labels.teachers) == ("hard", "ce", [])


def test_a_key_that_is_changed_twice_is_named_once():
    assert load_protocol("quick", changes=["lr=1", "lr=2"]).name == "quick with other lr"
