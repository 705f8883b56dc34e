from dataclasses import FrozenInstanceError, fields
from typing import Literal, get_args, get_origin

import pytest

from latentdc.errors import InputError
from latentdc.recipe import (
    Data,
    Evaluate,
    Experts,
    Hub,
    Loops,
    Matching,
    Mosaic,
    ObjectiveSettings,
    PriorSettings,
    Prune,
    Rded,
    Recipe,
    RuleSettings,
    Scorer,
    Trajectory,
    Trim,
)
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, UNetTraining

REFUSED = [
    (Data, {"resolution": 7}, r"data\.resolution is in pixels and at least 8, got 7"),
    (Data, {"std": (0.2, 0.0, 0.2)}, r"data\.std must be positive"),
    (Scorer, {"epochs": 0}, r"prune\.scorer\.epochs is at least 1, got 0"),
    (Scorer, {"lr": 0.0}, r"prune\.scorer\.lr is positive"),
    (Scorer, {"batch": 0}, r"prune\.scorer\.batch is at least 1"),
    (Prune, {"keep": 0.0}, r"share in \(0, 1\], got 0\.0"),
    (Prune, {"keep": 20.0}, r"got 20\.0; for 20 % write 0\.2"),
    (Prune, {"keep": float("nan")}, r"prune\.keep is a finite number .*, got nan"),
    (PriorSettings, {"kind": "diffusion"}, r"prior\.kind diffusion needs prior\.weights"),
    (PriorSettings, {"kind": "autoencoder"}, r"or choose prior\.kind=pixel"),
    (PriorSettings, {"weights": "x", "steps": 1}, r"between 2 and 1000 with prior\.skip=x0, got 1"),
    (PriorSettings, {"weights": "x", "steps": 1001}, r"got 1001"),
    (PriorSettings, {"weights": "x", "guidance": -1.0}, r"guidance is at least 0, .* got -1"),
    (PriorSettings, {"weights": "x", "guidance": float("nan")}, r"guidance is a finite number"),
    (PriorSettings, {"kind": "pixel", "chunk": 0}, r"prior\.chunk is at least 1 image"),
    (ObjectiveSettings, {"batch": 0}, r"objective\.batch is at least 1 image"),
    (ObjectiveSettings, {"augment": "color_crob"}, r"'crob' in 'color_crob' is unknown"),
    (ObjectiveSettings, {"augment": "color+crob"}, r"'crob' in 'color\+crob' is unknown"),
    (Loops, {"outer": 0}, r"objective\.loops\.outer is at least 1, got 0"),
    (Loops, {"inner": 0}, r"objective\.loops\.inner is at least 1, got 0"),
    (Loops, {"lr_student": 0.0}, r"objective\.loops\.lr_student is positive, got 0\.0"),
    (
        Recipe,
        {"ipc": 5, "objective": ObjectiveSettings(kind="dc")},
        r"none for ipc=5; give .*outer",
    ),
    (
        Recipe,
        {
            "ipc": 10,
            "objective": ObjectiveSettings(kind="dc"),
            "distill": Matching(classes_per_step=3),
        },
        r"outer=10 the student of dc is trained on all classes",
    ),
    (Data, {"resolution": 65, "zca": True}, r"up to 64 px; at 65 px .* 12,675 x 12,675"),
    (Trajectory, {"syn_steps": 0}, r"objective\.trajectory\.syn_steps is at least 1, got 0"),
    (Trajectory, {"batch_syn": 0}, r"objective\.trajectory\.batch_syn is at least 1, got 0"),
    (Trajectory, {"lr_student": 0.0}, r"lr_student is in \(0, 1\], got 0\.0"),
    (Trajectory, {"lr_lr": -1e-6}, r"lr_lr is in \[0, 1\], got -1e-06"),
    (Experts, {"count": 0}, r"experts\.count is at least 1, got 0"),
    (Experts, {"lr": 0.0}, r"experts\.lr is positive"),
    (Experts, {"momentum": 1.0}, r"experts\.momentum is in \[0, 1\), got 1\.0"),
    (Experts, {"augment": "flap"}, r"experts\.augment .* 'flap'"),
    (
        Recipe,
        {"objective": ObjectiveSettings(kind="mtt"), "experts": Experts(epochs=2)},
        r"after up to 3 epochs .*experts\.epochs is 2",
    ),
    (Recipe, {"evaluate": Evaluate(learned_lr=True)}, r"objective\.kind=dm learns none"),
    (Matching, {"steps": -1}, r"distill\.steps is at least 0, got -1"),
    (Matching, {"lr_z": -0.1}, r"distill\.lr_z is between 0 and 1e38, or auto, got -0\.1"),
    (Matching, {"lr_c": float("nan")}, r"distill\.lr_c is a finite number .*, got nan"),
    (Matching, {"lr_c": float("inf")}, r"distill\.lr_c is a finite number .*, got inf"),
    (Matching, {"momentum": 1.0}, r"distill\.momentum is in \[0, 1\), got 1\.0"),
    (Matching, {"checkpoint_every": 0}, r"checkpoint_every is at least 1 step"),
    (Matching, {"grid_every": -1}, r"distill\.grid_every is at least 0"),
    (Evaluate, {"seeds": 0}, r"evaluate\.seeds is at least 1"),
    (Evaluate, {"steps": 0}, r"evaluate\.steps is at least 1"),
    (
        Evaluate,
        {"steps": 9, "changes": ["epochs=2"]},
        r"steps and evaluate\.changes=\[epochs=\.\.\.\]",
    ),
    (Evaluate, {"seeds": 2, "changes": ["seeds=1"]}, r"seeds .* say the same; give one of them"),
    (Evaluate, {"learned_lr": True, "changes": ["lr=1"]}, r"learned_lr and .*lr=.* say the same"),
    (Evaluate, {"rows": ["distilled"]}, r"always has 'random'.*rows: \[\] to evaluate nothing"),
    (Evaluate, {"rows": ["kept", "full"]}, r"always has 'random'.*'kept' may stand alone"),
    (Hub, {"repo": "name"}, r"push\.repo is user/name, got 'name'"),
    (
        Recipe,
        {"distill": Matching(lr_z=0.0, lr_c=0.0)},
        r"lr_z=0 and distill\.lr_c=0 .* nothing would move in 1,000 steps",
    ),
    (
        Recipe,
        {"distill": Matching(lr_z=0.0, lr_c=0.0, steps=1)},
        r"nothing would move in 1 step\. Give",
    ),
    (Prune, {"window": (1, 2), "scorer": Scorer(epochs=1)}, "first .* of the scorer's 1 epoch to"),
    (
        Recipe,
        {"distill": Matching(lr_z=0.0), "prior": PriorSettings(kind="pixel")},
        r"lr_c=auto with prior\.kind=pixel: nothing would move",
    ),
    (
        Recipe,
        {
            "objective": ObjectiveSettings(kind="denoise"),
            "prior": PriorSettings(weights="x", steps=7),
        },
        r"share=0\.25 of prior\.steps=7 leaves no step above the cleanest one",
    ),
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
    (
        PriorSettings(kind="pixel"),
        PriorSettings(weights="x", steps=2),
        ObjectiveSettings(augment=None),
    )
    PriorSettings(weights="x", steps=1, skip="none"), PriorSettings(weights="x", steps=1000)
    Matching(steps=0, lr_z=0.0, lr_c=0.0, momentum=0.0, checkpoint_every=1), Evaluate(rows=[])


def test_a_recipe_may_move_one_thing_alone_or_nothing_in_no_steps():
    Recipe(distill=Matching(lr_z=0.0)), Recipe(distill=Matching(lr_c=0.0))
    Recipe(distill=Matching(steps=0, lr_z=0.0, lr_c=0.0))
    still = Matching(lr_z=0.0, lr_c=0.0)
    Recipe(distill=still, objective=ObjectiveSettings(kind="mtt"))  # learns its student's rate


def test_a_recipe_cannot_be_changed_after_it_was_checked():
    with pytest.raises(FrozenInstanceError):
        Recipe().ipc = 0


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match="ipc"):
        Recipe(ipc=0)


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    recipe = Recipe(
        data=Data(source="~/imagenet"),
        prune=Prune(coreset="~/kept.parquet", scorer=Scorer(weights="~/net.safetensors")),
        prior=PriorSettings(weights="~/prior"),
        output="~/run",
    )
    assert recipe.data.source == "/home/me/imagenet" and recipe.output == "/home/me/run"
    assert recipe.prune.coreset == "/home/me/kept.parquet"
    assert recipe.prune.scorer.weights == "/home/me/net.safetensors"
    assert recipe.prior.weights == "/home/me/prior"


