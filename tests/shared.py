"""Optional real data and weights beside the checkout, which a stranger's clone does not have."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """Path of `name` in the shared data folder; skips the test where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the optional real data {name!r} in a folder beside the checkout")
    return path
