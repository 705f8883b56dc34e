"""What nobody means is refused in a line, in Python as on the command line; nothing is trained."""

import contextlib
import shutil

import pytest
import torch

from latentdc import cli, config
from latentdc.errors import InputError, RunError
from latentdc.evaluate import evaluate, load_protocol
from latentdc.evaluate.baselines import with_baselines
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.preprocessing import Normalization
from latentdc.prune.prune import prune_dataset
from latentdc.recipe import Prune
from tests.evaluate.toys import TEST, protocol, stripes

PLAIN = {"normalization": Normalization()}


@pytest.fixture(autouse=True)
def trained(request, monkeypatch):
    """No training starts, but in tests of how one ends."""
    if "diverges" not in request.node.name:
        monkeypatch.setattr(evaluate, "train_together", lambda *_, **__: pytest.fail("trained"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds is at least 1, got 0"),
        ({"seeds": -1}, "seeds is at least 1, got -1"),
        ({"steps": 0}, "steps is at least 1, got 0"),
        ({"students": []}, "trains no student"),
        ({"students": ["vit", "vit"]}, "names a student twice"),
        ({"students": ["vit", "vit@512"]}, "names a student twice.*has the published one"),
        ({"students": ["convnet3@8", "alexnet@2", "convnet3@8"]}, "names a student twice"),
        ({"students": ["convnet3@08", "convnet3@8"]}, "'convnet3@08': the base width after '@'"),
        ({"students": "vit"}, "students is a list of texts, got 'vit'; write"),
        ({"students": ["resnet"]}, "unknown network 'resnet'"),
    ],
)
def test_students_and_seeds_that_nobody_means_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load_protocol("quick", **changes)


@pytest.mark.parametrize("student", ["convnet5", "convnet4-bn", "resnet18", "torchvision/resnet18"])
def test_a_student_that_is_too_deep_for_the_images_is_refused(student):
    with pytest.raises(InputError, match="px or more, got 8 px; at this resolution use one of"):
        evaluate_sets(stripes(6), TEST, protocol(students=["convnet3@4", student]), **PLAIN)


def of_classes(data, names):
    chosen = (data.labels < len(names)).nonzero().squeeze(1)
    fewer = data.select(chosen)
    object.__setattr__(fewer, "class_names", tuple(names))
    return fewer


def test_a_training_split_of_other_classes_is_refused():
    swapped = of_classes(stripes(6), ["columns", "rows", "chessboard"])
    taught = protocol(labels={"source": "online", "teachers": [{"network": "convnet3@8"}]})
    told = "class 0 is 'columns' in the training set and 'rows' in the test set; both need"
    with pytest.raises(InputError, match=told):
        evaluate_sets(stripes(6), TEST, taught, train=swapped, **PLAIN)
    with pytest.raises(InputError, match=told):
        prune_dataset(swapped, Prune(keep=0.5), TEST)
    assert len(prune_dataset(swapped, Prune(score="random", keep=0.5), TEST)) == len(swapped) / 2


def test_a_test_split_of_other_classes_is_refused():
    two = of_classes(TEST, ["rows", "columns"])
    with pytest.raises(InputError, match="distilled set has 3 classes, the test set 2"):
        evaluate_sets(stripes(6), two, protocol(), **PLAIN)
    with pytest.raises(InputError, match="distilled set has 2 classes, the test set 3"):
        evaluate_sets(of_classes(stripes(6), ["rows", "columns"]), TEST, protocol(), **PLAIN)
    with pytest.raises(InputError, match="class 1 is 'columns' in the distilled set and 'x'"):
        evaluate_sets(
            stripes(6), of_classes(TEST, ["rows", "x", "chessboard"]), protocol(), **PLAIN
        )


