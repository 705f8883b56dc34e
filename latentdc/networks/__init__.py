"""Students, teachers and scorers, each an embedding (`features`) and a linear classifier on it."""

from latentdc.networks.base import Network
from latentdc.networks.build import build_network, new_network

__all__ = ["Network", "build_network", "new_network"]