@pytest.mark.parametrize(("ipc", "loops"), [(1, (1, 1)), (10, (10, 50)), (50, (50, 10))])
def test_gradient_matching_takes_its_papers_loops_unless_others_are_given(ipc, loops):
    made = Recipe(ipc=ipc, objective=ObjectiveSettings(kind="dc")).objective.loops
    assert (made.outer, made.inner) == loops
    given = ObjectiveSettings(kind="dc", loops=Loops(outer=2))
    made = Recipe(ipc=ipc, objective=given).objective.loops
    assert (made.outer, made.inner) == (2, loops[1])
    assert Recipe(ipc=ipc).objective.loops.outer is None, "other objectives have none"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Data(classes=["cat", "dog", "cat"]), r"data\.classes names 'cat' twice"),
        (lambda: Recipe(trackers=["wandb", "wandb"]), "trackers names 'wandb' twice"),
        (lambda: PriorRecipe(trackers=["wandb", "wandb"]), "trackers names 'wandb' twice"),
        (lambda: Evaluate(rows=["random", "random"]), r"evaluate\.rows names 'random' twice"),
        (lambda: Labels(restricted_to=["a", "a"]), r"labels\.restricted_to names 'a' twice"),
    ],
)
def test_lists_name_nothing_twice(make, told):
    with pytest.raises(InputError, match=f"{told}; name it once"):
        make()


SETTINGS = [
    *(Data, Trim, Matching, Evaluate, Hub, Mosaic, Rded, Loops, ObjectiveSettings, PriorSettings),
    *(RuleSettings, Prune, Scorer, Trajectory, Experts, Recipe, Views, Labels, Teacher),
    *(AutoencoderTraining, UNetTraining, PriorRecipe),
]
WRONG = {
    int: [True, 1.5, 10**30, "1", [1]],
    float: [True, float("nan"), float("inf"), -float("inf"), 10**400, "1", 1j],
    bool: [1, "true"],
    str: [1, b"x", "${oc.env:HOME}", "???", "a\0b", "\x1b[31m", "\ud800", "x" * 100_000],
}


@pytest.mark.parametrize("component", SETTINGS)
def test_every_field_refuses_what_no_value_of_its_kind_is(component):
    base = {"weights": "digits"} if component is PriorSettings else {}
    tried = 0
    for field in fields(component):
        origin, arguments = get_origin(field.type), get_args(field.type)
        kind = str if origin is Literal else arguments[0] if arguments else field.type
        for value in WRONG.get(kind, []):
            many = [value] * len(arguments)
            with pytest.raises(InputError, match=field.name):
                component(**base | {field.name: many if origin in (tuple, list) else value})
            tried += 1
    assert tried
