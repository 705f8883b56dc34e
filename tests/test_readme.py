"""What the README and docs/ say holds: links, paths, keys, commands and code."""

import json
import re
import shlex
from dataclasses import fields, is_dataclass
from itertools import takewhile
from pathlib import Path

import pytest

from latentdc import cli, config
from latentdc.evaluate import load_protocol
from latentdc.recipe import Recipe
from latentdc.recipe.prior_training import PriorRecipe
from latentdc.recipe.rules import RULES
from latentdc.run_folder import MAY_CHANGE
from latentdc.synthetic import folder as layout

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = {
    f"latentdc.{module.removesuffix('.__main__')}": name
    for name, (module, *_) in cli.COMMANDS.items()
}


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[tuple[str, ...]]:
    """latentdc's commands and their arguments, however they are launched."""
    found = []
    for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            after = words[words.index("-m") + 1 :] if "-m" in words else []
            if words[:1] == ["latentdc"]:
                found.append(tuple(words[1:]))
            elif after and after[0] in MODULES:
                found.append((MODULES[after[0]], *after[1:]))
    return found


COMMANDS = [
    pytest.param(command, id=f"{page.name}: {' '.join(command)}")
    for page in PAGES
    for command in commands(page)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_source_files_exist(page):
    named = re.findall(r"`([\w/]+\.py)`", page.read_text())
    places = (ROOT, ROOT / "latentdc")
    assert [name for name in named if not any((p / name).is_file() for p in places)] == []


def defaults(recipe: object, prefix: str = "") -> dict[str, str]:
    """Dotted keys and their defaults, as YAML writes them."""
    found = {}
    for field in fields(recipe):
        key, value = prefix + field.name, getattr(recipe, field.name)
        found |= defaults(value, f"{key}.") if is_dataclass(value) else {key: written(value)}
    return found


def written(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def table(heading: str) -> dict[str, str]:
    """First two columns of the table under a heading of docs/recipes.md."""
    section = (ROOT / "docs/recipes.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| `(.+?)` \|", section, re.M))


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_lists_are_lists_on_the_site_too(page):
    """Which wants a blank line before one, and four spaces before what goes on in an item."""
    text = re.sub(r"^( *)```.*?^ *```$", r"\1code", page.read_text(), flags=re.M | re.S)
    assert not re.findall(r"^(?! |- |\d+\. ).+\n- .*", re.sub(r"\n +", " ", text), flags=re.M)
    assert not re.findall(r"\n\n {1,3}\S.*|^ {1,3}(?:-|\d+\.) .*", text, flags=re.M)


def test_every_key_of_a_recipe_is_listed_with_its_default():
    assert table("Keys of a run") == defaults(Recipe())


def test_every_key_of_a_priors_recipe_is_listed_with_its_default():
    own = {key: value for key, value in defaults(PriorRecipe()).items() if key[:5] != "data."}
    assert table("Keys of a prior's training") == own


def test_every_key_that_may_change_when_a_run_goes_on_is_listed():
    page = (ROOT / "docs/recipes.md").read_text().split("What does not touch the synthetic set")[1]
    named = re.findall(r"`([\w.*]+)`", page.partition("Any other change is refused")[0])
    assert [name.rstrip("*") for name in named] == list(MAY_CHANGE)


def test_every_shipped_prior_is_listed_with_what_was_measured():
    page = (ROOT / "docs/priors.md").read_text()
    for path in (ROOT / "assets/priors").glob("*/training.json"):
        facts = json.loads(path.read_text())
        row = next(line for line in page.splitlines() if line.startswith(f"| `{path.parent.name}`"))
        assert f"{facts['psnr_db']:.2f} dB" in row
        assert " / ".join(f"{count:,}" for count in facts["parameters"]) in row


def test_the_numbers_of_the_evaluation_page_are_of_the_protocol_as_it_is():
    assert load_protocol("quick").hash in (ROOT / "docs/evaluation.md").read_text()


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with the files that the pages tell their readers to write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    (tmp_path / "FILE.parquet").touch()
    for page in PAGES:
        for block in blocks(page, "yaml"):
            (tmp_path / block.split()[1]).write_text(block)  # the first line is `# name.yaml`
    return tmp_path


def pretend_set(folder: Path) -> None:
    for name in (layout.ROWS, layout.PROVENANCE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    config.save(Recipe(), folder / layout.RECIPE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_ones_that_latentdc_takes(command, desk):
    name, *arguments = command
    parsed = ("push", "push-prior", "verify", "export", "convert-prior", "measure", "compare")
    if name in (*parsed, "report", "list", "copy", "env"):
        cli.parse(command)
        return
    if "--report" in arguments:
        pytest.importorskip("matplotlib")  # of the extra `plots`
    if name == "evaluate":
        for given in takewhile(lambda word: "=" not in word and word[:2] != "--", arguments):
            pretend_set(desk / given)
    try:
        cli.main([name, *(a for a in arguments if a != "--dry-run"), "--print-config"])
    except SystemExit as end:
        assert not end.code


def test_the_pages_have_commands_to_try():
    assert {command[0] for page in PAGES for command in commands(page)} == set(cli.COMMANDS)


SHORTER = {
    "api.md": {
        "keep=0.6": 'keep=0.6, scorer=latentdc.Scorer(network="convnet3@32", epochs=2)',
        "steps=200": "steps=2",
        'load_protocol("quick")': 'load_protocol("quick", seeds=2, steps=2)',
    }
}


@pytest.mark.slow
def test_the_python_of_the_pages_runs(desk, hub, capsys, monkeypatch):
    import datasets

    of_datasets = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": False}
    for name, value in {**of_datasets, "HF_DATASETS_CACHE": desk / "datasets"}.items():
        monkeypatch.setattr(datasets.config, name, value)
    for page in PAGES:
        space: dict[str, object] = {}  # of one page, from its top to its end
        for index, code in enumerate(blocks(page, "python")):
            for full, short in SHORTER.get(page.name, {}).items() if index == 0 else ():
                assert full in code
                code = code.replace(full, short)
            exec(code, space)
        if page.name == "api.md":
            lines = capsys.readouterr().out.splitlines()
            steps = [line for line in lines if line.startswith("{'student'")]
            (scored,) = (line for line in lines if line.startswith("convnet3"))
            mean, std = map(float, scored.split()[1:])
            assert 0 < mean < 1 and 0 <= std < 1 and steps
    assert (desk / "digits-ipc1" / layout.CARD).is_file()
    assert hub.files("datasets/user/my-digits", "v1")


def rows_of(text: str) -> list[list[str]]:
    """Cells of a table's lines, without its rule."""
    lines = re.findall(r"^\| (.*) \|$", text, re.M)
    return [
        [cell.strip() for cell in re.split(r" ?\| ?", line)] for line in lines if "---" not in line
    ]


def test_the_readme_compares_methods_by_the_numbers_of_the_records():
    record = (ROOT / "docs/records/methods.md").read_text()
    measured = {}
    for data, heading in (("cifar10", "## CIFAR-10"), ("digits", "## 1 image per class")):
        part = record.split(heading)[1].split("\n## ")[0]
        for row in rows_of(part):
            if len(row) == 8:  # of accuracies, the table of most sets first
                name, _, _, seconds, seen, _, _, unseen = row
                measured.setdefault((data, name), [seen, unseen, seconds])
    part = README.read_text().split("## Methods side by side")[1].split("\n## ")[0]
    _, *rows = rows_of(part)
    assert {"random", "easy core set", "PCA", "pixels DM", "LD3M", "mgd3", "dap"} <= {
        row[0] for row in rows
    }
    for name, *cells in rows:
        for data, shown in (("cifar10", cells[:3]), ("digits", cells[3:])):
            assert shown == measured.get((data, name), ["", "", ""])


def test_the_readme_counts_the_protocols_that_are_there():
    brought = list(config.shipped_folder("evaluate/protocols").glob("*.yaml"))
    assert f"{len(brought)} named protocols" in README.read_text()


def test_the_readme_counts_the_rules_of_pruning_that_are_there():
    named = ["loss", "el2n", "forgetting", "aum", "tdds"]
    assert {*named} < {*RULES}
    assert f"and {len(RULES) - len(named)} more rules" in README.read_text()
