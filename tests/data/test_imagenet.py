import pytest
from torchvision.datasets.imagenette import Imagenette
from torchvision.models import ResNet18_Weights

from latentdc.data.imagenet import imagenet_indices, wordnet_ids
from latentdc.errors import InputError

INDICES = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]


def test_imagenettes_classes_are_found_by_id_and_by_name():
    classes = Imagenette._WNID_TO_CLASS
    assert imagenet_indices(list(classes)) == INDICES
    assert imagenet_indices([", ".join(names) for names in classes.values()]) == INDICES
    assert imagenet_indices([names[0] for names in classes.values()]) == INDICES


def test_the_whole_of_imagenet_is_in_its_own_order_by_id_and_by_torchvisions_names():
    assert imagenet_indices(wordnet_ids()) == list(range(1000))
    assert sorted(wordnet_ids()) == list(wordnet_ids())
    assert imagenet_indices(ResNet18_Weights.DEFAULT.meta["categories"]) == list(range(1000))


def test_upper_case_tells_the_dog_from_the_coat():
    assert imagenet_indices(["Cardigan", "cardigan"]) == [264, 474]


def test_an_unknown_class_is_named():
    with pytest.raises(InputError, match="ImageNet-1k has no class 'airplane'"):
        imagenet_indices(["tench", "airplane"])


def test_a_name_of_two_classes_needs_its_id():
    with pytest.raises(InputError, match="'crane' may be any of ImageNet's n02012849, n03126707"):
        imagenet_indices(["tench", "crane"])
