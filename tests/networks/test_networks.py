import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from latentdc.errors import InputError
from latentdc.networks import build_network, new_network
from latentdc.networks.base import batch_norms, disable_dropout
from latentdc.networks.build import NETWORKS, outline
from latentdc.networks.vit import Attention
from latentdc.recipe.networks import LIMITS, check_network
from tests.shared import shared_data

OF_IMAGES = [name for name in NETWORKS if LIMITS[name].kind == "images"]


@pytest.mark.parametrize(
    ("name", "resolution", "parameters", "classes"),
    [
        ("convnet3", 32, 320_010, 10),
        ("convnet3-bn", 32, 320_010, 10),
        ("convnet4", 64, 467_850, 10),
        ("convnet5", 128, 615_690, 10),
        ("convnet6", 256, 763_530, 10),
        ("alexnet", 128, 2_333_002, 10),  # published as 2.33 M
        ("alexnet", 256, 3_807_562, 10),  # 3.81 M
        ("vgg11", 128, 9_476_874, 10),  # 9.48 M of GLaD and LD3M
        ("vgg11", 64, 9_476_874, 10),
        ("vgg11", 63, 9_231_114, 10),
        ("vgg11", 32, 9_231_114, 10),  # of DC, DSA, DM and MTT
        ("vgg11", 16, 9_231_114, 10),
        ("resnet18", 128, 11_173_962, 10),  # 11.17 M
        ("resnet18-bn", 32, 11_173_962, 10),
        ("resnet18-bn-he", 32, 11_173_962, 10),
        ("resnet18-idc", 224, 11_181_642, 10),  # as GLaD's for ImageNet, but for its first weights
        ("resnet18-imagenet", 224, 11_181_642, 10),
        ("vit", 128, 16_176_650, 10),  # 16.2 M
        ("vit", 256, 16_274_954, 10),  # 16.3 M
        ("resnet20", 32, 269_722, 10),  # 0.27 M
        ("resnet56", 32, 853_018, 10),  # 0.85 M
        ("torchvision/resnet18", 224, 11_689_512, 1000),
        ("torchvision/resnet50", 224, 25_557_032, 1000),
        ("torchvision/mobilenet_v2", 224, 3_504_872, 1000),
        ("torchvision/efficientnet_b0", 224, 5_288_548, 1000),
        ("torchvision/swin_t", 224, 28_288_354, 1000),
        ("torchvision/resnet18-small", 32, 11_173_962, 10),  # kuangliu's ResNet-18 for CIFAR
        ("linear", 5, 5 * 10 + 10, 10),
    ],
)
def test_networks_have_the_published_number_of_parameters(name, resolution, parameters, classes):
    network = outline(name, num_classes=classes, resolution=resolution)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_every_name_that_recipes_may_say_is_built_and_no_other():
    assert NETWORKS.keys() == LIMITS.keys()


def narrow(name):
    return f"{name}@16"


@pytest.mark.parametrize("resolution", [8, 16, 28, 32, 64])
@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_network_works_at_each_resolution_that_it_takes(name, resolution):
    if not LIMITS[name].take(resolution):
        with pytest.raises(InputError, match=f"got {resolution} px"):
            build_network(narrow(name), num_classes=7, resolution=resolution)
        return
    network = new_network(narrow(name), num_classes=7, resolution=resolution, seed=0).eval()
    images = torch.randn(3, 3, resolution, resolution, generator=torch.Generator().manual_seed(1))
    logits = network(images)
    assert logits.shape == (3, 7)
    torch.testing.assert_close(logits, network.linear(network.features(images)))
    network.train("-bn" in name)  # new batch norms scale by the batch alone
    spread = network.features(images).std(dim=0).max()  # a dead map has the same features for all
    assert spread > 1e-3


@pytest.mark.parametrize("resolution", [128, 224, 256])
@pytest.mark.parametrize(
    "name", ["convnet6", "alexnet", "vgg11", "resnet18-idc", "resnet18-imagenet", "vit"]
)
def test_a_network_takes_large_images(name, resolution):
    network = build_network(narrow(name), num_classes=2, resolution=resolution).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, resolution, resolution)).shape == (1, 2)


@pytest.mark.parametrize(
    ("resolution", "same"),
    [(32, "convnet3"), (64, "convnet4"), (128, "convnet5"), (256, "convnet6"), (512, "convnet7")],
)
def test_a_convnet_without_a_depth_is_the_one_of_its_resolution(resolution, same):
    made, named = (
        new_network(name, num_classes=2, resolution=resolution, seed=0)
        for name in ("convnet@4", f"{same}@4")
    )
    assert made.state_dict().keys() == named.state_dict().keys()
    assert all(
        torch.equal(made.state_dict()[key], named.state_dict()[key]) for key in made.state_dict()
    )
    assert made.linear.in_features == 4 * 4 * 4


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_can_be_differentiated_again(name):
    images = name in OF_IMAGES
    resolution, width = max(16, LIMITS[name].smallest), "" if name == "linear" else "@8"
    network = new_network(f"{name}{width}", num_classes=3, resolution=resolution, seed=0).eval()
    shape = (2, 3, resolution, resolution) if images else (2, resolution)
    inputs = torch.randn(shape, requires_grad=True)
    loss = F.cross_entropy(network(inputs), torch.tensor([0, 2]))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    sum(g.square().sum() for g in gradients).backward()
    assert inputs.grad.isfinite().all() and inputs.grad.abs().max() > 0


