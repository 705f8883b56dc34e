# moved  # noqa: D100
from latentdc.config import natural as natural
from latentdc.config import parse as parse
from latentdc.config import read as read
from latentdc.config import reason as reason
from latentdc.recipe.fields import Plain as Plain
