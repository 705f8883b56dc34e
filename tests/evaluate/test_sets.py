"""What a set and a protocol, or a set and the test set, make of each other."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from latentdc.errors import InputError
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.setting import protocol_for, require_comparable, require_trainable
from latentdc.preprocessing import Normalization
from latentdc.recipe.labels import Views
from latentdc.synthetic import SyntheticSet
from tests.evaluate.test_soft_labels import opened, softly
from tests.evaluate.toys import TEST, protocol, setting, stripes

CONFINED = protocol(views=Views(crop=(0.08, 1.0), cells=2))
OPEN = replace(CONFINED, views=replace(CONFINED.views, cells=None))
DATA = stripes(6)


def mosaics(grid=None) -> SyntheticSet:
    return SyntheticSet(DATA.images, DATA.labels, DATA.class_names, grid=grid)


def test_real_images_and_single_ones_have_no_cells():
    for single in (SyntheticSet.from_real(DATA), mosaics(1)):
        assert protocol_for(CONFINED, single) == OPEN
    for mosaic in (mosaics(2), mosaics()):  # of foreign sets only the protocol knows the grid
        assert protocol_for(CONFINED, mosaic) == CONFINED
    assert protocol_for(OPEN, mosaics(2)) is OPEN


def test_another_grid_is_refused():
    require_trainable(mosaics(2), CONFINED, "x")
    require_trainable(mosaics(3), OPEN, "x")
    with pytest.raises(InputError, match=r"the x set has mosaics of 3 x 3 .* cells of 2 x 2"):
        require_trainable(mosaics(3), CONFINED, "x")


def test_infobatch_is_refused_for_sets_with_soft_labels_or_weights():
    soft = replace(mosaics(), soft_labels=torch.zeros(6, 3))
    require_trainable(mosaics(), protocol(infobatch=0.5), "given")
    require_trainable(soft, protocol(), "given")
    with pytest.raises(InputError, match="the given set has soft labels"):
        require_trainable(soft, protocol(infobatch=0.5), "given")
    weighed = replace(mosaics(), weights=torch.ones(6))
    require_trainable(weighed, protocol(), "given")
    with pytest.raises(InputError, match="the given set weighs its images, and infobatch has"):
        require_trainable(weighed, protocol(infobatch=0.5), "given")


def test_classes_in_another_order_are_refused_by_name():
    data = replace(stripes(6), class_names=("columns", "rows", "chessboard"))
    with pytest.raises(InputError, match="class 0 is 'columns' in the distilled set and 'rows'"):
        require_comparable(data, stripes(6), "distilled")


def test_another_number_of_classes_is_refused():
    data = replace(stripes(6), class_names=("rows", "columns", "chessboard", "dots"))
    with pytest.raises(InputError, match="the distilled set has 4 classes, the test set 3"):
        require_comparable(data, stripes(6), "distilled")


def test_another_resolution_is_refused():
    with pytest.raises(InputError, match=r"16x16 px, the test set 8x8; .*data.resolution=16"):
        require_comparable(stripes(6, resolution=16), stripes(6), "distilled")


def test_a_training_is_named_by_what_it_saw(tmp_path):
    sets = {"mosaic": mosaics(2), "single": mosaics(1), "real": DATA}
    options = {"normalization": Normalization(), "trainings": tmp_path}
    results = evaluate_sets(sets, TEST, replace(CONFINED, seeds=1), **options)
    found = {result.set: result.accuracies for result in results}
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2  # single and real ones are the same images, seen the same way
    assert sorted(CONFINED.hash in name for name in names) == [False, True]
    assert found["single"] == found["real"]


def test_a_training_is_named_by_all_that_surrounds_it(monkeypatch):
    names = {
        "plain": setting().hash(None, {}),
        "test": setting(stripes(30, seed=2)).hash(None, {}),
        "normalization": setting(normalization=Normalization((0.4,) * 3)).hash(None, {}),
        "teachers": setting().hash("teachers", {}),
        "processes": setting().hash(None, {"processes": 2}),
    }
    monkeypatch.setattr(Accelerator, "mixed_precision", "bf16")
    names["precision"] = setting().hash(None, {})
    assert len({*names.values()}) == len(names)


def test_stored_labels_of_single_images_are_of_whole_crops(tmp_path):
    def store(views, labelled):
        teaching = opened(replace(softly("stored"), views=views), tmp_path / "rows")
        return teaching.store("a", labelled)

    assert store(CONFINED.views, mosaics(1)) == store(OPEN.views, mosaics(1))
    assert store(CONFINED.views, mosaics(2)) != store(OPEN.views, mosaics(2))
