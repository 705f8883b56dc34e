"""What holds for all tests: no network, one thread that never spins, quick tests first."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more cost small tensors more than they bring
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items):
    """Run what is marked slow last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
