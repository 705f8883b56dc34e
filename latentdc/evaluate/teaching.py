# moved  # noqa: D100
# mypy: implicit-reexport=True
from latentdc.evaluate.soft_labels import Labelling as Teaching  # noqa: F401
