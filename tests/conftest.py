"""What holds for all tests: no network, one thread that never spins, quick tests first."""

import os
import signal
from functools import lru_cache

import psutil
import pytest

from latentdc import ranks

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more cost small tensors more than they bring
os.environ["HF_HUB_OFFLINE"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of tests obey it

WORKERS = 16  # each imports torch and collects all tests, so that more would only wait
WORKER = 2.5 * 2**30  # bytes that one may take, with the processes that a test starts


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """What `-n auto` is: a process for each processor that may be used, as far as memory allows."""
    some = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    fitting = int(psutil.virtual_memory().available / WORKER)
    return max(1, min(some or 1, fitting, WORKERS))


def pytest_collection_modifyitems(items):
    """Run what is marked slow last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session", autouse=True)
def decoded_once():
    """Most of a short run on the digits is decoding them: the tests of a session share it."""
    from latentdc.data import encoded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded, "decode", lru_cache(4 * 1797)(encoded.decode))
        yield


@pytest.fixture(autouse=True)
def told_anew():
    """Notes and warnings are told once in a process, and here once in a test."""
    ranks.note.cache_clear()
    ranks.warn.cache_clear()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A small Hub on this machine, that the client is pointed to and logged in at."""
    import huggingface_hub
    from huggingface_hub import constants, file_download, utils

    from tests.hub import SmallHub

    with SmallHub().running() as small:
        link = f"{small.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", small.address)
        for module in (constants, file_download):  # the latter has a copy before 1.0
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", link, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_write")
        utils.disable_progress_bars()
        before_1 = not hasattr(huggingface_hub, "close_session")
        end_session = utils.reset_sessions if before_1 else huggingface_hub.close_session
        end_session()  # one that a test opened offline would stay so
        yield small
        end_session()
        utils.enable_progress_bars()
