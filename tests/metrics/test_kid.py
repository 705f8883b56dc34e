import sys
from types import SimpleNamespace

import pytest
import torch

from latentdc.errors import InputError
from latentdc.images import from_uint8
from latentdc.metrics import kid

CPU = torch.device("cpu")


def noise(count, top, seed):
    source = torch.Generator().manual_seed(seed)
    return torch.randint(top, (count, 3, 4, 4), generator=source, dtype=torch.uint8)


def test_without_torch_fidelity_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(kid, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install \"\.\[metrics\]\""):
        kid.kernel_distance(noise(4, 256, 0), noise(4, 256, 1), device=CPU)


def test_without_inceptions_weights_one_line_says_what_to_do(monkeypatch):
    def calculate_metrics(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(kid, "find_spec", lambda name: True)
    module = SimpleNamespace(calculate_metrics=calculate_metrics)
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    with pytest.raises(InputError, match="no route to host; put their file "):
        kid.kernel_distance(noise(4, 256, 0), noise(4, 256, 1), device=CPU)


@pytest.mark.parametrize(("counts", "size"), [((1200, 1100), 1000), ((150, 1100), 150)])
def test_subsets_are_of_a_thousand_images_or_of_all_of_the_smaller_set(counts, size, monkeypatch):
    def calculate_metrics(*, input1, input2, kid_subset_size, kid_subsets, rng_seed, **_):
        assert (len(input1), len(input2)) == counts and (kid_subsets, rng_seed) == (100, 0)
        return {
            "kernel_inception_distance_mean": float(kid_subset_size),
            "kernel_inception_distance_std": 0.5,
        }

    monkeypatch.setattr(kid, "find_spec", lambda name: True)
    module = SimpleNamespace(calculate_metrics=calculate_metrics)
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)
    sets = (noise(count, 256, 0) for count in counts)
    assert kid.kernel_distance(*sets, device=CPU) == (size, 0.5)


def unbiased_kernel_distance(x, y):
    """MMD^2 with the kernel (x.y / D + 1)^3, without the diagonals."""
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    m, n = len(x), len(y)
    own = kernel(x, x), kernel(y, y)
    within = (own[0].sum() - own[0].trace()) / (m * (m - 1))
    within += (own[1].sum() - own[1].trace()) / (n * (n - 1))
    return float(within - 2 * kernel(x, y).mean())


@pytest.mark.smoke
def test_the_distance_is_the_unbiased_one_of_levels():
    fidelity = pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Plain(FeatureExtractorBase):
        def __init__(self, name, features_list, **_):
            super().__init__(name, features_list)

        def forward(self, images):
            return (images.flatten(1).float() / 255,)

        @staticmethod
        def get_provided_features_list():
            return ("2048",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "2048"

        @staticmethod
        def can_be_compiled():
            return False

        @staticmethod
        def get_dummy_input_for_compile():
            return noise(1, 256, 0)

    fidelity.register_feature_extractor("plain", Plain)
    one, other = noise(12, 200, 0), noise(12, 256, 1)
    expected = unbiased_kernel_distance(
        one.flatten(1).double() / 255, other.flatten(1).double() / 255
    )
    for images in (one, from_uint8(one)):
        mean, std = kid.kernel_distance(images, other, device=CPU, extractor="plain")
        assert mean == pytest.approx(expected, rel=1e-4)
        assert std == pytest.approx(0, abs=1e-6)  # each subset is the whole set
