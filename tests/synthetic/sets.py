"""Small synthetic sets for the tests."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from latentdc.synthetic.synthetic_set import SyntheticSet

NAMES = ("no", "01", "crème brûlée", 'a: "b"')  # each of them a trap for careless YAML


def random_set(*, ipc: int = 2, side: int = 8, **changes: Any) -> SyntheticSet:
    """Noise images in shuffled class order, with latents."""
    draw = torch.Generator().manual_seed(0)
    count = ipc * len(NAMES)
    fields: dict[str, Any] = {
        "images": torch.randint(256, (count, 3, side, side), generator=draw, dtype=torch.uint8),
        "labels": torch.arange(count)[torch.randperm(count, generator=draw)] % len(NAMES),
        "class_names": NAMES,
        "z": torch.randn(count, 4, 2, 2, generator=draw),
        "c": torch.randn(count, 1, 8, generator=draw),
        "noise": torch.randn(count, 4, 2, 2, generator=draw),
        "provenance": {"dataset": "noise", "seed": 0, "steps": 10},
    }
    return SyntheticSet(**fields | changes)


def float_images(count: int = 8) -> torch.Tensor:
    """(count, 3, 8, 8) floats that leave [-1, 1]."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2


def card_of(made: SyntheticSet, **texts: Any) -> str:
    """The card that is saved with a set."""
    with TemporaryDirectory() as folder:
        made.save_pretrained(folder, **texts)
        return (Path(folder) / "README.md").read_text()
