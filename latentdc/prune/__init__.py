"""Pruning: scores of training images (score.py), and the core set they choose (prune.py)."""
