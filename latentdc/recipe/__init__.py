"""What a recipe may say: one frozen dataclass per component, checked when it is built.

Nothing here imports torch, so that a wrong recipe is refused within a blink. Only `config` reads
YAML; only the commands (`main`s) and the pipelines they call know recipes.
"""

from latentdc.recipe.checks import expand_home, require
from latentdc.recipe.data import LARGEST_ZCA, Data
from latentdc.recipe.evaluate import BASELINES, Evaluate, Hub
from latentdc.recipe.methods import METHODS, Matching, MethodSettings, Mosaic, Rded, Trim
from latentdc.recipe.objective import Denoising, Experts, Loops, ObjectiveSettings, Trajectory
from latentdc.recipe.pools import Select, Selection
from latentdc.recipe.prior import PriorSettings
from latentdc.recipe.prune import Prune, RuleSettings, Scorer
from latentdc.recipe.run import AskedExperts, Recipe
from latentdc.recipe.sampling import OwnGuide, Sampling

__all__ = [
    "BASELINES",
    "LARGEST_ZCA",
    "METHODS",
    "AskedExperts",
    "Data",
    "Denoising",
    "Evaluate",
    "Experts",
    "Hub",
    "Loops",
    "Matching",
    "MethodSettings",
    "Mosaic",
    "ObjectiveSettings",
    "OwnGuide",
    "PriorSettings",
    "Prune",
    "Rded",
    "Recipe",
    "RuleSettings",
    "Sampling",
    "Scorer",
    "Select",
    "Selection",
    "Trajectory",
    "Trim",
    "expand_home",
    "require",
]
