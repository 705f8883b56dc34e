# moved  # noqa: D100
from latentdc.pictures import image_grid as image_grid
from latentdc.pictures import save_grid as save_grid
