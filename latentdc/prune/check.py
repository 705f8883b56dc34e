# moved  # noqa: D100
from latentdc.prune.scorers import least_accuracy as least_accuracy
from latentdc.prune.scorers import refuse_chance as refuse_chance
from latentdc.recipe.prune import check_prune as check_prune
