# moved  # noqa: D100
from latentdc.augment.dsa import AUGMENTATIONS as AUGMENTATIONS
from latentdc.augment.dsa import Draw as Draw
from latentdc.augment.dsa import augment as augment
from latentdc.augment.dsa import augment_classes as augment_classes
from latentdc.augment.dsa import draw_augmentation as draw_augmentation
