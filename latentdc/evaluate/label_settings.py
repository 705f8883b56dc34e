# moved  # noqa: D100
from latentdc.recipe.labels import SOFT as SOFT
from latentdc.recipe.labels import Labels as Labels
from latentdc.recipe.labels import Teacher as Teacher
from latentdc.recipe.labels import file_hash as file_hash
