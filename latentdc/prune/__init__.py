"""Pruning: scores of training images, the core set they choose, and `python -m latentdc.prune`."""
