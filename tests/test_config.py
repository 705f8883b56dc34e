import re

import pytest

from latentdc import config
from latentdc.errors import InputError
from latentdc.recipe import Recipe
from latentdc.recipe.protocol import EvalProtocol


@pytest.fixture
def recipe(tmp_path):
    """A recipe file with the given text."""

    def write(text: str):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def refused(path, *overrides, schema=Recipe) -> str:
    with pytest.raises(InputError) as error:
        config.load(schema, path, overrides)
    return str(error.value)


def test_overrides_win_over_the_file_and_the_file_over_defaults(recipe):
    path = recipe("ipc: 3\nprune: {keep: 0.5}\nprior: {kind: pixel}\n")
    loaded = config.load(Recipe, path, ["prune.keep=0.25", "evaluate.students=[vit, alexnet]"])
    assert (loaded.ipc, loaded.prune.keep, loaded.prior.kind) == (3, 0.25, "pixel")
    assert loaded.evaluate.students == ["vit", "alexnet"]
    assert loaded.distill.steps == Recipe().distill.steps


def test_a_written_recipe_reads_as_the_same_recipe(tmp_path):
    made = config.load(Recipe, config.find("digits_ipc1", "recipes"), ["data.mean=[0.1,0.2,0.3]"])
    config.save(made, tmp_path / "recipe.yaml")
    assert config.load(Recipe, tmp_path / "recipe.yaml") == made
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pcr=1", "unknown key 'pcr'; did you mean 'ipc'?"),
        ("data.sorce=x", "unknown key 'data.sorce'; did you mean 'data.source'?"),
        ("prune.scorer.epoch=1", "did you mean 'prune.scorer.epochs'?"),
        ("keep=0.2", "unknown key 'keep'; did you mean 'prune.keep'?"),
        ("steps=9", "'distill.steps' or 'prior.steps' or 'evaluate.steps'?"),
        ("evaluate={seds: 1}", "unknown key 'evaluate.seds'; did you mean 'evaluate.seeds'?"),
        ("prior.xyz=1", "unknown key 'prior.xyz'; known here: ['kind', 'weights', 'revision',"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_name(recipe, override, message):
    assert message in refused(recipe("ipc: 1"), override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ipc=many", "ipc takes a whole number, got 'many'."),
        ("ipc=1.5", "ipc takes a whole number, got 1.5."),
        ("ipc=", "ipc takes a whole number, got null."),
        ("ipc.x=1", "ipc takes a whole number, got {'x': 1}."),
        ("distill.lr_z=fast", "distill.lr_z takes a number or 'auto', got 'fast'."),
        ("push.private=maybe", "push.private takes true or false, got 'maybe'."),
        ("threads=all", "threads takes a whole number or null, got 'all'."),
        ("prior.kind=gan", "prior.kind takes one of 'pixel', 'autoencoder', 'diffusion', 'vector'"),
        ("data.mean=[0.5,0.5]", "data.mean takes a list of 3 numbers, got [0.5, 0.5]."),
        ("evaluate.students=vit", "evaluate.students takes a list of texts or null, got 'vit'."),
        ("evaluate.rows=[all]", "'distilled', 'random', 'coreset', 'kept', 'full', got ['all"),
        ("evaluate.rows.0=full", "evaluate.rows takes a list of values, each one of 'distilled'"),
        ("prune=easy", "prune takes a mapping with the keys score, order, keep, scorer, coreset,"),
    ],
)
def test_a_wrong_type_is_answered_with_the_right_one(recipe, override, message):
    assert message in refused(recipe("ipc: 1"), override)


def test_a_wrong_type_in_the_file_is_named_before_one_on_the_command_line(recipe):
    assert "mine.yaml: seed takes" in refused(recipe("{ipc: 2, seed: x}"), "threads=y")


def test_a_mapping_with_values_of_a_wrong_type_is_named(recipe):
    path = recipe("{name: x, students: [vit], steps: 1, lr_of: {vit: slow}}")
    message = refused(path, schema=EvalProtocol)
    assert "lr_of takes a mapping of texts to numbers, got {'vit': 'slow'}." in message


