import pytest

from latentdc import config
from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.sweep.cells import expand, place, runs
from latentdc.sweep.spec import Sweep, slug

DIGITS = config.find("digits_ipc1", "recipes")
AXES = {
    "real": {"easy": [], "hard": ["prune.order=hard"]},
    "kept": {"100 %": ["prune.keep=1.0"], "50 %": ["prune.keep=0.5"]},
}


def written(tmp_path, text: str) -> Sweep:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return config.load(Sweep, path)


def test_cells_are_all_combinations_with_the_overrides_of_their_names():
    cells = expand(DIGITS, ["seed=3", "prune.order=middle"], AXES, check=check)
    assert list(cells) == [
        *(("easy", "100 %"), ("easy", "50 %")),
        *(("hard", "100 %"), ("hard", "50 %")),
    ]
    assert all(recipe.seed == 3 for recipe in cells.values())
    assert cells["easy", "50 %"].prune.order == "middle"  # the override of all cells
    assert cells["hard", "50 %"].prune.order == "hard"  # the point's own wins
    assert cells["hard", "50 %"].prune.keep == 0.5


def test_points_of_an_entry_of_skip_are_left_out():
    cells = expand(DIGITS, [], AXES, skip=[{"real": ["hard"], "kept": ["100 %"]}])
    assert set(cells) == {("easy", "100 %"), ("easy", "50 %"), ("hard", "50 %")}
    assert set(expand(DIGITS, [], AXES, skip=[{"kept": ["50 %"]}])) == {
        ("easy", "100 %"),
        ("hard", "100 %"),
    }


def test_cells_that_keep_everything_are_one_run_whatever_their_order(tmp_path):
    cells = expand(DIGITS, [], AXES)
    shared = runs(cells, tmp_path)
    assert shared["hard", "100 %"] == shared["easy", "100 %"] == ("easy", "100 %")
    assert shared["hard", "50 %"] == ("hard", "50 %")


def test_a_run_that_was_begun_under_another_name_is_gone_on_with(tmp_path):
    place(tmp_path, ("hard", "100 %")).mkdir(parents=True)
    assert runs(expand(DIGITS, [], AXES), tmp_path)["easy", "100 %"] == ("hard", "100 %")


def test_a_coreset_that_is_brought_is_no_run_on_everything(tmp_path):
    axes = {"core": {"a": ["prune.coreset=a.parquet"], "b": ["prune.coreset=b.parquet"]}}
    assert len(set(runs(expand(DIGITS, ["prune.keep=1.0"], axes), tmp_path).values())) == 2


def test_what_a_point_makes_of_a_recipe_is_refused_in_its_name():
    axes = {"ipc": {"none": ["ipc=0"]}}
    with pytest.raises(InputError, match=r"cell none \(ipc=0\): .*ipc is at least 1"):
        expand(DIGITS, [], axes)


def test_names_become_folders():
    assert [slug(name) for name in ("60 %", "loss easy", "../x", "a/b")] == [
        *("60", "loss-easy", "x", "a-b")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: x", "a sweep varies something"),
        ("{recipe: x, axes: {a: {}}}", "axes.a is empty"),
        ("{recipe: x, axes: {a: {60 %: [], '60': []}}}", "names become folders"),
        ("{recipe: x, axes: {a: {'%': []}}}", "names become folders"),
        ("{recipe: x, axes: {kept: {b: []}}, skip: [{kep: [b]}]}", "no axis 'kep'; did you mean"),
        ("{recipe: x, axes: {a: {easy: []}}, skip: [{a: [esy]}]}", "a has no 'esy'; did you mean"),
        ("{recipe: x, axis: {a: {b: []}}}", "unknown key 'axis'; did you mean 'axes'"),
        ("{recipe: x, axes: {a: {b: ipc=1}}}", "axes takes"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path, text)
