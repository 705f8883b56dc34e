"""PCA: prune, combine into mosaics, augment inside one cell; RDED's mosaics stand beside it."""
