import datasets
import pytest

from latentdc.evaluate import class_numbers


@pytest.fixture(autouse=True, scope="session")
def one_cache(tmp_path_factory):
    """Networks that check class numbers are trained briefly and kept for all tests of this folder.

    The classes here are patterns under a little noise, which a quarter of the steps tells apart.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(class_numbers, "STEPS", 80)
    patch.setenv("LATENTDC_CACHE", str(tmp_path_factory.mktemp("cache")))
    tables = str(tmp_path_factory.mktemp("datasets"))
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tables)
    yield
    patch.undo()
