"""Distillation: the loop, its state on disk, and the whole run of a recipe."""
