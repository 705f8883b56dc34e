"""Ablations of a recipe: one thing changed at a time, and the gradients that reach the latents."""
