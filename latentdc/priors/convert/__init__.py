"""Latent diffusion checkpoints in CompVis' layout, read without their code or packages."""
