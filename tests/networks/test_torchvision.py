import pytest
import torch
from torchvision import models

from latentdc.networks import build_network, new_network
from latentdc.networks.build import outline
from latentdc.recipe.networks import SMALL_STEM, SMALLEST
from latentdc.training import needs_two_images


def test_resnetap10_has_the_parameters_of_its_four_blocks():
    def block(before, width):
        convolutions = 9 * before * width + 9 * width * width
        shortcut = before * width + 2 * width if before != width else 0
        return convolutions + 4 * width + shortcut

    body = block(64, 64) + block(64, 128) + block(128, 256) + block(256, 512)
    for resolution, kernel in [(64, 9), (128, 9), (224, 49)]:
        network = outline("resnetap10", num_classes=10, resolution=resolution)
        found = sum(p.numel() for p in network.parameters())
        assert found == kernel * 3 * 64 + 2 * 64 + body + 512 * 10 + 10


@pytest.mark.parametrize(("resolution", "last"), [(64, 8), (128, 8), (256, 8), (224, 7)])
def test_resnetap10_pools_instead_of_striding(resolution, last):
    network = build_network("resnetap10@4", num_classes=2, resolution=resolution).eval()
    assert {m.stride for m in network.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}
    assert network.trunk(torch.zeros(1, 3, resolution, resolution)).shape[2:] == (last, last)


@pytest.mark.smoke
def test_every_listed_name_is_torchvisions():
    known = models.list_models(module=models)
    assert {name.removesuffix(SMALL_STEM) for name in SMALLEST} <= set(known)


FAMILIES = ["resnet18", "shufflenet_v2_x0_5", "regnet_x_400mf", "swin_v2_t", "vit_b_32"]
MORE = [
    *("vgg11_bn", "densenet121", "mobilenet_v3_small", "mnasnet0_5", "alexnet", "swin_t"),
    *("efficientnet_b0", "regnet_y_400mf", "convnext_tiny"),
]


@pytest.mark.parametrize(
    "name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def test_every_family_has_an_outline_that_draws_nothing(name):
    resolution, before = SMALLEST[name], torch.random.get_rng_state()
    found = outline(f"torchvision/{name}", num_classes=3, resolution=resolution)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {weight.device.type for weight in found.parameters()} == {"meta"}
    needs_two_images(f"torchvision/{name}", 3, resolution)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "resolution"),
    [("mobilenet_v2", 32), ("resnet18-small", 8), ("shufflenet_v2_x0_5", 32)],
)
def test_a_torchvision_student_is_an_embedding_and_a_linear_classifier(name, resolution):
    network = new_network(f"torchvision/{name}", num_classes=3, resolution=resolution, seed=0)
    images = torch.randn(2, 3, resolution, resolution)
    logits = network.eval()(images)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, network.linear(network.features(images)))
    again = new_network(f"torchvision/{name}", num_classes=3, resolution=resolution, seed=0)
    torch.testing.assert_close(again.eval()(images), logits)
