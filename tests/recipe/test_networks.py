import subprocess
import sys

import pytest

from latentdc.errors import InputError
from latentdc.recipe.networks import check_network, parse_network


def test_a_name_has_the_published_width_or_its_own():
    assert parse_network("convnet3") == ("convnet3", 128)
    assert parse_network("resnet18-imagenet@16") == ("resnet18-imagenet", 16)


def test_an_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"unknown network 'convnt3'; did you mean 'convnet3'\?"):
        check_network("convnt3")


@pytest.mark.parametrize("width", ["", "0", "-8", "wide", "08", "+8", "٨", "8 "])
def test_a_width_that_is_no_positive_number_is_refused(width):
    with pytest.raises(InputError, match="base width after '@' is a positive multiple of 1"):
        check_network(f"convnet3@{width}")


def test_a_width_that_eight_heads_cannot_share_is_refused():
    with pytest.raises(InputError, match="positive multiple of 8 for vit, got '12'"):
        check_network("vit@12")


def test_a_resolution_that_is_too_small_is_refused_with_networks_that_fit():
    with pytest.raises(InputError, match="convnet5 takes images of 32 px or more, got 16") as error:
        check_network("convnet5", 16)
    assert "'convnet4'" in str(error.value) and "'convnet6'" not in str(error.value)


def test_a_resolution_that_patches_do_not_divide_is_refused():
    check_network("vit", 24)
    with pytest.raises(InputError, match="multiples of 8 px up to 128 and of 16 px above, got 28"):
        check_network("vit", 28)
    with pytest.raises(InputError, match="got 136"):
        check_network("vit", 136)


def test_checking_a_name_imports_no_torch():
    code = (
        "import sys; from latentdc.recipe.networks import check_network; check_network('vit', 16); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torchvisions_classifiers_are_students_by_name():
    assert parse_network("torchvision/mobilenet_v2") == ("torchvision/mobilenet_v2", 1)
    with pytest.raises(InputError, match=r"did you mean 'mobilenet_v2'.* behind 'torchvision/'"):
        check_network("torchvision/mobilnet_v2")
    with pytest.raises(InputError, match="takes images of 64 px or more, got 32 px"):
        check_network("torchvision/alexnet", 32)
    check_network("torchvision/vit_b_16", 48)
    with pytest.raises(InputError, match="multiples of 16 px, got 40 px"):
        check_network("torchvision/vit_b_16", 40)