def test_a_value_out_of_range_keeps_the_message_of_its_own_check(recipe):
    assert refused(recipe("prune: {keep: 20}")).endswith("got 20.0; for 20 % write 0.2.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune: {keep: 0.5\nipc: 1", "mine.yaml: line 2: "),
        ("ipc: 1\nseed: 2\nipc: 3", "mine.yaml: line 3: found duplicate key ipc"),
        ("- ipc", "holds a list; a recipe is a mapping"),
        ("just words", "it holds 'just words'; a recipe is a mapping"),
        ("output: ${nowhere}", "line 1: '${' would be an interpolation"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_the_place(recipe, text, message):
    answer = refused(recipe(text))
    assert message in answer and "\n" not in answer


@pytest.mark.parametrize("override", ["ipc", "=3", "--ipc"])
def test_an_override_that_is_no_assignment_is_refused(recipe, override):
    assert f"an override is key=value, got '{override}'" in refused(recipe("ipc: 1"), override)


@pytest.mark.parametrize("name", ["x\u00a0", "\u3000x", "a b"])
def test_an_override_keeps_the_spaces_that_yaml_keeps(recipe, name):
    assert config.load(Recipe, recipe("ipc: 1"), [f"output={name}"]).output == name


def test_many_unknown_overrides_do_not_make_a_recipe_one_of_another_kind(recipe):
    told = refused(recipe("ipc: 1"), "a=1", "sede=2", "c=3")
    assert told.startswith("unknown key 'a'")
    told = refused(recipe("{a: 1, b: 2, ipc: 1}"), "seed=2")
    assert told.startswith("mine.yaml: its keys are a, b, ipc, and here they are of method")


def test_a_dotted_key_of_a_file_is_not_blamed_on_an_override_of_that_key(recipe):
    told = refused(recipe("prune.keep: 0.5"), "prune.keep=0.2")
    assert told.startswith("mine.yaml: unknown key 'prune.keep': dots are for overrides")


def test_a_broken_override_is_not_blamed_on_the_file(recipe):
    message = refused(recipe("ipc: 1"), "evaluate.students=[vit")
    assert message.startswith("cannot read evaluate.students=[vit: ")


@pytest.mark.parametrize(
    "name", ["digits_ipc1", "digits_ipc1.yaml", "recipes/digits_ipc1.yaml", "recipes/digits_ipc1"]
)
def test_a_shipped_recipe_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = config.find(name, "recipes")
    assert found == config.shipped_folder("recipes") / "digits_ipc1.yaml"


def test_a_file_in_the_current_folder_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits_ipc1.yaml").write_text("ipc: 7")
    assert config.load(Recipe, config.find("digits_ipc1.yaml", "recipes")).ipc == 7
    assert config.find("digits_ipc1", "recipes").is_relative_to(config.shipped_folder("recipes"))
    assert config.find(str(tmp_path / "digits_ipc1.yaml"), "recipes").parent == tmp_path


@pytest.mark.parametrize(
    ("name", "folder", "nearest", "lists"),
    [
        ("digit_ipc1.yaml", "recipes", "digits_ipc1", "recipes and latentdc list sweeps"),
        ("mgd3_digits", "recipes", "methods/mgd3_digits", "recipes and latentdc list sweeps"),
        ("quik", "evaluate/protocols", "quick", "protocols"),
    ],
)
def test_a_name_that_nothing_has_is_answered_with_the_nearest_and_where_all_are_listed(
    tmp_path, monkeypatch, name, folder, nearest, lists
):
    monkeypatch.chdir(tmp_path)
    told = f"did you mean {nearest!r}? See latentdc list {lists}."
    with pytest.raises(InputError, match=re.escape(told)):
        config.find(name, folder)


def test_a_claimed_folder_takes_the_same_recipe_again_and_refuses_another(tmp_path):
    folder = tmp_path / "runs" / "x"
    config.claim(Recipe(ipc=2), folder)
    config.claim(Recipe(ipc=2), folder)
    older = (folder / config.RECIPE).read_text().replace("  zca: false\n", "")
    assert "zca" not in older
    (folder / config.RECIPE).write_text(older)
    config.claim(Recipe(ipc=2), folder)
    written = (folder / "recipe.yaml").read_bytes()
    with pytest.raises(InputError, match=r"another recipe \(ipc is 3 and was 2; seed is 1 and w"):
        config.claim(Recipe(ipc=3, seed=1), folder)
    with pytest.raises(InputError, match=r"ipc is 3 and was 2"):
        config.refuse_other(Recipe(ipc=3), folder)
    assert (folder / "recipe.yaml").read_bytes() == written


def test_what_may_change_is_allowed_and_written(tmp_path):
    config.claim(Recipe(), tmp_path)
    changed = config.load(
        Recipe, config.find("digits_ipc1", "recipes"), ["evaluate.students=[vit]", "threads=3"]
    )
    config.claim(changed, tmp_path / "own")
    again = config.load(Recipe, tmp_path / "own" / "recipe.yaml", ["threads=4", "evaluate.seeds=9"])
    with pytest.raises(InputError, match=r"evaluate\.seeds is 9 and was None"):
        config.claim(again, tmp_path / "own", may_change=["threads"])
    config.claim(again, tmp_path / "own", may_change=["threads", "evaluate."])
    assert config.load(Recipe, tmp_path / "own" / "recipe.yaml") == again


def test_a_check_alone_makes_no_folder(tmp_path):
    config.refuse_other(Recipe(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_folder_whose_recipe_is_damaged_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("ipc: [1")
    with pytest.raises(InputError, match=r"cannot read .*recipe\.yaml: line"):
        config.claim(Recipe(), tmp_path)
