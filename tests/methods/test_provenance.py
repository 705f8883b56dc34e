from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

from accelerate import Accelerator

from latentdc.evaluate import load_protocol
from latentdc.evaluate.evaluate import evaluate_sets
from latentdc.methods.context import Context
from latentdc.methods.matching import match
from latentdc.preprocessing import Normalization
from latentdc.priors.pixel import PixelPrior
from latentdc.provenance import circumstances, provenance, same_making, shared_recipe
from latentdc.prune.coreset import Coreset
from latentdc.prune.prune import prune_dataset
from latentdc.recipe import Data, Evaluate, Matching, PriorSettings, Prune, Recipe, Scorer
from latentdc.recipe.methods import MethodSettings
from tests.methods import setup


def kept() -> Coreset:
    """Two images of six of each of three classes."""
    return prune_dataset(setup.dataset(), Prune(score="random", count=2))


def test_no_path_of_this_machine_is_published(tmp_path):
    for name in ("pets", "prior"):
        (tmp_path / name).mkdir()
    for name in ("kept.parquet", "mine.yaml", "net.safetensors"):
        (tmp_path / name).write_text("")
    recipe = Recipe(
        data=Data(source=str(tmp_path / "pets"), cache=str(tmp_path)),
        prune=Prune(
            coreset=str(tmp_path / "kept.parquet"),
            scorer=Scorer(weights=str(tmp_path / "net.safetensors")),
        ),
        prior=PriorSettings(weights=str(tmp_path / "prior")),
        evaluate=Evaluate(protocol=str(tmp_path / "mine.yaml")),
        output=str(tmp_path / "run"),
    )
    shared = shared_recipe(recipe)
    assert str(tmp_path) not in shared
    assert "source: pets" in shared and "coreset: kept.parquet" in shared
    prior = SimpleNamespace(identity="of its weights")
    facts = provenance(recipe, "mine", prior, kept(), "no", size=16)
    assert facts["dataset"] == "pets" and facts["weights"] == "prior"


def test_names_stay_as_they_are():
    recipe = Recipe(data=Data(source="uoft-cs/cifar10"))
    assert (
        provenance(recipe, "x", PixelPrior(16), kept(), "no", size=16)["dataset"]
        == "uoft-cs/cifar10"
    )
    assert shared_recipe(recipe) == shared_recipe(replace(recipe, output="elsewhere"))


def test_what_is_told_of_the_core_set_is_the_core_set_s_and_not_the_recipe_s():
    recipe = Recipe(prune=Prune(keep=0.5, order="hard"))
    facts = provenance(recipe, "x", PixelPrior(16), kept(), "bf16", size=16)
    told = {name: facts[name] for name in ("rule", "order", "keep", "core_set", "precision")}
    assert told == {
        "rule": "random", "order": "easy", "keep": 0.333333, "core_set": 6, "precision": "bf16",
    }  # fmt: skip


def test_pixels_are_of_no_weights_and_of_the_making_that_told_some():
    recipe = Recipe(prior=PriorSettings(kind="pixel"))  # whose weights are still the default
    facts = provenance(recipe, "x", PixelPrior(16), kept(), "no", size=16)
    assert facts["weights"] is None
    assert same_making(facts, {**facts, "weights": "digits"}, recipe)
    assert not same_making(facts, {**facts, "prior_hash": "another"}, recipe)


def test_a_set_of_a_version_that_lacked_some_keys_is_of_the_same_making():
    recipe = Recipe(
        method=MethodSettings(kind="sampling"), prior=PriorSettings(kind="diffusion", weights="w")
    )
    facts = provenance(recipe, "x", None, kept(), "no", size=16)
    settings = {key: value for key, value in facts["settings"].items() if key != "semantic"}
    del settings["learnability"]["sign"]
    before = {**facts, "settings": settings, "latentdc": "0.1", "date": "today"}
    facts = provenance(recipe, "renamed", None, kept(), "no", size=16)
    assert same_making(facts, before, recipe)
    for other in ({"settings": {**settings, "eta": 0.5}}, {"seed": 3}):
        assert not same_making(facts, {**before, **other}, recipe)
    assert not same_making(facts, {}, recipe)


def test_a_set_that_python_makes_names_the_network_that_it_was_matched_with():
    one = match(
        setup.dataset(), PixelPrior(8), setup.objective(), Matching(steps=1), Context(ipc=1)
    )
    protocol = load_protocol("quick", students=["convnet3@8", "alexnet@8"], seeds=1, steps=1)
    seen = Normalization()
    results = evaluate_sets({"mine": one}, setup.dataset(), protocol, normalization=seen)
    assert one.provenance["network"] == "convnet3@8"
    assert [result.unseen for result in results] == [False, True]


def test_a_set_keeps_when_and_by_what_it_was_made_and_of_which_images():
    train = setup.dataset()
    words = ["latentdc", "distill", "/home/me/my recipe.yaml", "output=here", "ipc=2", "-v"]
    facts = circumstances(train, Accelerator(cpu=True), words)
    assert facts["command"] == "latentdc distill 'my recipe.yaml' ipc=2"
    assert facts["date"] == datetime.now(UTC).date().isoformat()
    assert {"latentdc", "torch", "diffusers", "device", "commit"} <= set(facts)
    backwards = train.select(list(range(len(train)))[::-1])
    assert circumstances(backwards, Accelerator(cpu=True), ())["data_hash"] == facts["data_hash"]
    fewer = train.select(list(range(len(train) - 1)))
    assert circumstances(fewer, Accelerator(cpu=True), ())["data_hash"] != facts["data_hash"]
