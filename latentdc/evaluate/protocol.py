# moved  # noqa: D100
from latentdc.recipe.protocol import EvalProtocol as EvalProtocol
