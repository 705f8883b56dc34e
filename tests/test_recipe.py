from dataclasses import FrozenInstanceError

import pytest

from latentdc.errors import InputError
from latentdc.priors.recipe import AutoencoderTraining, PriorRecipe, UNetTraining
from latentdc.recipe import (
    Data,
    Distill,
    Evaluate,
    Hub,
    ObjectiveSpec,
    PriorSpec,
    Prune,
    Recipe,
    Scorer,
)

REFUSED = [
    (Data, {"resolution": 7}, r"data\.resolution is in pixels and at least 8, got 7"),
    (Data, {"std": (0.2, 0.0, 0.2)}, r"data\.std must be positive"),
    (Scorer, {"epochs": 0}, r"prune\.scorer\.epochs is at least 1, got 0"),
    (Scorer, {"lr": 0.0}, r"prune\.scorer\.lr is positive"),
    (Scorer, {"batch": 0}, r"prune\.scorer\.batch is at least 1"),
    (Prune, {"keep": 0.0}, r"share in \(0, 1\], got 0\.0"),
    (Prune, {"keep": 20.0}, r"got 20\.0; for 20 % write 0\.2"),
    (Prune, {"keep": float("nan")}, r"share in \(0, 1\], got nan"),
    (PriorSpec, {"kind": "diffusion"}, r"prior\.kind diffusion needs prior\.weights"),
    (PriorSpec, {"kind": "autoencoder"}, r"or choose prior\.kind=pixel"),
    (PriorSpec, {"weights": "x", "steps": 1}, r"between 2 and 1000 with prior\.skip=x0, got 1"),
    (PriorSpec, {"weights": "x", "steps": 1001}, r"got 1001"),
    (PriorSpec, {"kind": "pixel", "chunk": 0}, r"prior\.chunk is at least 1 image"),
    (ObjectiveSpec, {"batch": 0}, r"objective\.batch is at least 1 image"),
    (ObjectiveSpec, {"augment": "color_crob"}, r"'crob' in 'color_crob' is unknown"),
    (Distill, {"steps": -1}, r"distill\.steps is at least 0, got -1"),
    (Distill, {"lr_z": -0.1}, r"distill\.lr_z is between 0 and 1e38, got -0\.1"),
    (Distill, {"lr_c": float("nan")}, r"distill\.lr_c is between 0 .*, got nan"),
    (Distill, {"lr_c": float("inf")}, r"distill\.lr_c is between 0 .*, got inf"),
    (Distill, {"momentum": 1.0}, r"distill\.momentum is in \[0, 1\), got 1\.0"),
    (Distill, {"checkpoint_every": 0}, r"checkpoint_every is at least 1 step"),
    (Distill, {"grid_every": -1}, r"distill\.grid_every is at least 0"),
    (Evaluate, {"seeds": 0}, r"evaluate\.seeds is at least 1"),
    (Evaluate, {"steps": 0}, r"evaluate\.steps is at least 1"),
    (Evaluate, {"rows": ["distilled"]}, r"always has 'random'.*rows: \[\] to evaluate nothing"),
    (Hub, {"repo": "name"}, r"push\.repo is user/name, got 'name'"),
    (Recipe, {"ipc": 0}, r"ipc is at least 1 image per class, got 0"),
    (Recipe, {"threads": 0}, r"threads is at least 1, got 0"),
    (Recipe, {"processes": 0}, r"processes is at least 1, got 0"),
    (UNetTraining, {"channels": [32]}, r"2 flags for 1 levels"),
    (UNetTraining, {"channels": [24, 64]}, r"unet\.channels has a positive multiple of 16"),
    (UNetTraining, {"channels": [32, 48]}, r"multiples of unet\.heads=32, got \[32, 48\]"),
    (UNetTraining, {"steps": 0}, r"unet\.steps is at least 1, got 0"),
    (UNetTraining, {"lr": 0.0}, r"unet\.lr is positive"),
    (AutoencoderTraining, {"channels": []}, r"autoencoder\.channels has a positive multiple"),
    (AutoencoderTraining, {"batch": 0}, r"autoencoder\.batch is at least 1"),
    (AutoencoderTraining, {"kl": -1.0}, r"autoencoder\.kl is at least 0"),
    (PriorRecipe, {"checkpoint_every": 0}, r"checkpoint_every is at least 1 step"),
    (UNetTraining, {"drop": 1.0}, r"share in \(0, 1\), got 1\.0"),
]


@pytest.mark.parametrize(("component", "arguments", "message"), REFUSED)
def test_a_value_out_of_range_is_refused_with_the_range_and_what_came(
    component, arguments, message
):
    with pytest.raises(InputError, match=message):
        component(**arguments)


def test_values_at_the_edges_of_their_ranges_are_taken():
    Prune(keep=1.0), Prune(keep=1e-6), Data(resolution=8)
    PriorSpec(kind="pixel"), PriorSpec(weights="x", steps=2), ObjectiveSpec(augment=None)
    PriorSpec(weights="x", steps=1, skip="none"), PriorSpec(weights="x", steps=1000)
    Distill(steps=0, lr_z=0.0, lr_c=0.0, momentum=0.0, checkpoint_every=1), Evaluate(rows=[])


def test_a_recipe_cannot_be_changed_after_it_was_checked():
    with pytest.raises(FrozenInstanceError):
        Recipe().ipc = 0


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match="ipc"):
        Recipe(ipc=0)
