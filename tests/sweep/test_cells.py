import pytest

from latentdc import config
from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.sweep.spec import (
    Sweep,
    cell_folder,
    expand,
    read_sweep,
    shared_runs,
    slug,
    wanted_points,
)

SHIPPED = config.shipped_folder("recipes") / "sweeps"
AXES = {
    "real": {"easy": [], "hard": ["prune.order=hard"]},
    "kept": {"100 %": ["prune.keep=1.0"], "50 %": ["prune.keep=0.5"]},
}


def digits(**settings) -> Sweep:
    return Sweep(**{"recipe": "digits_ipc1", "axes": AXES, **settings})


def written(tmp_path, text: str) -> Sweep:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return read_sweep(path)


def test_cells_are_all_combinations_with_the_overrides_of_their_names():
    cells = expand(digits(overrides=["seed=3"]), ["prune.order=middle"], check=check)
    assert list(cells) == [
        *(("easy", "100 %"), ("easy", "50 %")),
        *(("hard", "100 %"), ("hard", "50 %")),
    ]
    assert all(recipe.seed == 3 for recipe in cells.values())
    assert cells["easy", "50 %"].prune.order == "middle"  # the override of all cells
    assert cells["hard", "50 %"].prune.order == "hard"  # the point's own wins
    assert cells["hard", "50 %"].prune.keep == 0.5


def test_a_sweep_like_another_is_laid_over_it(tmp_path):
    there = written(
        tmp_path,
        """
        like: sweeps/methods
        overrides: [evaluate.seeds=1]
        axes: {method: {mine: [method.kind=selection, prune.order=hard], plain: [prior.steps=5]}}
        only: {method: [plain, mine, RDED], set: ["2"], ipc: ["10"]}
        """,
    )
    cells = expand(there, check=check)
    assert list(cells) == [(one, "2", "10") for one in ("plain", "RDED", "mine")]
    assert {(r.evaluate.seeds, r.evaluate.steps, r.seed, r.ipc) for r in cells.values()} == {
        (1, 200, 2, 10)
    }
    assert cells["plain", "2", "10"].prior.steps == 5
    assert cells["mine", "2", "10"].prune.order == "hard"
    assert there.against == {"method": "plain"} and there.over == "set"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like: [a]", r"mine.yaml: like names a sweep, such as sweeps/methods; got \['a'\]"),
        ("like: sweeps/methodz", "no file sweeps/methodz, .* did you mean 'sweeps/methods'"),
        ("like: sweeps/methods_quick", "which is like another one; name that one"),
        ("{like: sweeps/methods, overrides: 3}", "mine.yaml: overrides takes a list of texts"),
        ("{like: sweeps/methods, onli: {}}", "unknown key 'onli'; did you mean 'only'"),
        ("{like: sweeps/methods, only: {sett: [a]}}", "only: there is no axis 'sett'"),
        ("{like: sweeps/methods, only: {set: [9]}}", "only: set has no '9'"),
        ("{like: sweeps/methods, only: {method: [RDED]}}", "skip or only leaves out every cell"),
    ],
)
def test_what_a_sweep_like_another_cannot_say_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path, text)


def test_the_quick_look_has_one_set_and_seed_of_every_method():
    quick, every = (read_sweep(SHIPPED / f"{name}.yaml") for name in ("methods_quick", "methods"))
    cells = expand(quick, check=check)
    assert [*cells] == [(method, "0", "10") for method in every.axes["method"]]
    assert {recipe.evaluate.seeds for recipe in cells.values()} == {1}


def test_a_key_that_some_names_of_a_later_axis_set_is_an_earlier_one_s_elsewhere():
    axes = {"a": {"one": [], "two": ["ipc=2"]}, "b": {"as is": [], "three": ["ipc=3"]}}
    cells = expand(digits(axes=axes), ["ipc=5"])
    assert [recipe.ipc for recipe in cells.values()] == [5, 3, 2, 3]


def test_an_override_of_what_all_cells_set_is_refused():
    with pytest.raises(InputError, match=r"prune.keep=0.2 changes no cell, .* --only kept=\.\.\."):
        expand(digits(), ["seed=1", "prune.keep=0.2"])
    axes = {"scorer": {"a": ["prune.scorer={epochs: 2}"], "b": ["prune.scorer={epochs: 3}"]}}
    for lost in ("prune.scorer.epochs=4", "prune.scorer={epochs: 4}", "prune.scorer=null"):
        with pytest.raises(InputError, match=r"changes no cell, .* axis scorer sets"):
            expand(digits(axes=axes), [lost])
    cells = expand(digits(axes=axes), ["prune.scorer.lr=1"])  # mappings are merged
    assert [recipe.prune.scorer.lr for recipe in cells.values()] == [1, 1]


