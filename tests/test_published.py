"""What leaves this machine with a set holds names, and no path of this machine."""

import json

import pytest
from huggingface_hub import DatasetCard

from latentdc import cli, config
from latentdc.errors import InputError
from latentdc.provenance import shared_recipe
from latentdc.recipe import (
    Data,
    Evaluate,
    Experts,
    ObjectiveSettings,
    PriorSettings,
    Prune,
    Recipe,
    Scorer,
    Trajectory,
)
from latentdc.results.result import to_json
from tests.results.toys import table
from tests.synthetic.sets import random_set

main = cli.entry("push")

PATHS = {  # of machines, and what is told of them
    "/home/jane.doe/nets/teacher.safetensors": "teacher.safetensors",
    "/home/jane.doe/my nets/teacher.safetensors": "teacher.safetensors",
    "/home/jane.doe/data/": "data",
    "/jane.doe": "jane.doe",
    "//home//jane.doe//teacher.safetensors": "teacher.safetensors",
    "~/nets/teacher.safetensors": "teacher.safetensors",
    "~jane.doe/nets/teacher.safetensors": "teacher.safetensors",
    "~jane.doe/": "local",
    "../jane.doe/teacher.safetensors": "teacher.safetensors",
    "./jane.doe/teacher.safetensors": "teacher.safetensors",
    r"C:\Users\jane.doe\teacher.safetensors": "teacher.safetensors",
    "C:/Users/jane.doe/teacher.safetensors": "teacher.safetensors",
    r"d:\jane.doe\my nets\teacher.safetensors": "teacher.safetensors",
    r"\\server\jane.doe\teacher.safetensors": "teacher.safetensors",
    "file:///home/jane.doe/teacher.safetensors": "teacher.safetensors",
    "FILE:///C:/Users/jane.doe/teacher.safetensors": "teacher.safetensors",
    "cannot read '/home/jane.doe/kept.parquet': no such file": "cannot read 'kept.parquet': no su",
    "weights=/home/jane.doe/a.pt, at ~/b.pt (C:\\Users\\jane.doe\\c.pt)": "weights=a.pt, at b.pt",
    "see file:///home/jane.doe/a.pt": "see a.pt",
}
NAMES = (  # of other things, which stay
    *(
        "uoft-cs/cifar10",
        "torchvision/resnet18",
        "convnet3@64",
        "1/2 of it",
        "and/or",
        "n/a",
        "5 / 2",
    ),
    *(
        "https://huggingface.co/datasets/a/b",
        "hf://datasets/a/b",
        "a photo of a {}",
        "km/h",
        "-",
        "",
    ),
    *("10:30", "a: b", "x~y", "~5 %", "C: a class"),
)


@pytest.mark.parametrize(("path", "told"), PATHS.items())
def test_paths_become_names_wherever_they_stand(tmp_path, path, told):
    random_set(provenance={"dataset": "x", "parts": [{"weights": path}]}).save_pretrained(
        tmp_path / "set",
        recipe=config.dump({"output": path, "list": [path], "other": {"note": path}}),
        results={
            "protocol": "p",
            "labels": {"teachers": [{"weights": path}]},
            "missing": {"x": path},
        },
    )
    content = json.loads((tmp_path / "set" / "results.json").read_text())
    assert content["labels"]["teachers"][0]["weights"].startswith(told)
    assert content["missing"]["x"].startswith(told)
    for name in ("README.md", "recipe.yaml", "results.json", "provenance.json"):
        text = (tmp_path / "set" / name).read_text()
        assert path == "/jane.doe" or "jane.doe" not in text, name


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_paths_stay(tmp_path, name):
    facts = {"dataset": "x", "note": name, "weights": name}
    random_set(provenance=facts).save_pretrained(
        tmp_path / "set", recipe=config.dump(facts), results=facts
    )
    for file in ("results.json", "provenance.json"):
        assert json.loads((tmp_path / "set" / file).read_text()) == facts
    assert (tmp_path / "set" / "recipe.yaml").read_text() == config.dump(facts)


def test_the_home_of_this_user_stands_nowhere(tmp_path, monkeypatch):
    home = tmp_path / "jane.doe"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    facts = {
        "dataset": str(home),
        "weights": "~",
        "note": f"{home}/",
        "quoted": f"“{home}/x.pt” is in {home}",
        "mount": f"-v{home}/x",
        "address": "https://jane.doe:hf_secret@huggingface.co/x",
        "way": "run ../../jane.doe/x.yaml",
    }
    random_set(provenance=facts).save_pretrained(tmp_path / "set")
    assert json.loads((tmp_path / "set" / "provenance.json").read_text()) == {
        **dict.fromkeys(("dataset", "weights", "note"), "local"),
        "quoted": "“~/x.pt” is in ~",
        "mount": "-v~/x",
        "address": "https://huggingface.co/x",
        "way": "run x.yaml",
    }


def test_class_names_are_no_paths(tmp_path):
    recipe = "data:\n  classes:\n  - /m/01yrx\n  - /m/0bt9lr\n"
    random_set().save_pretrained(tmp_path / "set", recipe=recipe)
    assert (tmp_path / "set" / "recipe.yaml").read_text() == recipe


