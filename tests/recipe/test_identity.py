"""Hashes of settings stay where they are while keys are added and defaults change."""

import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from latentdc.recipe import Data, Denoising, Experts, ObjectiveSettings, Prune, Recipe, Scorer, Trim
from latentdc.recipe.identity import LATE, changed, facts_of, filled, first_default
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.recipe.objective import Loops, Trajectory
from latentdc.recipe.protocol import EvalProtocol
from latentdc.recipe.prune import RuleSettings

KNOWN = json.loads(Path(__file__).with_name("first_defaults.json").read_text())
NEEDED = ("name", "students")  # of protocols, without a default
# Hashes and manifests hold these whole.
WHOLE = (Data, Denoising, Experts, Loops, ObjectiveSettings, Prune, RuleSettings, Scorer,
         Trajectory, Trim)  # fmt: skip


def defaults(kind: type) -> dict[str, Any]:
    """First defaults of a dataclass by dotted key, in JSON's types."""
    found: dict[str, Any] = {}
    for one in fields(kind):
        if isinstance(one.type, type) and one.type.__module__.startswith("latentdc."):
            found |= {f"{one.name}.{key}": value for key, value in defaults(one.type).items()}
        elif one.name not in NEEDED:
            value = first_default(one)
            found[one.name] = [*value] if isinstance(value, tuple) else value
    return found


@pytest.mark.parametrize("kind", [Recipe, EvalProtocol, Views, Labels, Teacher])
def test_no_default_changes_under_the_hashes_that_leave_it_out(kind):
    known, now = KNOWN[kind.__name__], defaults(kind)
    moved = {key: (known[key], now[key]) for key in known if key in now and known[key] != now[key]}
    assert not moved, 'say what it was: field(default=..., metadata={"was": ...})'
    lacking = now.keys() - known.keys()
    assert not lacking, f"add their defaults to first_defaults.json: {lacking}"


@pytest.mark.parametrize("kind", WHOLE)
def test_no_key_is_added_to_hashes_that_hold_all_keys(kind):
    late = {one.name for one in fields(kind) if one.metadata.get("late")}
    added = {one.name for one in fields(kind)} - {*KNOWN["whole"][kind.__name__]} - late
    assert not added, f"field(default=..., metadata=LATE) of {added}"


@dataclass(frozen=True)
class Before:
    rate: float = 0.1
    shape: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Now:
    rate: float = field(default=0.3, metadata={"was": 0.1})
    shape: tuple[int, int] = (1, 2)
    extra: int = field(default=5, metadata=LATE)


def test_a_default_that_changed_is_told_from_the_one_before():
    assert changed(Before()) == changed(Now(rate=0.1)) == {}
    assert changed(Now()) == {"rate": 0.3} == changed(Before(rate=0.3))
    assert facts_of(Now(rate=0.1)) == facts_of(Before()) == {"rate": 0.1, "shape": [1, 2]}
    assert facts_of(Now()) == {"rate": 0.3, "shape": [1, 2]}


def test_a_late_key_counts_where_it_is_not_at_its_default():
    assert changed(Now(rate=0.1, extra=6)) == {"extra": 6}
    assert facts_of(Now(extra=6)) == {"rate": 0.3, "shape": [1, 2], "extra": 6}


def test_what_an_earlier_version_left_out_is_what_it_then_meant():
    assert filled({"shape": [3, 4]}, Now) == {"rate": 0.1, "shape": [3, 4], "extra": 5}
    assert filled({"rate": 0.2}, Now) == {"rate": 0.2, "shape": [1, 2], "extra": 5}
    assert filled(None, Now) is None


def test_sections_and_what_has_no_effect_count_as_in_protocols():
    pruned = Prune(keep=0.5, scorer=Scorer(epochs=3))
    assert changed(pruned) == {"keep": 0.5, "scorer": {"epochs": 3}}
    assert changed(Views(mix_alpha=0.2)) == {}
    assert changed(Views(mix_alpha=0.2, mix="mixup")) == {"mix": "mixup", "mix_alpha": 0.2}


def test_a_protocol_sees_that_the_file_of_its_teacher_has_changed(tmp_path):
    path = tmp_path / "teacher.safetensors"
    labels = {"source": "online", "teachers": [{"network": "convnet3", "weights": str(path)}]}
    hashes = set()
    for values in (np.zeros(3), np.zeros(4), np.ones(4)):
        save_file({"a": values}, path)
        os.utime(path, (0, 0))
        protocol = EvalProtocol(name="mine", students=["convnet3"], steps=1, labels=labels)
        hashes.add(protocol.hash)
    assert len(hashes) == 3
