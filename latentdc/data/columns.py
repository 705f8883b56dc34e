# moved  # noqa: D100
from latentdc.data.hub import class_labels as class_labels
from latentdc.data.hub import image_column as image_column
from latentdc.data.hub import label_column as label_column
