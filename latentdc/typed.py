# moved  # noqa: D100
from latentdc.recipe.fields import Misfit as Misfit
from latentdc.recipe.fields import build as build
from latentdc.recipe.fields import check_fields as check_fields
from latentdc.recipe.fields import check_text as check_text
from latentdc.recipe.fields import show as show
