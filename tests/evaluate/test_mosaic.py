"""Views of mosaics, and of single images under the same protocol."""

from dataclasses import replace

import pytest
import torch

from latentdc.errors import InputError
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.evaluate.mosaic import grid_of, protocol_for, require_grid
from latentdc.images import Normalization
from latentdc.recipe.labels import Views
from latentdc.synthetic import SyntheticSet
from tests.evaluate.test_soft_labels import opened, softly
from tests.evaluate.toys import TEST, protocol, stripes

CONFINED = protocol(views=Views(crop=(0.08, 1.0), cells=2))
OPEN = replace(CONFINED, views=replace(CONFINED.views, cells=None))
DATA = stripes(6)


def mosaics(grid=None) -> SyntheticSet:
    return SyntheticSet(DATA.images, DATA.labels, DATA.class_names, grid=grid)


def test_real_images_and_single_ones_have_no_cells():
    assert (grid_of(DATA), grid_of(mosaics(1)), grid_of(mosaics(2))) == (1, 1, 2)
    for single in (DATA, mosaics(1)):
        assert protocol_for(CONFINED, single) == OPEN
    for mosaic in (mosaics(2), mosaics()):  # of foreign sets only the protocol knows the grid
        assert protocol_for(CONFINED, mosaic) == CONFINED
    assert protocol_for(OPEN, mosaics(2)) is OPEN


def test_another_grid_is_refused():
    require_grid(mosaics(2), CONFINED.views, "x")
    require_grid(mosaics(3), OPEN.views, "x")
    with pytest.raises(InputError, match=r"the x set has mosaics of 3 x 3 .* cells of 2 x 2"):
        require_grid(mosaics(3), CONFINED.views, "x")


def test_a_training_is_named_by_what_it_saw(tmp_path):
    sets = {"mosaic": mosaics(2), "single": mosaics(1), "real": DATA}
    options = {"normalization": Normalization(), "trainings": tmp_path}
    results = evaluate_sets(sets, TEST, replace(CONFINED, seeds=1), **options)
    found = {result.set: result.accuracies for result in results}
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2  # single and real ones are the same images, seen the same way
    assert sorted(CONFINED.hash in name for name in names) == [False, True]
    assert found["single"] == found["real"]


def test_stored_labels_of_single_images_are_of_whole_crops(tmp_path):
    def store(views, labelled):
        teaching = opened(replace(softly("stored"), views=views), tmp_path / "rows")
        return teaching._stores.of("a", labelled)

    assert store(CONFINED.views, DATA) == store(OPEN.views, DATA)
    assert store(CONFINED.views, mosaics(2)) != store(OPEN.views, mosaics(2))


def test_the_grid_is_saved_with_the_set(tmp_path):
    mosaics(2).save_pretrained(tmp_path / "two")
    assert SyntheticSet.from_pretrained(tmp_path / "two").grid == 2
    mosaics().save_pretrained(tmp_path / "none")
    assert SyntheticSet.from_pretrained(tmp_path / "none").grid is None
    with pytest.raises(InputError, match="grid is the number of pictures along a side"):
        mosaics(0)
    assert torch.equal(SyntheticSet.from_pretrained(tmp_path / "two").images, DATA.images)
