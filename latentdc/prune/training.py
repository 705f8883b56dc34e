# moved  # noqa: D100
from latentdc.prune.scorers import ScorerTraining as ScorerTraining
