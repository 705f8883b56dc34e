# moved  # noqa: D100
from latentdc.recipe.subsets import ALIASES as ALIASES
from latentdc.recipe.subsets import SUBSETS as SUBSETS
from latentdc.recipe.subsets import subset_indices as subset_indices
from latentdc.recipe.subsets import subset_names as subset_names
