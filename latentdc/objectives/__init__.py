"""Objectives: what makes synthetic images behave like real ones, as pure functions.

They know students and images, neither priors nor recipes.
"""
