"""The house keeps its shape: who may import whom, and how long a file may be."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 450  # lines of a file
IMPORTS = 0.07  # share of lines that import
# What reads recipes as a whole, beside the commands: reading them, and what a run is made of.
RECIPE_READERS = {
    *("config", "cli", "recipe", "run", "run_parts", "run_folder", "provenance", "sweep"),
    *("cost", "distill", "commands"),
}

# What does not hold yet, each with its reason; to be emptied, never to grow.
KNOWN: Mapping[str, Mapping[str, str]] = {
    "file circles": {},
    "folder circles": {},
    "beyond recipe/": {},
    "methods know": {},
    "knows Recipe": {},
    "too long": {},
    "imports": {},
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by name, but for those that only say where one has moved."""
    files = sorted((ROOT / "latentdc").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
        if not path.read_text().startswith("# moved")
    }


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def imported(name: str) -> set[str]:
    """Modules of the package that one imports anywhere, inside functions and for types too."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{name} imports by dots"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    # The package's own __init__ is its version, and the lazy exports that stand above everything.
    return {one for one in found if one in modules()} - {name, "latentdc"}


@cache
def graph() -> dict[str, set[str]]:
    return {name: imported(name) for name in modules() if name != "latentdc"}


def folder(name: str) -> str:
    """`data` of latentdc.data.open, `io` of latentdc.io."""
    return name.split(".")[1]


def circles(edges: Mapping[str, Iterable[str]]) -> set[str]:
    """`a -> b -> a` for every shortest way from a node back to itself."""

    def way(start: str) -> list[str] | None:
        waiting, seen = [[start]], {start}
        while waiting:
            path = waiting.pop(0)
            for after in sorted(edges.get(path[-1], ())):
                if after == start:
                    return [*path, start]
                if after not in seen:
                    seen.add(after)
                    waiting.append([*path, after])
        return None

    ways = [found for node in edges if (found := way(node)) is not None]
    return {" -> ".join(found) for found in ways if found[0] == min(found)}


def require(kind: str, found: Iterable[str]) -> None:
    """Nothing is found but what is known, and what is known is still there."""
    found, known = {one.replace("latentdc.", "") for one in found}, set(KNOWN[kind])
    assert not found - known, f"{kind}: {sorted(found - known)}"
    assert not known - found, f"{kind}: mended, take out of KNOWN: {sorted(known - found)}"


def test_no_file_imports_itself_by_way_of_others():
    require("file circles", circles(graph()))


def below_commands() -> dict[str, set[str]]:
    """Imports of all but the commands in folders, which stand above everything."""
    return {name: others for name, others in graph().items() if not name.endswith(".__main__")}


def test_no_file_imports_a_command():
    assert not {
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if other.endswith(".__main__")
    }


def test_no_folder_imports_itself_by_way_of_others():
    edges: dict[str, set[str]] = defaultdict(set)
    for name, others in below_commands().items():
        edges[folder(name)] |= {folder(other) for other in others} - {folder(name)}
    require("folder circles", circles(edges))


def test_the_table_of_the_design_has_everything_above_what_imports_it():
    page = (ROOT / "docs/design.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", page.split("## The house")[1].split("\n## ")[0], re.M)
    place = {
        name: row
        for row, names in enumerate(rows)
        for name in re.findall(r"`(\w+)(?:\.py|/)`", names)
    }
    edges = below_commands()
    assert {folder(name) for name in graph()} == set(place)
    assert not {
        f"{name} imports {other}"
        for name, others in edges.items()
        for other in others
        if place[folder(other)] > place[folder(name)]
    }


def test_settings_lie_below_everything():
    require(
        "beyond recipe/",
        {
            f"{name} imports {other}"
            for name, others in graph().items()
            for other in others
            if folder(name) == "recipe" and folder(other) not in ("recipe", "errors")
        },
    )


def test_methods_know_neither_runs_nor_evaluation():
    above = ("run", "run_folder", "evaluate", "sweep", "cost", "cli", "config")
    require(
        "methods know",
        {
            f"{name} imports {other}"
            for name, others in graph().items()
            for other in others
            if folder(name) == "methods" and folder(other) in above
        },
    )


def test_a_recipe_as_a_whole_stops_at_the_commands():
    def knows(name: str) -> bool:
        return any(
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("latentdc.recipe")
            and any(alias.name == "Recipe" for alias in node.names)
            for node in ast.walk(tree(name))
        )

    readers = {name for name in modules() if name != "latentdc" and knows(name)}
    require(
        "knows Recipe",
        {
            name
            for name in readers
            if folder(name) not in RECIPE_READERS and not name.endswith(".__main__")
        },
    )


def test_every_file_can_be_read_in_one_sitting():
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    print(f"{len(lines)} files, {sum(lines.values()):,} lines")
    require("too long", {name for name, count in lines.items() if count > LONGEST})


def test_few_lines_import():
    importing = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    total = sum(len(path.read_text().splitlines()) for path in modules().values())
    print(f"{importing} of {total} lines import: {importing / total:.1%}")
    require("imports", {f"{importing / total:.2%}"} if importing / total > IMPORTS else ())


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a -> b -> c -> a"}
    assert circles({"a": {"b"}, "b": set()}) == set()


def test_what_takes_seconds_to_import_is_imported_where_it_is_used():
    slow = "diffusers", "transformers", "datasets", "torchvision", "sklearn", "scipy", "matplotlib"
    script = (
        f"import sys, latentdc.run, latentdc.cost; print(*sorted({{*{slow}}} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
