# moved  # noqa: D100
from latentdc.recipe.labels import Views as Views
from latentdc.recipe.labels import changed as changed
from latentdc.recipe.labels import idle as idle
