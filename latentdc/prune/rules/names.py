# moved  # noqa: D100
from latentdc.recipe.rules import RULES as RULES
from latentdc.recipe.rules import Rule as Rule
from latentdc.recipe.rules import require_rule as require_rule