@pytest.mark.parametrize("budget", [{"steps": 3}, {"steps": None, "epochs": 2}])
def test_empty_sets_are_refused(budget):
    empty = stripes(6).select(torch.arange(0))
    with pytest.raises(InputError, match=r"holds no images|holds at least one image"):
        evaluate_sets(empty, TEST, protocol(**budget), **PLAIN)
    with pytest.raises(InputError, match="the test set holds no images"):
        evaluate_sets(stripes(6), empty, protocol(**budget), **PLAIN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": stripes(6)}, "sets is a Mapping, got a Dataset; such as {'mine': synthetic}"),
        ({"rows": ["randm"]}, "there is no row 'randm'; did you mean 'random'"),
        ({"rows": []}, "none of the rows"),
        ({"ipc": 0}, "ipc is a whole number of at least 1"),
        ({"ipc": -2}, "ipc is a whole number of at least 1"),
        ({"ipc": 1000}, "a random row of ipc 1000 needs as many"),
        ({"ipc": [1, 1]}, "ipc is that of 2 classes, and stripes has 3"),
    ],
)
def test_rows_that_no_table_has_are_refused(changes, message):
    given = {"sets": {"distilled": stripes(6)}, "train": stripes(30)}
    settings = {**given, "ipc": 2, "rows": ["distilled", "random"], **changes}
    with pytest.raises(InputError, match=message):
        sets = with_baselines(**settings)
        evaluate_sets(sets, TEST, protocol(), **PLAIN)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_diverges_in_its_last_step_gives_no_number(tmp_path, optimizer):
    """Its loss is of the weights before that step, and finite."""
    some = protocol(steps=1, seeds=1, lr=1e38, optimizer=optimizer, weight_decay=1e3)
    with pytest.raises(RunError, match="convnet3@4 with seed 0 ended with a loss of"):
        evaluate_sets(stripes(9), TEST, some, trainings=tmp_path, **PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_diverges_on_test_images_gives_no_number(tmp_path, monkeypatch):
    train = evaluate.train_together

    def overflowing(*arguments, **settings):
        (network,) = train(*arguments, **settings)
        network.linear.weight.data.fill_(3e38)
        return [network]

    monkeypatch.setattr(evaluate, "train_together", overflowing)
    with pytest.raises(RunError, match="logits of test images are NaN or infinite"):
        evaluate_sets(stripes(9), TEST, protocol(seeds=1), trainings=tmp_path, **PLAIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "measure"])
@pytest.mark.parametrize("name", ["lr=0.1", "evaluate.seeds=5", "protocol=mine", "a=b=c", "=x"])
def test_a_folder_that_exists_is_no_override(tmp_path, monkeypatch, capsys, command, name):
    """Sweeps by hand leave such names; a set in them is found, wherever it stands in the line."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made"
    assert_set(made)
    shutil.copytree(made, tmp_path / "runs" / name)
    shutil.copytree(made, tmp_path / name)
    for given in (f"runs/{name}", name, str(tmp_path / "runs" / name)):
        for order in ([given, "threads=1"], ["threads=1", given]):
            said = call(capsys, command, *order)
            assert "no set" not in said and "override" not in said and "unknown key" not in said
            assert said == call(capsys, command, "made", "threads=1")
    said = call(capsys, command, "runs/lr=0.5", "made")
    assert "runs/lr" in said and "changes nothing" in said  # it is not there: an override


@pytest.mark.parametrize("command", ["distill", "prune", "experts"])
def test_a_recipe_may_lie_in_a_folder_with_an_equals_sign(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    shipped = {"experts": "mtt_cifar10"}
    source = config.find(shipped.get(command, "digits_ipc1"), "recipes")
    (tmp_path / "lr=0.1").mkdir()
    shutil.copy(source, tmp_path / "lr=0.1" / "recipe.yaml")
    printed = []
    for name in ("lr=0.1/recipe.yaml", str(source)):
        with contextlib.suppress(SystemExit):
            cli.main([command, name, "seed=3", "--print-config"])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def assert_set(folder):
    """A synthetic set of digits at 8 px, with a recipe whose data nobody opens here."""
    from latentdc.config import to_yaml
    from latentdc.recipe import Data, Recipe
    from latentdc.synthetic import SyntheticSet

    images = torch.zeros(10, 3, 8, 8, dtype=torch.uint8)
    names = tuple(map(str, range(10)))
    recipe = to_yaml(Recipe(data=Data(resolution=8), ipc=1))
    SyntheticSet(images, torch.arange(10), names).save_pretrained(folder, recipe=recipe)


def call(capsys, command, *words):
    """What a call says that ends before its work."""
    stop = {"evaluate": ["--print-config"], "measure": ["--weights", "x.safetensors"]}[command]
    try:
        cli.main([command, *words, *stop])
    except SystemExit as end:
        assert end.code == 2
    output = capsys.readouterr()
    return output.out + output.err
