"""Priors: the spaces in which synthetic images are optimised."""
