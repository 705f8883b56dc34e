# moved  # noqa: D100
from latentdc.recipe.fields import nearest as nearest
from latentdc.recipe.fields import unknown_key as unknown_key
