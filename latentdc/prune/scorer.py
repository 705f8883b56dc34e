# moved  # noqa: D100
from latentdc.prune.scorers import given_scorer as given_scorer
from latentdc.prune.scorers import preparation as preparation
