# moved  # noqa: D100
# mypy: implicit-reexport=True
from latentdc.evaluate.soft_labels import own_label_facts as brought_facts  # noqa: F401
from latentdc.evaluate.soft_labels import own_labels as brought_labels  # noqa: F401
from latentdc.evaluate.soft_labels import require_equal_images as require_own_losses  # noqa: F401
