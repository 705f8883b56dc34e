# moved  # noqa: D100
from latentdc.recipe.checks import AUGMENTATIONS as AUGMENTATIONS
from latentdc.recipe.checks import check_augment as check_augment
