import datasets
import pytest

from latentdc.evaluate import judge


@pytest.fixture(autouse=True, scope="session")
def one_cache(tmp_path_factory):
    """Networks that are trained to check class numbers are kept for all tests of this folder."""
    patch = pytest.MonkeyPatch()
    patch.setenv("LATENTDC_CACHE", str(tmp_path_factory.mktemp("cache")))
    tables = str(tmp_path_factory.mktemp("datasets"))
    patch.setattr(judge, "STEPS", 80)  # the patterns of these tests are easy to tell apart
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tables)
    yield
    patch.undo()
