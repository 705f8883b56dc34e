from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from latentdc import run_parts
from latentdc.data.open import open_splits
from latentdc.distill import main as distill
from latentdc.errors import InputError
from latentdc.images import MappedImages, as_floats
from latentdc.methods.context import Context
from latentdc.methods.selection import best_rows, selection
from latentdc.prune.coreset import Coreset
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Data, Select, Selection
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash
from tests.evaluate.toys import stripes

TRAIN = stripes(30)
SCORES = torch.rand(30, generator=torch.Generator().manual_seed(0))


def coreset(rule, order="easy"):
    return Coreset(
        hashes=TRAIN.hashes,
        scores=SCORES,
        labels=TRAIN.labels,
        class_names=TRAIN.class_names,
        rule=rule,
        order=order,
        keep=1.0,
        dataset="stripes",
    )


@pytest.mark.parametrize(
    ("rule", "order", "descending"),
    [("el2n", "easy", False), ("el2n", "hard", True), ("aum", "easy", True)],
)
def test_images_of_a_class_are_ranked_by_hardness_whatever_the_sign(rule, order, descending):
    best = best_rows(coreset(rule, order), TRAIN, 4)
    for label, rows in enumerate(best):
        members = TRAIN.members(label)
        assert torch.equal(rows, members[SCORES[members].argsort(descending=descending)[:4]])


def test_ranks_follow_the_images_when_the_data_set_is_in_another_order():
    shuffled = TRAIN.select(torch.randperm(30, generator=torch.Generator().manual_seed(1)))
    there = best_rows(coreset("el2n"), shuffled, 4)
    here = best_rows(coreset("el2n"), TRAIN, 4)
    assert torch.equal(shuffled.hashes[there], TRAIN.hashes[here])


def test_a_core_set_that_is_too_small_is_refused():
    with pytest.raises(InputError, match=r"has 10 images of class 'rows', and the method takes 11"):
        best_rows(coreset("el2n"), TRAIN, 11)


def test_the_best_images_of_each_class_stand_as_they_are():
    made = selection(coreset("el2n"), None, Selection(), Context(ipc=2, train=TRAIN))
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2] and made.grid == 1
    assert torch.equal(made.images, TRAIN.images[best_rows(coreset("el2n"), TRAIN, 2).flatten()])
    with pytest.raises(InputError, match=r"takes real images; give Context\(train=...\)"):
        selection(coreset("el2n"), None, Selection(), Context())


@pytest.mark.parametrize("kind", [None, "random"])
def test_images_of_a_mapped_data_set_are_scored_as_they_are_stored(kind, tmp_path):
    """A mapped set has a hash of its own, under which `verify` did not find the stored one."""
    mapped = MappedImages(TRAIN.images, contents=TRAIN.hashes, decoding="as they are")
    surround = Context(ipc=2, train=replace(TRAIN, images=mapped))
    made = selection(coreset("el2n"), None, Selection(select=Select(kind=kind)), surround)
    made.save_pretrained(tmp_path / "set")
    assert set_hash(SyntheticSet.from_pretrained(tmp_path / "set")) == set_hash(made)
    plain = Context(ipc=2, train=TRAIN)
    in_memory = selection(coreset("el2n"), None, Selection(select=Select(kind=kind)), plain)
    assert set_hash(in_memory) == set_hash(made)


