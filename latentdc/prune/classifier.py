# moved  # noqa: D100
from latentdc.prune.scorers import Classifier as Classifier
