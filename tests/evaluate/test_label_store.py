import json
import os

import pytest
import torch

from latentdc.errors import InputError
from latentdc.evaluate.label_store import LabelStore, decode, encode, replayed_epoch

LOGITS = torch.randn(30, 12, generator=torch.Generator().manual_seed(0)) * 5
ROWS = torch.tensor([7, 0, 29])
FACTS = {"set": "a1", "views": {"flip": True}, "epochs": 2}


def round_trip(tmp_path, precision, top):
    store = LabelStore.under(tmp_path, FACTS)
    store.write(0, encode(LOGITS, precision, top))
    return decode(store.read(0), ROWS, 12), store


def test_half_precision_keeps_ten_bits(tmp_path):
    read, store = round_trip(tmp_path, "float16", None)
    assert torch.equal(read, LOGITS.half().float()[ROWS])
    assert store.path(0).stat().st_size < 2 * 30 * 12 + 300


def test_a_byte_per_class_is_off_by_half_a_step_of_the_images_range(tmp_path):
    read, store = round_trip(tmp_path, "uint8", None)
    low, high = LOGITS[ROWS].aminmax(dim=1)
    assert ((read - LOGITS[ROWS]).abs() <= (high - low)[:, None] / 255 / 2 * 1.01).all()
    assert store.path(0).stat().st_size < (12 + 8) * 30 + 500


@pytest.mark.parametrize("precision", ["float16", "uint8"])
def test_the_largest_logits_stay_and_the_others_are_their_mean(tmp_path, precision):
    read, _ = round_trip(tmp_path, precision, 3)
    values, classes = LOGITS[ROWS].topk(3, dim=1)
    torch.testing.assert_close(read.gather(1, classes), values, atol=0.05, rtol=0)
    others = torch.ones(3, 12).scatter(1, classes, 0).bool()
    means = (LOGITS[ROWS] * others).sum(dim=1) / 9
    for row, mean, left in zip(read, means, others, strict=True):
        torch.testing.assert_close(row[left], mean.expand(9), atol=0.01, rtol=0)


def test_constant_logits_survive_a_byte():
    torch.testing.assert_close(
        decode(encode(torch.full((2, 3), 1.5), "uint8", None), torch.tensor([1]), 3),
        torch.full((1, 3), 1.5),
    )


def test_more_epochs_than_are_stored_are_drawn_from_them():
    assert [replayed_epoch(e, 5, 5, seed=0) for e in range(5)] == [0, 1, 2, 3, 4]
    drawn = [replayed_epoch(e, 3, 300, seed=0) for e in range(300)]
    assert {drawn.count(e) > 70 for e in range(3)} == {True} and set(drawn) == {0, 1, 2}
    assert drawn != [replayed_epoch(e, 3, 300, seed=1) for e in range(300)]


def test_labels_of_something_else_are_refused_by_what_differs(tmp_path):
    _, store = round_trip(tmp_path, "float16", None)
    assert store.difference(store.folder) is None
    other = LabelStore.under(tmp_path, {**FACTS, "set": "b2", "epochs": 9})
    assert other.folder != store.folder
    assert "of another set, epochs: set is a1 there and b2 here" in other.difference(store.folder)
    with pytest.raises(InputError, match="holds no stored labels"):
        store.difference(tmp_path / "nothing")


def test_a_link_leads_to_labels_elsewhere_and_goes_when_they_are_gone(tmp_path):
    _, there = round_trip(tmp_path / "there", "float16", None)
    here = LabelStore.under(tmp_path / "here", FACTS)
    here.link(there.folder), here.link(here.folder), here.link()
    assert here.bytes() == there.bytes() and here.folder.resolve() == there.folder
    there.link(here.folder)
    assert not there.folder.is_symlink()  # labels lie there
    there.folder.rename(tmp_path / "away")
    assert here.bytes() == 0
    here.link()
    assert not here.folder.is_symlink()


def test_a_damaged_or_missing_epoch_is_named(tmp_path):
    _, store = round_trip(tmp_path, "float16", None)
    with pytest.raises(InputError, match=r"cannot read the stored labels .*epoch-00001"):
        store.read(1)
    content = store.path(0).read_bytes()
    for damaged in (b"no labels", content[:-7], content[:-9] + b"\x00" + content[-8:]):
        store.path(0).write_bytes(damaged)
        with pytest.raises(InputError, match="delete the file to have it made again"):
            store.read(0)
    assert json.loads((store.folder / "labels.json").read_text())["views"] == {"flip": True}
    assert not list(store.folder.glob("*.part"))


def test_what_a_kill_left_half_written_costs_no_bytes(tmp_path):
    _, store = round_trip(tmp_path, "float16", None)
    cost = sum(file.stat().st_size for file in store.folder.iterdir())
    (store.folder / "epoch-00000.safetensors.123.part").write_bytes(b"half of")
    assert store.bytes() == cost > 0


def test_one_flipped_byte_is_no_label(tmp_path):
    _, store = round_trip(tmp_path, "float16", None)
    content = bytearray(store.path(0).read_bytes())
    content[-1] ^= 1
    store.path(0).write_bytes(content)
    with pytest.raises(InputError, match="not as it was written; delete the file to have it made"):
        store.read(0)


@pytest.mark.parametrize("damage", ["longer", "other facts", "no facts", "pipe", "deep"])
def test_bytes_of_damaged_labels_are_not_counted(tmp_path, damage):
    _, store = round_trip(tmp_path, "float16", None)
    facts, path = store.folder / "labels.json", store.path(0)
    if damage == "longer":
        path.write_bytes(path.read_bytes() + b"more")
    elif damage == "other facts":
        facts.write_text(facts.read_text().replace("true", "false"))
    elif damage == "deep":
        facts.write_text("[" * 100_000)
    else:
        (facts if damage == "no facts" else path).unlink()
        if damage == "pipe":
            os.mkfifo(path)
    with pytest.raises(InputError, match="stored labels"):
        store.bytes()
