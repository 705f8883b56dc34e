"""Numbers beside accuracy: scores of robustness, entropy, diversity, distance to real images.

`python -m latentdc.metrics SET` measures a set. Importing this package does not import torch.
"""
