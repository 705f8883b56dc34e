"""What holds for all tests: no network, one thread that never spins, quick tests first."""

import os

import pytest

from latentdc import ranks

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more cost small tensors more than they bring
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items):
    """Run what is marked slow last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def told_anew():
    """Notes and warnings are told once in a process, and here once in a test."""
    ranks.note.cache_clear()
    ranks.warn.cache_clear()
