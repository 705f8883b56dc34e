import pytest

from latentdc import config
from latentdc.errors import InputError
from latentdc.evaluate.loading import load_protocol
from latentdc.pca.plan import protocols, resolved, runs
from latentdc.pca.variants import chosen
from latentdc.recipe import Combine, Data, Evaluate, Prune, Rded, Recipe


def test_mosaics_take_grid_squared_images_for_each():
    assert resolved(Recipe(ipc=3)).prune.count == 12
    recipe = Recipe(ipc=2, combine=Combine(grid=3), prune=Prune(times_ipc=9))
    assert resolved(recipe).prune.count == 18


def test_without_cells_pca_is_the_hard_protocol_of_the_benchmark():
    large = Data(resolution=64)
    (both,) = protocols(Recipe(data=large, evaluate=Evaluate(protocol="pca")))
    assert both[True] == load_protocol("pca") and both[True].views.cells == 2
    assert both[False].hash == load_protocol("rdc-hard").hash
    (three,) = protocols(
        Recipe(data=large, evaluate=Evaluate(protocol="pca"), combine=Combine(grid=3))
    )
    assert three[True].views.cells == 3 and three[True].name == "pca on cells of 3 x 3"
    (benchmark,) = protocols(Recipe(data=large, evaluate=Evaluate(protocol="rdc-hard")))
    assert benchmark[True].hash == both[True].hash


def test_several_protocols_each_have_both_ways_to_crop_and_changes_of_their_own():
    changes = ["epochs=7", "rdc-soft.labels.temperature=4"]
    hard, soft = protocols(Recipe(data=Data(resolution=64)), ["rdc-hard", "rdc-soft"], changes)
    assert {p.epochs for pair in (hard, soft) for p in pair.values()} == {7}
    assert hard[True].name == "rdc-hard with other epochs on cells of 2 x 2"
    assert soft[False].name == "rdc-soft with other epochs, labels.temperature"
    assert (hard[True].views.cells, soft[True].labels.temperature) == (2, 4.0)


def test_each_number_of_images_per_class_has_a_run_of_its_own(tmp_path):
    one, ten = runs(Recipe(), tmp_path, "1,10")
    assert (one[0].ipc, one[0].prune.count, one[1]) == (1, 4, tmp_path / "ipc1")
    assert (ten[0].ipc, ten[0].prune.count, ten[1]) == (10, 40, tmp_path / "ipc10")
    assert runs(Recipe(), tmp_path, None) == [(resolved(Recipe()), tmp_path)]


def test_variants_stand_in_the_order_of_the_table():
    assert list(chosen(["RDED", "P"])) == ["P", "RDED"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chosen(["P+B"]), r"unknown variant 'P\+B'.*known: P, P\+C"),
        (lambda: resolved(Recipe(prune=Prune(keep=0.5))), "take exactly 4 images of each class"),
        (lambda: resolved(Recipe(prune=Prune(count=5))), "take exactly 4 images of each class"),
        (lambda: resolved(Recipe(combine=Combine(grid=9))), "leaves cells of 1 px"),
        (lambda: protocols(Recipe()), "quick has no views.crop"),
        (lambda: runs(Recipe(), None, "1,x"), "different whole numbers, such as 1,10, got '1,x'"),
        (lambda: runs(Recipe(), None, "5,5"), "different whole numbers"),
        (lambda: protocols(Recipe(), ["rdc-hard"], ["rdc-soft.lr=1"]), "unknown key 'rdc-soft"),
        (lambda: Combine(grid=1), "from 2 to 16, got 1"),
        (lambda: Rded(pool=0), r"rded\.pool is at least 1, got 0"),
        (lambda: Rded(scale=(0.5, 0.2)), r"rded\.scale is a range of shares"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("path", sorted(config.shipped_folder("recipes").glob("pca_*.yaml")))
def test_a_shipped_recipe_of_pca_is_taken_and_says_how_to_run_it(path):
    recipe = resolved(config.load(Recipe, path))
    (both,) = protocols(recipe)
    assert both[True].views.cells == recipe.combine.grid
    assert recipe.prune.score == "el2n" and recipe.prune.order == "easy"
    assert f"latentdc.pca recipes/{path.name}" in path.read_text()
