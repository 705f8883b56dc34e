# moved  # noqa: D100
# mypy: implicit-reexport=True
from latentdc.evaluate.soft_labels import open_labelling as open_teaching  # noqa: F401