def test_an_override_that_each_chosen_name_sets_is_refused():
    """Of cells that are not chosen it would change some, and none that runs."""
    axes = {"kept": {"half": ["prune.keep=0.5"], "by recipe": []}}
    with pytest.raises(InputError, match=r"keep=0.2 changes no cell, .* axis kept that is chosen"):
        expand(digits(axes=axes), ["prune.keep=0.2"], only={"kept": ["half"]})
    for only in (None, {"kept": ["by recipe"]}, {"kept": ["half", "by recipe"]}):
        cells = expand(digits(axes=axes), ["prune.keep=0.2"], only=only)
        assert [recipe.prune.keep for recipe in cells.values()] == [0.5, 0.2]


def test_points_of_an_entry_of_skip_are_left_out():
    cells = expand(digits(skip=[{"real": ["hard"], "kept": ["100 %"]}]))
    assert set(cells) == {("easy", "100 %"), ("easy", "50 %"), ("hard", "50 %")}
    assert set(expand(digits(skip=[{"kept": ["50 %"]}]))) == {
        ("easy", "100 %"),
        ("hard", "100 %"),
    }


def test_cells_that_keep_everything_are_one_run_whatever_their_order(tmp_path):
    cells = expand(digits())
    shared = shared_runs(cells, tmp_path)
    assert shared["hard", "100 %"] == shared["easy", "100 %"] == ("easy", "100 %")
    assert shared["hard", "50 %"] == ("hard", "50 %")


def test_a_run_that_was_begun_under_another_name_is_gone_on_with(tmp_path):
    cell_folder(tmp_path, ("hard", "100 %")).mkdir(parents=True)
    assert shared_runs(expand(digits()), tmp_path)["easy", "100 %"] == ("hard", "100 %")


def test_a_coreset_that_is_brought_is_no_run_on_everything(tmp_path):
    axes = {"core": {"a": ["prune.coreset=a.parquet"], "b": ["prune.coreset=b.parquet"]}}
    assert (
        len(set(shared_runs(expand(digits(axes=axes), ["prune.keep=1.0"]), tmp_path).values())) == 2
    )


def test_what_a_point_makes_of_a_recipe_is_refused_in_its_name():
    axes = {"ipc": {"none": ["ipc=0"]}}
    with pytest.raises(InputError, match=r"cell none \(ipc=0\): .*ipc is at least 1"):
        expand(digits(axes=axes))


def test_what_a_recipe_does_not_allow_is_left_out_where_it_is_not_wanted():
    sweep = digits(axes={"ipc": {"none": ["ipc=0"], "one": [], "two": ["ipc=2"]}})
    cells = expand(sweep, only={"ipc": ["two"]})
    assert list(cells) == [("one",), ("two",)]
    assert wanted_points(cells, sweep, {"ipc": ["two"]}) == [("two",)]
    with pytest.raises(InputError, match="no cell is left; --only, skip and only of"):
        wanted_points(cells, sweep, {"ipc": ["none"]})


def test_a_sweep_pushes_nothing():
    with pytest.raises(InputError, match="latentdc push"):
        expand(digits(), ["push.repo=user/name"])


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
        ("{recipe: x, axes: {a: {results.json: []}}}", "beside a sweep's own results.json, "),
        ("{recipe: x, axes: {a: {b: [], Trainings: []}}}", "got Trainings; give it another name"),
        ("{recipe: x, axes: {kept: {b: []}}, skip: [{kep: [b]}]}", "no axis 'kep'; did you mean"),
        ("{recipe: x, axes: {a: {easy: []}}, skip: [{a: [esy]}]}", "a has no 'esy'; did you mean"),
        ("{recipe: x, axes: {a: {b: []}}, over: set}", "over: there is no axis 'set'"),
        ("{recipe: x, axes: {a: {b: []}}, over: a}", "over=a is the only axis"),
        ("{recipe: x, axes: {a: {easy: []}}, against: {a: esy}}", "against: a has no 'esy'; did"),
        (
            "{recipe: x, axes: {a: {b: []}, set: {c: []}}, over: set, against: {set: c}}",
            "against is one name on one axis other than over=set",
        ),
        (
            "{recipe: x, axes: {a: {b: [], c: []}}, skip: [{a: [b]}], against: {a: b}}",
            "against is {'a': 'b'}, and skip or only leaves out every cell of it; name another",
        ),
        ("{recipe: x, axes: {a: {DM: [], dm: []}}}", "not in case alone; got DM, dm"),
        ("{recipe: x, axis: {a: {b: []}}}", "unknown key 'axis'; did you mean 'axes'"),
        ("{recipe: x, axes: {a: {b: ipc=1}}}", "axes takes"),
        (
            "{recipe: x, axes: {a: {b: [ipc=1]}, c: {d: []}, e: {f: [ipc=2], g: [ipc=3]}}}",
            "axes.a sets ipc=1, which each name of axes.e, a later one, sets anew",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path, text)
