"""Each protocol that latentdc brings against the table of what the papers and their code do."""

from pathlib import Path

import pytest

from latentdc.config import shipped_folder
from latentdc.evaluate import load_protocol

ROOT = Path(__file__).parents[2]
# name: (epochs or steps, batch, optimiser, lr, decay, of which parameters, schedule, zeta, views,
# source of labels, loss, weight of hard labels, temperature, teachers)
RRC, HALF = (0.08, 1.0), (0.5, 1.0)
TABLE = {
    "rdc-soft": "300 128 adamw .001 .01 matrices cosine 1 crop.08,flip,cutmix online kl 0 20 1",
    "rdc-hard": "300 128 adamw .001 .01 matrices cosine 1 crop.08,flip hard ce 0 1 0",
    "rdc-sgd": "300 128 sgd .1 .0001 all cosine 1 crop.08,flip hard ce 0 1 0",
    "pca": "300 128 adamw .001 .01 matrices cosine 1 crop.08,cells2,flip hard ce 0 1 0",
    "sre2l-fkd": "300 1024 adamw .001 .01 matrices cosine 1 crop.08,flip,cutmix stored kl 0 20 1",
    "sre2l-kd": "300 1024 adamw .001 .01 matrices cosine 1 crop.08,flip,cutmix online kl 0 20 1",
    "sre2l-cifar100": "400 128 adamw .001 .01 all cosine 1 pad4,flip,mixup.8 online kl 0 30 1",
    "lpld-tiny": "100 64 sgd .2 .0001 matrices cosine 1 crop.08,flip stored kl 0 20 1",
    "dwa-tiny": "200 64 sgd .2 .0001 all cosine 1 crop.08,flip,cutmix online kl 0 20 1",
    "lpld-in21k": "300 32 adamw .002 .01 matrices cosine 1 crop.08,cutout stored kl 0 20 1",
    "gvbsm": "300 1024 adamw .001 .01 matrices cosine 1 crop.08,flip,cutmix stored mse .1 20 4",
    "edc-in1k": "300 100 adamw .001 .01 matrices cosine 2 "
    "shuffle2,crop.5,flip,cutmix stored mse .025 20 4",
    "edc-in10": "1000 50 adamw .001 .01 matrices cosine 2 "
    "randaugment9,crop.5,flip,cutmix online mse .025 20 4",
    "edc-tiny": "300 100 adamw .001 .01 matrices cosine 2 "
    "randaugment9,crop.5,flip,cutmix online mse .025 20 4",
    "edc-cifar100": "1000 50 adamw .001 .01 matrices cosine 2 "
    "randaugment9,crop.5,flip,cutmix online mse .025 20 4",
    "edc-cifar10": "1000 25 adamw .001 .01 matrices multistep 1 "
    "randaugment9,crop.08,flip,cutmix online mse .025 20 5",
    "rded": "300 50 adamw .001 .01 matrices cosine 2 shuffle2,crop.5,flip,cutmix online kl 0 20 1",
    "rded-small": "300 50 adamw .001 .01 matrices cosine 2 flip,cutmix online kl 0 20 1",
    "rded-tiny": "300 100 adamw .001 .01 matrices cosine 2 flip,cutmix online kl 0 20 1",
    "ccs-in1k": "300000 256 sgd .1 .0001 all cosine 1 crop.08,flip hard ce 0 1 0",
    "ccs-cifar": "40000 256 sgd .1 .0005 all cosine 1 reflect4,flip hard ce 0 1 0",
    "dc": "300 256 sgd .01 .0005 all multistep 1 - hard ce 0 1 0",
    "dm": "1000 256 sgd .01 .0005 all multistep 1 - hard ce 0 1 0",
    "mtt": "1000 256 sgd .01 .0005 all multistep 1 - hard ce 0 1 0",
    "minimax": "2000 64 sgd .01 .0005 all multistep 1 "
    "crop.5,flip,jitter.4,lighting.1,cutmix hard ce 0 1 0",
    "ld3m": "1000 256 sgd .001 .0005 all warmup-cosine 1 - hard ce 0 1 0",
    "quick": "300 64 adamw .001 .01 all cosine 1 - hard ce 0 1 0",
    "vectors": "300 64 adamw .001 .01 all cosine 1 - hard ce 0 1 0",
}


