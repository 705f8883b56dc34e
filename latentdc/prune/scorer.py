# moved  # noqa: D100
from latentdc.prune.scorers import given_scorer as given_scorer
from latentdc.prune.scorers import load_scorer as load_scorer
from latentdc.prune.scorers import preparation as preparation
from latentdc.prune.scorers import torchvision_scorer as torchvision_scorer
