"""The arithmetic of docs/records/counted.md, evaluated, against the dry run of its recipe."""

import re
from pathlib import Path

import pytest

from latentdc import config
from latentdc.cost import Hardware, describe, stages
from latentdc.recipe import Recipe

DOCS = Path(__file__).parents[2] / "docs"


def page() -> str:
    return (DOCS / "imagenet.md").read_text()


def table(heading: str) -> dict[str, str]:
    """The formula of each name in the table under a heading."""
    record = (DOCS / "records/counted.md").read_text()
    section = record[record.index(heading) :].split("\n\n| ", 1)[1].split("\n\n")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([^`]+)` \|$", section, re.M)
    return dict(rows)


@pytest.fixture(scope="module")
def counted():
    recipe = config.load(Recipe, config.find("in1k_ipc10", "recipes"))
    return stages(recipe, Hardware(processes=8))


def test_every_stage_is_counted_as_by_hand(counted):
    networks: dict[str, float] = {}
    for name, formula in table("## Networks").items():  # each may name those above it
        networks[name] = eval(formula, networks.copy())
    by_hand = {name: eval(formula, networks.copy()) for name, formula in table("## Stages").items()}
    assert {stage.name for stage in counted} == {*by_hand}
    for stage in counted:
        assert stage.work == pytest.approx(by_hand[stage.name], rel=0.005), stage.name


def test_80_gb_spare_most_of_the_second_forward_sweep(counted):
    recipe = config.load(Recipe, config.find("in1k_ipc10", "recipes"))
    found = stages(recipe, Hardware(processes=8, memory=80e9))
    (slow,), (quick,) = (
        [stage for stage in those if stage.name == "distilling"] for those in (counted, found)
    )
    assert quick.memory < 80e9
    assert 2.35 / 3 < quick.work / slow.work < 2.45 / 3  # the decoder still runs three times


def test_what_the_page_says_of_80_gb_is_what_is_counted():
    recipe = config.load(Recipe, config.find("in1k_ipc10", "recipes"))
    counted = stages(recipe, Hardware(processes=8, memory=80e9))
    distilling = next(stage.work for stage in counted if stage.name == "distilling")
    told = re.search(r"sweeps in place of 3, ([\d.]+) EMAC of\s+distilling and ([\d.]+)", page())
    assert f"{distilling / 1e18:.1f}" == told[1]
    assert f"{sum(stage.work for stage in counted) / 1e18:.1f}" == told[2]
    every = re.search(r"In all ([\d.]+) EMAC .*the evaluation has ([\d.]+)\.", page())
    lowest = stages(recipe, Hardware(processes=8))
    evaluation = [stage.work for stage in lowest if stage.name.startswith("evaluating")]
    assert every[1] == f"{sum(stage.work for stage in lowest) / 1e18:.1f}"
    assert every[2] == f"{sum(evaluation) / 1e18:.2f}"
    said = re.search(r"of (\d+) of the (\d+) denoising steps of\s+10 images", page())
    lines = describe(recipe, Hardware(processes=8, memory=80e9))
    assert f"10 at a time with {said[1]} of {said[2]} denoising steps kept" in lines


def test_disk_is_counted_as_by_hand(counted):
    by_hand = {name: eval(formula) for name, formula in table("## Disk").items()}
    disk = {what: size for stage in counted for what, size in stage.disk.items()}
    for what, size in by_hand.items():
        assert disk[what] == size, what


def test_the_evaluation_is_in_proportion(counted):
    evaluation = sum(stage.work for stage in counted if stage.name.startswith("evaluating"))
    assert evaluation < 0.05 * sum(stage.work for stage in counted)