def views(some):
    """In the words of the table."""
    seen = some.views
    parts = {
        "randaugment": seen.randaugment and str(seen.randaugment[1]),
        "shuffle": seen.shuffle and str(seen.shuffle),
        "pad" if seen.pad_mode == "black" else "reflect": seen.pad and str(seen.pad),
        "crop": seen.crop and f"{seen.crop[0]:g}"[1:],
        "cells": seen.cells and str(seen.cells),
        "flip": "" if seen.flip else None,
        "jitter": f"{seen.jitter:g}"[1:] if seen.jitter else None,
        "lighting": f"{seen.lighting:g}"[1:] if seen.lighting else None,
        "cutout": "" if seen.cutout else None,
        seen.mix: None if seen.mix is None else f"{seen.mix_alpha:g}"[1:],
    }
    return ",".join(f"{key}{value}" for key, value in parts.items() if value is not None) or "-"


@pytest.mark.parametrize("name", TABLE)
def test_a_protocol_has_the_settings_of_the_table(name):
    some = load_protocol(name)
    budget, batch, optimizer, lr, decay, decayed, schedule, zeta, *rest = TABLE[name].split()
    seen, source, loss, hard, temperature, teachers = rest
    at_ten = some.resolve(100, 10)
    assert str(some.steps or at_ten.steps // at_ten.update_every) == budget
    assert (str(at_ten.batch), some.optimizer, some.lr) == (batch, optimizer, float(lr))
    assert (some.weight_decay, some.decay) == (float(decay), decayed)
    assert (some.schedule, some.zeta, views(some)) == (schedule, float(zeta), seen)
    labels = some.labels
    assert (labels.source, labels.loss) == (source, loss)
    assert labels.hard_weight == float(hard)
    if labels.loss != "mse":  # which has none
        assert labels.temperature == float(temperature)
    assert len(labels.teachers) == int(teachers)


def test_the_table_has_every_protocol_that_latentdc_brings():
    brought = {path.stem for path in shipped_folder("evaluate/protocols").glob("*.yaml")}
    assert brought == TABLE.keys()


def test_what_the_table_leaves_out_is_as_published():
    assert load_protocol("edc-in1k").lr_for("torchvision/swin_t") == 1e-4
    rded = load_protocol("rded")
    assert rded.lr_for("torchvision/mobilenet_v2") == 2.5e-3
    assert [rded.resolve(ipc * 1000, 1000).batch for ipc in (1, 10, 50)] == [20, 100, 200]
    assert rded.views.crop == HALF and load_protocol("rdc-soft").views.crop == RRC
    tiny = load_protocol("lpld-tiny")
    assert (tiny.warmup * 100, tiny.warmup_from, tiny.momentum) == (5, 0.01, 0.9)
    assert load_protocol("dwa-tiny").warmup * 200 == 5
    assert load_protocol("ccs-in1k").end * 0.1 == pytest.approx(1e-4)
    assert load_protocol("ccs-cifar").nesterov and not load_protocol("ccs-in1k").nesterov
    assert load_protocol("edc-in1k").ema_every == "step" and load_protocol("edc-in1k").ema == 0.99
    assert load_protocol("edc-tiny").resolve(200, 200).steps == 1000 * 2
    assert load_protocol("minimax").resolve(10, 10).steps == 3000
    for name in ("dc", "dm", "mtt"):
        assert (load_protocol(name).milestones, load_protocol(name).gamma) == ([0.5], 0.1)
    cifar = load_protocol("edc-cifar10")
    assert (cifar.milestones, cifar.gamma) == ([0.8, 0.9, 0.95], 0.5)
    assert load_protocol("lpld-in21k").labels.smoothing == 0  # its code scales logits instead
    weights = {load_protocol(name).labels.soft_weight for name in TABLE if "-tiny" not in name}
    assert weights == {1}
    for name in ("lpld-tiny", "dwa-tiny"):  # a divergence times the square of the temperature
        assert load_protocol(name).labels.soft_weight == load_protocol(name).labels.temperature ** 2
    assert load_protocol("dc").augment is None and load_protocol("dm").augment is not None


def test_teachers_are_those_of_the_released_code():
    first = "torchvision/IMAGENET1K_V1"  # what `pretrained=True` loads
    imagenet = {
        "gvbsm": "resnet18 mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5",
        "edc-in1k": "resnet18 mobilenet_v2 shufflenet_v2_x0_5 alexnet",
    }
    for name, networks in imagenet.items():
        teachers = load_protocol(name).labels.teachers
        assert [(t.network, t.weights) for t in teachers] == [(n, first) for n in networks.split()]
        assert "labels.teachers" not in load_protocol(name).unsettled
    for name in ("edc-tiny", "edc-cifar100", "edc-cifar10"):  # ConvNets with instance norm
        convnets = [t.network for t in load_protocol(name).labels.teachers if "conv" in t.network]
        assert convnets == ["convnet3", "convnet3@32"][: 1 + (name == "edc-cifar10")]


def test_weights_of_a_teacher_do_not_follow_what_torchvision_recommends():
    weights = {t.weights for name in TABLE for t in load_protocol(name).labels.teachers}
    assert weights == {None, "torchvision/IMAGENET1K_V1"}


def test_students_are_those_of_the_table():
    students = {
        "rdc-soft": "resnet18",
        "rdc-hard": "resnet18",
        "pca": "resnet18",
        "sre2l-fkd": "resnet18 resnet50 resnet101",
        "gvbsm": "resnet18 resnet50 resnet101",
        "ccs-in1k": "resnet34",
        "lpld-in21k": "resnet18",
    }
    for name, networks in students.items():
        assert load_protocol(name).students == [f"torchvision/{one}" for one in networks.split()]
    assert len(load_protocol("edc-in1k").students) == 9 - 1  # DeiT-T is not torchvision's
    assert load_protocol("minimax").students == ["resnetap10", "convnet6", "resnet18-idc"]
    small = {  # with the stem for small images, and the first weights of its source
        "torchvision/resnet18-small": ("sre2l-cifar100", "lpld-tiny", "dwa-tiny"),
        "resnet18-bn-he": ("edc-tiny", "edc-cifar10", "edc-cifar100"),
        "resnet18-bn": ("ccs-cifar",),
    }
    for network, names in small.items():
        for name in names:
            assert load_protocol(name).students == [network]
    for name in ("rded-small", "rded-tiny"):
        assert "torchvision/resnet18-small" in load_protocol(name).students


def test_two_protocols_have_one_hash_only_where_their_sources_train_alike():
    hashes = {}
    for name in TABLE:
        hashes.setdefault(load_protocol(name).hash, []).append(name)
    assert [names for names in hashes.values() if len(names) > 1] == [["dm", "mtt"]]


def test_sgd_has_the_momentum_of_the_table_and_each_protocol_scores_the_size_of_its_source():
    every = [load_protocol(name) for name in TABLE]
    assert {p.momentum for p in every if p.optimizer == "sgd"} == {0.9}
    enlarged = {p.name: p.test_crop for p in every if p.test_crop != 1}
    assert enlarged.pop("rded-tiny") == pytest.approx(64 / 72, abs=1e-4)
    assert set(enlarged.values()) == {224 / 256}
    whole = {p.name for p in every if any("torchvision/resnet18" == s for s in p.students)}
    assert whole - enlarged.keys() == {"lpld-in21k"}  # test images are squeezed
    averaged = {p.name for p in every if p.ema is not None}
    assert averaged == {"ld3m", *(name for name in TABLE if name.startswith("edc-"))}


def test_the_page_lists_every_protocol_with_its_hash_and_what_is_unsettled():
    page = (ROOT / "docs/evaluation.md").read_text()
    for name in TABLE:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        some = load_protocol(name)
        assert f"`{some.hash}`" in row
        assert row.split("|")[-2].strip() == ", ".join(some.unsettled)
