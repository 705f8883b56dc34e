"""InfoBatch: leave out some of what is already learned, anew in every epoch, without bias.

Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR 2024,
https://arxiv.org/abs/2303.04947. Of the images whose last loss is below the mean, each is left out
with probability rho; those that stay count 1 / (1 - rho). The last (1 - delta) of the epochs see
everything with weight 1, whatever the number of epochs. Losses of images not seen yet are unknown,
so that the first epoch leaves out nothing.
"""

import torch
from torch import Tensor

from latentdc.draws import generator


class InfoBatch:
    """A sampler that learns from the losses that it is told.

    Args:
        count: images.
        epochs: of the whole training.
        rho: probability of leaving out an image that is easier than the mean.
        delta: share of the epochs that leave out anything.
        seed: of the draws, keyed by epoch.
    """

    def __init__(
        self, count: int, epochs: int, *, rho: float = 0.5, delta: float = 0.875, seed: int = 0
    ) -> None:
        assert 0 <= rho < 1 and 0 <= delta <= 1
        self.rho, self.seed = rho, seed
        self.pruned_epochs = round(delta * epochs)
        self.losses = torch.full((count,), torch.nan)

    def epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        """(M,) ascending rows to see in this epoch and (M,) weights of their losses."""
        weights = torch.ones(len(self.losses))
        known = self.losses.isfinite()
        if epoch >= self.pruned_epochs or not bool(known.any()):
            return torch.arange(len(weights)), weights
        easy = known & (self.losses < self.losses[known].mean())
        draws = torch.rand(len(weights), generator=generator(self.seed, "infobatch", epoch))
        weights[easy] = 1 / (1 - self.rho)
        rows = (~easy | (draws >= self.rho)).nonzero().squeeze(1)
        return rows, weights[rows]

    def update(self, rows: Tensor, losses: Tensor) -> None:
        """Note (B,) unweighted losses of the rows just trained on."""
        self.losses[rows] = losses.detach().float().cpu()