def test_initial_weights_follow_from_seed_and_keys_alone():
    def weights(*keys, seed=0):
        network = new_network("convnet3@4", *keys, num_classes=2, resolution=8, seed=seed)
        return network.trunk[0].weight

    state = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert not torch.equal(weights(1), weights(1, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_small_images_give_the_vision_transformer_eight_by_eight_patches():
    for resolution, tokens in [(16, 65), (64, 65), (128, 65), (224, 197)]:
        network = build_network("vit@8", num_classes=2, resolution=resolution)
        assert network.position.shape == (1, tokens, 8)


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_cifar_resnets_load_the_published_weights(name):
    network = build_network(name, num_classes=10, resolution=32)
    network.load_state_dict(load_file(shared_data(f"cifar10_{name}") / "model.safetensors"))


def test_attention_is_the_scaled_dot_product():
    attention = Attention(16).eval()
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    q, k, v = (
        part.unflatten(2, (8, 2)).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=2)
    )
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x), attention.out(mixed), rtol=1e-4, atol=1e-4)


HE = ["resnet18-idc", "resnet18-bn-he", "resnetap10", "torchvision/resnet18"]


@pytest.mark.parametrize("name", [*HE, "resnet18", "resnet18-bn", "resnet18-imagenet", "vgg11"])
def test_a_network_starts_from_the_weights_of_its_source(name):
    network = new_network(name, num_classes=10, resolution=64, seed=0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            fan_in = module.in_channels * module.kernel_size[0] ** 2
            he, default = (2 / fan_out) ** 0.5, (3 * fan_in) ** -0.5
            spread = module.weight.std().item()
            assert spread == pytest.approx(he if name in HE else default, rel=0.03)
    assert network.linear.weight.abs().max() <= network.linear.in_features**-0.5  # PyTorch's


@pytest.mark.parametrize(("resolution", "last"), [(32, 4), (64, 8), (128, 8), (224, 7)])
def test_the_stem_of_idcs_resnet_follows_the_resolution(resolution, last):
    network = build_network("resnet18-idc@4", num_classes=2, resolution=resolution).eval()
    maps = []
    network.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.no_grad():
        network(torch.zeros(1, 3, resolution, resolution))
    assert maps[0].shape[2:] == (last, last)


def chancy() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), StochasticDepth(0.5, "row")
    )


def test_two_passes_are_the_same_and_look_at_the_batch():
    student = disable_dropout(chancy())
    inputs = 5 + torch.randn(6, 4)
    first, second = student(inputs), student(inputs)
    assert torch.equal(first, second)
    torch.testing.assert_close(first.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-5)
    assert [norm is student[2] for norm in batch_norms(student)] == [True]


def test_attention_drops_nothing_either():
    attention = disable_dropout(nn.MultiheadAttention(4, 1, dropout=0.9))
    x = torch.randn(3, 1, 4)
    assert torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])


def test_the_linear_student_is_a_matrix_and_a_bias():
    network = new_network("linear", num_classes=3, resolution=5, seed=0)
    x = torch.randn(4, 5)
    assert torch.equal(network.features(x), x)
    torch.testing.assert_close(network(x), x @ network.linear.weight.T + network.linear.bias)


def test_the_mlp_has_two_hidden_layers_of_its_width():
    network = new_network("mlp@7", num_classes=3, resolution=5, seed=0)
    x = torch.randn(4, 5)
    a, b = network.trunk[0], network.trunk[2]
    hidden = (F.relu(x @ a.weight.T + a.bias) @ b.weight.T + b.bias).clamp(min=0)
    torch.testing.assert_close(network.features(x), hidden, rtol=1e-4, atol=1e-4)
    assert hidden.shape == (4, 7) and network(x).shape == (4, 3)
    assert build_network("mlp", num_classes=2, resolution=5).linear.in_features == 512


def test_networks_and_samples_of_different_kinds_are_refused():
    with pytest.raises(InputError, match=r"convnet3@8 .* of images.* has vectors; .*'linear', 'ml"):
        check_network("convnet3@8", kind="vectors")
    with pytest.raises(InputError, match="mlp is a network of vectors, and the data set has image"):
        check_network("mlp", 32, "images")
    with pytest.raises(InputError, match="linear has no hidden layer, and so no width"):
        check_network("linear@8")
