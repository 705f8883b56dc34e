# moved  # noqa: D100
from latentdc.recipe.networks import LIMITS as LIMITS
from latentdc.recipe.networks import WIDEST as WIDEST
from latentdc.recipe.networks import Limits as Limits
from latentdc.recipe.networks import check_network as check_network
from latentdc.recipe.networks import parse_network as parse_network
