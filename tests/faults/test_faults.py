"""Short selections of the faults; docs/reliability.md says how to try more."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import signals

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's forks and limits")


def held(*arguments: str) -> None:
    """Every fault of a selection is held."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.smoke
@pytest.mark.slow
def test_a_killed_command_goes_on_as_if_nothing_had_happened_and_bad_recipes_are_refused():
    held("kills/run", "kills/prune", "recipes", "--count", "2")


@pytest.mark.slow
def test_malformed_recipes_are_refused_in_one_line():
    held("recipes", "--count", "10")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kills", "disk"])
def test_kills_and_full_disks_lose_nothing(kind):
    held(kind, "--count", "2", "--seed", "1")


@pytest.mark.slow
def test_a_stage_that_two_processes_left_is_gone_on_with_by_one_or_three():
    held("resumes/mtt", "--count", "1", "--seed", "65")  # between checkpoints


@pytest.mark.slow
def test_damaged_files_change_no_result():
    held("damages", "--count", "5", "--seed", "1")


@pytest.mark.slow
def test_hostile_files_are_refused_quickly():
    held("hostile", "--count", "8", "--seed", "1")


@pytest.mark.slow
@pytest.mark.parametrize("group", signals.GROUPS)
def test_a_signal_to_one_of_two_processes_ends_both_and_loses_nothing(group):
    held(f"signals/{group}", "--count", "1", "--seed", "4")
