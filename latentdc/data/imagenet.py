# moved  # noqa: D100
from latentdc.recipe.subsets import imagenet_index as imagenet_index
from latentdc.recipe.subsets import imagenet_indices as imagenet_indices
from latentdc.recipe.subsets import imagenet_synonyms as imagenet_synonyms
from latentdc.recipe.subsets import wordnet_ids as wordnet_ids
