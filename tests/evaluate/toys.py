"""Small sets that a narrow student learns in a few steps: each class has stripes of its own."""

import torch
from accelerate import Accelerator
from torch import nn

from latentdc.data.dataset import Dataset
from latentdc.evaluate import EvalProtocol
from latentdc.evaluate.setting import Setting
from latentdc.preprocessing import Normalization


def stripes(count: int, seed: int = 0, resolution: int = 8) -> Dataset:
    """`count` noisy images of rows, columns or a chessboard, one class after the other."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    i, j = torch.meshgrid(torch.arange(resolution), torch.arange(resolution), indexing="ij")
    patterns = torch.stack([i % 2, j % 2, (i + j) % 2])  # (3, H, W)
    noise = torch.randint(100, (count, 3, resolution, resolution), generator=source)
    return Dataset(
        images=(noise + 150 * patterns[labels].unsqueeze(1)).to(torch.uint8),
        labels=labels,
        class_names=("rows", "columns", "chessboard"),
        hashes=torch.arange(count),
        name="stripes",
    )


def pictures(count: int = 12, **settings: int) -> Dataset:
    """A data set whose images lie in memory as files hold them: rows of pixels of three values."""
    data = stripes(count, **settings)
    images = data.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not images.is_contiguous()
    object.__setattr__(data, "images", images)
    return data


def protocol(**changes) -> EvalProtocol:
    settings = {"name": "toy", "students": ["convnet3@4"], "seeds": 2, "steps": 3, "batch": 8}
    return EvalProtocol(**{**settings, **changes})


def setting(test: Dataset | None = None, **changes) -> Setting:
    """An evaluation on the CPU, of plain images."""
    given = {"normalization": Normalization(), "accelerator": Accelerator(), **changes}
    return Setting(test=TEST if test is None else test, **given)


class Idle(nn.Module):
    """A student of one's own with a weight that it does not use."""

    def __init__(self, num_classes: int, resolution: int) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(2))
        self.linear = nn.Linear(3 * resolution**2, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


TEST = stripes(30, seed=1)
TWO = protocol(students=["convnet3@4", "alexnet@2"], lr=0.05)
