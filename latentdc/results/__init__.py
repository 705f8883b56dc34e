"""Accuracies of sets: `Result`, its file, tables and comparisons of them.

Nothing here imports torch, or anything that trains or evaluates.
"""
