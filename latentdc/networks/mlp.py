"""Students and scorers of feature vectors: a linear classifier, with or without hidden layers."""

from torch import Tensor, nn

from latentdc.networks.base import Network


class MLP(Network):
    """`hidden` layers of `width` units with ReLU before the classifier; none makes it linear.

    `resolution` is the number of values of a vector. Without hidden layers the embedding is the
    vector itself.
    """

    def __init__(self, *, hidden: int, width: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in range(hidden):
            layers += [nn.Linear(width if layer else resolution, width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.linear = nn.Linear(width if hidden else resolution, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(B, D) standardised vectors -> (B, width), the last hidden layer."""
        embedding: Tensor = self.trunk(images)
        return embedding