class Rows(nn.Module):
    """Logits of `rows`, `columns` and others by the first two pixels of an image's first row."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 3)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.weight[0, 0] = 4.0

    def forward(self, images):
        return self.linear(images.flatten(1))


POOL = SyntheticSet.from_real(stripes(30, seed=5))
OPENED = {
    "pool": POOL,
    "start": POOL.first_of_each(1),
    "other": replace(POOL, class_names=("a", "b", "c")),
}


def context(ipc, **given):
    classifier = Classifier(Rows(), lambda images: images).eval()
    surround = {"train": TRAIN, "open_set": OPENED.__getitem__, **given}
    return Context(ipc=ipc, classifier=lambda: (classifier, 1.0), **surround)


def chosen(ipc=3, surround=None, **settings):
    surround = surround or context(ipc)
    return selection(coreset("el2n"), None, Selection(**settings), surround)


def test_images_of_a_pool_are_chosen_by_a_classifier_of_the_real_ones():
    made = chosen(pool="pool", select=Select(kind="confidence"))
    assert made.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    members = POOL.images[POOL.labels == 0]
    brightest = members[:, 0, 0, 0].float().argsort(descending=True, stable=True)
    assert torch.equal(made.images[:3], members[brightest[:3]])
    for label in (1, 2):  # which the classifier tells by what is dark
        members = POOL.images[POOL.labels == label]
        darkest = members[:, 0, 0, 0].argsort(stable=True)
        assert torch.equal(made.images[made.labels == label], members[darkest[:3]])
    assert made.provenance == {"pool": "pool", "candidates": 30}


def test_a_set_that_is_chosen_from_others_names_their_networks(monkeypatch):
    pool = replace(POOL, provenance={"network": "convnet3@4", "classifier": "vgg11@2"})
    monkeypatch.setitem(OPENED, "pool", pool)
    made = chosen(pool="pool", select=Select(kind="confidence"))
    assert made.provenance["networks"] == ["convnet3", "vgg11"]


@pytest.mark.parametrize("label", range(3))
def test_the_nearest_images_of_a_pool_lie_next_to_the_real_mean_of_their_own_class(label):
    made = chosen(pool="pool", select=Select(kind="nearest"))
    members = POOL.images[POOL.labels == label]
    mean = TRAIN.images[TRAIN.members(label)].double().mean(dim=0)
    order = (members - mean).flatten(1).norm(dim=1).argsort()
    assert torch.equal(made.images[made.labels == label], members[order[:3]])


@pytest.mark.parametrize("kind", [None, "random", "centroids", "moments", "nearest"])
def test_every_other_kind_takes_images_of_the_pool_and_of_the_core_set(kind):
    for name, there in (("pool", POOL.images), (None, TRAIN.images)):
        made = chosen(pool=name, select=Select(kind=kind))
        rows = [(there == image).flatten(1).all(dim=1).nonzero()[0, 0] for image in made.images]
        assert len({int(row) for row in rows}) == 9
        assert torch.equal(made.labels, TRAIN.labels[torch.stack(rows)])


def test_a_set_is_filled_up_with_what_its_student_has_yet_to_learn():
    asked = []

    def student(one):
        asked.append(one)
        return Classifier(Rows(), lambda images: -images).eval()

    settings = {"pool": "pool", "start": "start", "select": Select(kind="learnability")}
    made = chosen(surround=context(3, student=student), **settings)
    assert torch.equal(asked[0].images, OPENED["start"].images)
    assert made.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert torch.equal(made.images[::3], OPENED["start"].images)
    assert made.provenance["start"] == "start"
    # of class 0 the brightest of each slot, which the student takes for the least likely
    bright = POOL.images[POOL.labels == 0][1:9, 0, 0, 0].view(4, 2)  # without that of the start
    assert torch.equal(made.images[1:3, 0, 0, 0], bright.amax(dim=0))


def test_a_set_is_not_filled_up_with_images_that_it_has(monkeypatch, capsys):
    """They are those that the same choice takes first."""
    for settings in ({"pool": "pool", "select": Select(kind="confidence")}, {}):
        monkeypatch.setitem(OPENED, "two", chosen(ipc=2, **settings))
        assert torch.equal(
            chosen(ipc=4, start="two", **settings).images, chosen(ipc=4, **settings).images
        )
    assert "note: 6 candidates of selection repeat others, or stand" in capsys.readouterr().err
    with pytest.raises(InputError, match="the pool has 9 candidates of class 'rows', and 10"):
        chosen(ipc=11, pool="pool", start="start")
    kept = len(coreset("el2n").different_indices(TRAIN)) // 3  # of each class
    monkeypatch.setitem(OPENED, "two", chosen(ipc=2))
    for select in (Select(), Select(kind="random")):
        with pytest.raises(InputError, match=rf"the core set has {kept - 2} cand.*prune\.keep"):
            chosen(ipc=kept + 1, start="two", select=select)


def test_a_float_copy_of_an_image_is_the_same_candidate(monkeypatch):
    monkeypatch.setitem(OPENED, "floats", replace(POOL, images=as_floats(POOL.images)))
    with pytest.raises(InputError, match="the pool has 9 candidates of class 'rows', and 10"):
        chosen(ipc=11, pool="floats", start="start")


def test_equal_images_of_a_pool_are_one_candidate(monkeypatch):
    monkeypatch.setitem(OPENED, "twice", POOL.rows(torch.arange(30).repeat_interleave(2)))
    for kind in (None, "random", "confidence", "nearest"):
        made = [chosen(pool=pool, select=Select(kind=kind)) for pool in ("twice", "pool")]
        assert torch.equal(made[0].images, made[1].images)


def test_weights_and_soft_labels_of_both_sets_stay(monkeypatch):
    soft = replace(POOL, soft_labels=torch.arange(90.0).view(30, 3))
    first = soft.first_of_each(1)
    weighted = replace(first, weights=torch.tensor([2.0, 4.0, 6.0]))
    monkeypatch.setitem(OPENED, "soft", soft)
    monkeypatch.setitem(OPENED, "weighted", weighted)
    made = chosen(pool="soft", start="weighted", select=Select(kind="confidence"))
    assert made.weights.tolist() == [0.5, 1, 1, 1, 1, 1, 1.5, 1, 1]
    rows = [int((POOL.images == image).flatten(1).all(dim=1).nonzero()[0]) for image in made.images]
    assert torch.equal(made.soft_labels, soft.soft_labels[rows])
    told = r"in selection.start has soft labels, and what joins it from selection.pool has none"
    with pytest.raises(InputError, match=told):
        chosen(pool="pool", start="weighted", select=Select(kind="confidence"))


def test_a_rate_that_was_learned_for_a_whole_pool_is_not_that_of_a_part(monkeypatch, capsys):
    monkeypatch.setitem(OPENED, "pool", replace(POOL, learned_lr=0.01))
    count = min(OPENED["pool"].counts)
    assert chosen(count, pool="pool").learned_lr == 0.01
    assert "learned_lr" not in capsys.readouterr().err
    assert chosen(1, pool="pool").learned_lr is None
    told = capsys.readouterr().err
    assert "note: without learned_lr: it was learned for all images of the pool together." in told


def test_what_a_student_of_the_first_set_does_not_see_and_what_the_sum_has_no_place_for_is_told(
    monkeypatch, capsys
):
    first = replace(OPENED["start"], weights=torch.tensor([1.0, 2.0, 3.0]), learned_lr=0.01)
    monkeypatch.setitem(OPENED, "learned", first)
    student = Classifier(Rows(), lambda images: images).eval()
    surround = context(3, student=lambda few: student)
    settings = {"pool": "pool", "start": "learned", "select": Select(kind="learnability")}
    made, told = chosen(surround=surround, **settings), capsys.readouterr().err
    assert made.weights.tolist()[::3] == [0.5, 1, 1.5] and made.learned_lr is None
    assert "note: without weights: the student of this set sees classes alone." in told
    assert "note: without learned_lr: it was learned for these images alone." in told


@pytest.mark.parametrize(
    ("settings", "ipc", "told"),
    [
        ({"pool": "pool"}, 11, "the pool has 10 candidates of class 'rows', and 11 of ipc=11"),
        ({"pool": "start"}, 2, "the pool has 1 candidate of class 'rows', and 2 of ipc=2"),
        ({"pool": "other"}, 3, "other has not the classes of stripes in their order"),
        ({"pool": "pool", "start": "start"}, 1, "selection.start has 1 of each class, and is"),
        ({"select": {"kind": "learnability"}}, 3, "name their set in selection.start"),
        ({"select": {"kind": "nearest", "space": "latents"}}, 3, "and these are images; take fea"),
    ],
)
def test_what_cannot_be_chosen_is_refused(settings, ipc, told):
    with pytest.raises(InputError, match=told):
        if "select" in settings:
            settings = {**settings, "select": Select(**settings["select"])}
        chosen(ipc, **settings)


def test_a_pool_of_another_resolution_is_refused():
    small = SyntheticSet.from_real(stripes(30, resolution=16))
    surround = context(3, open_set=lambda name: small)
    with pytest.raises(InputError, match=r"open the data with data.resolution=16"):
        chosen(surround=surround, pool="small")


class Means(nn.Module):
    """Knows digits by the nearest mean image of a class."""

    def __init__(self, train):
        super().__init__()
        images = train.images.float() / 127.5 - 1
        self.means = torch.stack([images[train.members(label)].mean(0) for label in range(2)])

    def forward(self, images):
        return -torch.cdist(images.flatten(1), self.means.flatten(1))


def test_class_numbers_of_a_pool_must_fit_its_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train, _ = open_splits(Data(resolution=8, classes=["0", "1"]))
    for label, folder in enumerate(("00001", "00000")):  # each under the other's number
        Path("pool", folder).mkdir(parents=True)
        for row in train.members(label)[:20].tolist():
            image = Image.fromarray(train.images[row].permute(1, 2, 0).numpy())
            image.save(tmp_path / "pool" / folder / f"{row}.png")
    monkeypatch.setattr(run_parts, "open_classifier", lambda *_: ("judge", Means(train)))
    words = [
        *("digits_ipc1", "data.resolution=8", "data.classes=['0', '1']", "prune.keep=1"),
        *("method.kind=selection", "selection.select.kind=random", "selection.pool=pool"),
        *("evaluate.rows=[]", "threads=1"),
    ]
    with pytest.raises(SystemExit) as stop:
        distill(words)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "as if the numbers counted the classes in another" in told
    assert "to keep the reading, selection.numbers=" in told
    distill([*words, "selection.numbers=positions"])
    made = SyntheticSet.from_pretrained("runs/digits_ipc1")
    assert made.labels.tolist() == [0, 1] and made.provenance["pool"] == "pool"
