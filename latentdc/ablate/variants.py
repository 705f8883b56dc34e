"""The variants of an ablation: a recipe with one thing changed at a time, as overrides.

They follow the ablations of LD3M (Moser et al., https://arxiv.org/abs/2403.03881): what is learned
and whether the skip carries it (Table 7), the diffusion itself (Table 6), the number of denoising
steps (Fig. 4) and the start (Table 8); beside them both forms of the skip, guidance, pixels and the
pruning. Imports no torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from latentdc.errors import InputError
from latentdc.recipe import Recipe
from latentdc.recipe.fields import nearest
from latentdc.sweep.spec import Sweep
from latentdc.sweep.spec import expand as expand_sweep

UNCHANGED = "recipe"  # the variant that changes nothing; it runs first
VARIANTS: dict[str, tuple[str, ...]] = {
    UNCHANGED: (),
    "c-only": ("prior.skip=none", "distill.lr_z=0"),  # z stays the encoded image under the noise
    "no-skip": ("prior.skip=none",),
    "x0-skip": ("prior.skip=x0",),
    "mean-skip": ("prior.skip=mean",),
    "no-diffusion": ("prior.kind=autoencoder",),
    "pixel": ("prior.kind=pixel", "prior.weights=null"),
    "no-guidance": ("prior.guidance=1",),
    "from-noise": ("distill.init=noise",),
    "steps-2": ("prior.steps=2",),
    "steps-5": ("prior.steps=5",),
    "steps-10": ("prior.steps=10",),
    "steps-20": ("prior.steps=20",),
    "steps-50": ("prior.steps=50",),
    "no-pruning": (
        "prune.keep=1.0",
        "prune.count=null",
        "prune.times_ipc=null",
        "prune.coreset=null",
    ),
}


def expand(
    path: Path,
    overrides: Sequence[str],
    names: Sequence[str] | None = None,
    check: Callable[[Recipe], None] = lambda recipe: None,
) -> dict[str, Recipe]:
    """The checked recipe of each variant; one that equals an earlier one is left out.

    Args:
        path: of the recipe.
        overrides: of all variants alike.
        names: wanted variants, `recipe` always being the first; None takes all.
        check: refuses what a recipe's parts say only together.

    Raises:
        InputError: unknown names, or a variant that the recipe does not allow.
    """
    wanted = list(VARIANTS if names is None else dict.fromkeys([UNCHANGED, *names]))
    for name in wanted:
        if name not in VARIANTS:
            hint = nearest(name, VARIANTS)
            raise InputError(f"unknown variant {name!r}{hint}; known: {', '.join(VARIANTS)}.")
    axes = {"variant": {name: list(VARIANTS[name]) for name in wanted}}
    expanded: dict[str, Recipe] = {}
    cells = expand_sweep(Sweep(recipe=str(path), axes=axes), overrides, check=check)
    for (name,), recipe in cells.items():
        if recipe not in expanded.values():
            expanded[name] = recipe
    return expanded
