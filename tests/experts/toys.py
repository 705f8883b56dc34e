"""Experts of a few steps on noise, made when asked for."""

import torch
from torch.nn import functional as F

from latentdc.draws import generator
from latentdc.networks.build import new_network


class Wanderers:
    """Stands in for `ExpertFiles`, in memory, and remembers what was asked for."""

    def __init__(
        self, count: int = 2, network: str = "convnet3@8", num_classes: int = 3, size: int = 8
    ) -> None:
        self.count = count
        self.asked: list[tuple[int, int]] = []
        self.classes, self.size = num_classes, size
        self.new = lambda expert: new_network(
            network, "expert", expert, num_classes=num_classes, resolution=size, seed=0
        )

    def weights(self, expert: int, epoch: int) -> dict[str, torch.Tensor]:
        self.asked.append((expert, epoch))
        network = self.new(expert).eval()
        source = generator(expert)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
        for _ in range(epoch):
            images = torch.randn(6, 3, self.size, self.size, generator=source)
            optimizer.zero_grad()
            F.cross_entropy(network(images), torch.arange(6) % self.classes).backward()
            optimizer.step()
        return {name: weight.detach() for name, weight in network.named_parameters()}