def test_a_recipe_keeps_its_words_and_loses_its_comments(tmp_path):
    recipe = "# in /home/jane.doe\ndata: {classes: [no, 010]}\nipc: 010  # ~/x/y\nseed: null\n"
    random_set().save_pretrained(tmp_path / "set", recipe=recipe)
    kept = (tmp_path / "set" / "recipe.yaml").read_text()
    assert kept == "data:\n  classes:\n  - no\n  - 010\nipc: 010\nseed: null\n"


def test_what_is_no_yaml_is_no_recipe_of_a_set(tmp_path):
    with pytest.raises(InputError, match=r"the recipe of a set is YAML: line"):
        random_set().save_pretrained(tmp_path / "set", recipe="ipc: [1")
    assert not (tmp_path / "set").exists()


def test_nothing_that_is_pushed_names_a_path(tmp_path, monkeypatch, hub):
    monkeypatch.setenv("HOME", str(tmp_path / "jane.doe"))
    home = tmp_path / "jane.doe"
    home.mkdir()
    for name in ("a.parquet", "b.parquet", "c.npy", "d.safetensors", "e.yaml"):
        (home / name).write_text("")
    for name in ("data", "prior", "vae", "experts"):
        (home / name).mkdir()
    monkeypatch.chdir(home)
    recipe = Recipe(
        data=Data(source="~/data", cache="~/cache", classes=["a", "b"]),
        prune=Prune(
            keep=0.5,
            coreset=f"{home}/a.parquet",
            scores="b.parquet",
            features="../jane.doe/c.npy",
            scorer=Scorer(weights="~/d.safetensors"),
        ),
        prior=PriorSettings(weights=f"{home}/prior", autoencoder="vae/../vae"),
        objective=ObjectiveSettings(trajectory=Trajectory(experts="~/experts")),
        experts=Experts(epochs=3),
        evaluate=Evaluate(protocol=f"{home}/e.yaml"),
        output="~/run",
    )
    results = {
        "protocol": "p",
        "protocol_settings": {"labels": {"teachers": [{"weights": f"{home}/t"}]}},
    }
    random_set(provenance={"dataset": "~/data", "weights": f"{home}/prior"}).save_pretrained(
        home / "run", recipe=shared_recipe(recipe), results=results
    )
    main([str(home / "run"), "user/name"])
    pushed = hub.files("datasets/user/name")
    assert {"README.md", "recipe.yaml", "results.json", "provenance.json"} <= set(pushed)
    for name, content in pushed.items():
        assert b"jane.doe" not in content and str(tmp_path).encode() not in content, name
    shared = config.load(Recipe, home / "run" / "recipe.yaml")
    assert (shared.data.source, shared.prior.weights, shared.prior.autoencoder) == (
        "data",
        "prior",
        "vae",
    )
    assert shared.prune.features == "c.npy" and shared.evaluate.protocol == "e.yaml"


HOSTILE = (
    "x\n---\nlicense: mit",
    "---",
    "a\r\n\r\n# Heading\u2028---",
    "```\n</code>",
    "`code` **bold** _it_ [a](javascript:b) ![c](d) <script>e</script> <!-- f",
    "| a | b |\n|---|---|",
    "'\": {}[]&*!|>%@`#",
    "\\| {0} {recipe}",
    "- x\n- y",
    "no",
    "\x1b[31mred\x00",
)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_breaks_the_card(tmp_path, text):
    plain = random_set(class_names=("a", "b", "c", "d"), provenance={"dataset": "x", "rule": "y"})
    rows = to_json(table(z=((0.5, 0.5),)))
    plain.save_pretrained(tmp_path / "plain", recipe="output: x\n", results=rows)
    hostile = random_set(
        class_names=(text, "b", "c", "d"), provenance={"dataset": text, "rule": text, text: "y"}
    )
    hostile.save_pretrained(
        tmp_path / "hostile",
        recipe=config.dump({"output": text, text: [text]}),
        results={**to_json(table(**{text: ((0.5, 0.5),)})), text: text},
    )
    one, other = (DatasetCard.load(tmp_path / name / "README.md") for name in ("plain", "hostile"))
    data, usual = other.data.to_dict(), one.data.to_dict()
    assert set(data) == set(usual) and data["license"] == "unknown"
    names = data["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert [*names.values()] == [text, "b", "c", "d"]
    assert "\n" not in data["pretty_name"]
    headings = [line for line in _outside_code(other.text) if line.startswith("#")]
    assert len(headings) == 6 and headings[1:] == [
        "## How to load it", "## Results", "## How it was made", "## How to repeat it",
        "## Limits and licence",
    ]  # fmt: skip
    [row] = [line for line in other.text.splitlines() if line.endswith("| 50.0 ± 0.0 |")]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3
    for line in _outside_code(other.text):
        assert "<script" not in line.replace("\\<", "") and "\x1b" not in line


def _outside_code(text: str) -> list[str]:
    lines, fence = [], None
    for line in text.splitlines():
        if fence is None and line.startswith("```"):
            fence = line[: len(line) - len(line.lstrip("`"))]
        elif fence is not None and line.strip() == fence:
            fence = None
        elif fence is None:
            lines.append(line)
    assert fence is None
    return lines
