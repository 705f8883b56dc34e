# moved  # noqa: D100
from latentdc.evaluate.teachers import require_knowledge as require_knowledge
from latentdc.prune.scorers import real_accuracy as real_accuracy
