# moved  # noqa: D100
from latentdc.evaluate.teachers import require_knowledge as require_knowledge
from latentdc.prune.classifier import real_accuracy as real_accuracy
