# moved  # noqa: D100
from latentdc.recipe.networks import PREFIX as PREFIX
from latentdc.recipe.networks import PRETRAINED as PRETRAINED
from latentdc.recipe.networks import SMALL_STEM as SMALL_STEM
from latentdc.recipe.networks import SMALLEST as SMALLEST
from latentdc.recipe.networks import patch_multiple as patch_multiple
from latentdc.recipe.networks import pretrained as pretrained
