import dataclasses
from urllib.error import URLError

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from latentdc.data.dataset import Dataset, class_counts
from latentdc.data.open import open_dataset
from latentdc.errors import InputError
from latentdc.images import Normalization
from latentdc.networks import new_network
from latentdc.prune.measures import accuracy
from latentdc.prune.scorers import given_scorer, load_scorer, refuse_chance, torchvision_scorer
from latentdc.recipe import Data, Scorer
from latentdc.recipe.networks import pretrained
from latentdc.recipe.subsets import subset_indices, subset_names, wordnet_ids
from tests.shared import shared_data


@pytest.fixture
def weights(tmp_path):
    network = new_network("convnet3@4", "a", num_classes=5, resolution=8, seed=0)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    return network, tmp_path / "model.safetensors"


def load(path, network="convnet3@4", num_classes=5, resolution=8):
    return load_scorer(
        network,
        path,
        class_names=[str(label) for label in range(num_classes)],
        resolution=resolution,
        normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    )


@pytest.mark.smoke
def test_a_loaded_scorer_computes_what_its_network_did(weights):
    network, path = weights
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(load(path)(images), network(images))  # mean and std of 0.5 cancel


def test_images_are_resized_to_the_resolution_of_the_weights(weights):
    network, path = weights
    flat = torch.full((1, 3, 20, 20), 0.3)
    torch.testing.assert_close(load(path)(flat), network(flat[..., :8, :8]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"num_classes": 7},
            r"with 7 classes: linear\.weight has shape \(5, 4\) instead of",
        ),
        ({"network": "convnet3@8"}, r"does not fit convnet3@8.*name the network of these weights"),
        ({"network": "alexnet@4"}, "weights are missing"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_difference(weights, keys, message):
    with pytest.raises(InputError, match=message):
        load(weights[1], **keys)


def test_batch_counters_that_older_files_lack_are_not_missed(tmp_path):
    state = new_network("resnet20@2", num_classes=5, resolution=8, seed=0).state_dict()
    kept = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    assert len(kept) < len(state)
    save_file(kept, tmp_path / "model.safetensors")
    images = torch.zeros(2, 3, 8, 8)
    assert load(tmp_path / "model.safetensors", "resnet20@2").eval()(images).shape == (2, 5)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """An untrained network of torchvision for ImageNet's classes, and its file."""
    torch.manual_seed(0)
    network = models.shufflenet_v2_x0_5(weights=None).eval()
    path = tmp_path_factory.mktemp("imagenet") / "model.safetensors"
    save_file(network.state_dict(), path)
    return network, path


def test_weights_for_imagenet_are_restricted_to_the_classes_of_a_set_by_name(imagenet):
    network, path = imagenet
    half = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # cancels the way to [0, 1]
    options = {"resolution": 32, "normalization": half}
    name = "torchvision/shufflenet_v2_x0_5"
    scorer = load_scorer(name, path, class_names=["n03888257", "tench", "chain saw"], **options)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(scorer.eval()(images), network(images)[:, [701, 0, 491]])
    with pytest.raises(InputError, match="ImageNet-1k has no class 'airplane'"):
        load_scorer(name, path, class_names=["airplane", "tench"], **options)


def test_weights_for_all_of_imagenets_classes_are_taken_as_they_are(imagenet):
    name = "torchvision/shufflenet_v2_x0_5"
    whole = load_scorer(
        name, imagenet[1], class_names=wordnet_ids(), resolution=32, normalization=Normalization()
    )
    assert whole.columns is None
    assert torch.equal(whole.network.linear.weight, imagenet[0].fc.weight)


@pytest.mark.slow
def test_a_public_resnet20_scores_cifar10_and_a_wrong_class_order_is_refused():
    data = Data(
        source=str(shared_data("cifar10")),
        config="plain_text",
        resolution=32,
    )
    test = open_dataset(data, "test").select(torch.arange(300))
    scorer = load_scorer(
        "resnet20",
        shared_data("cifar10_resnet20") / "model.safetensors",
        class_names=test.class_names,
        resolution=32,
        normalization=Normalization(),
    )
    assert accuracy(scorer, test, batch=100, accelerator=Accelerator()) > 0.88
    shifted = dataclasses.replace(test, labels=(test.labels + 1) % 10)
    right = accuracy(scorer, shifted, batch=100, accelerator=Accelerator())
    with pytest.raises(InputError, match="its losses say nothing"):
        refuse_chance(right, class_counts(shifted).tolist(), "")


def test_a_file_that_holds_no_weights_is_named(tmp_path):
    (tmp_path / "text.safetensors").write_text("none")
    for name in ("absent", "text"):
        with pytest.raises(InputError, match=rf"cannot read .*{name}\.safetensors"):
            load(tmp_path / f"{name}.safetensors")


class Counting(nn.Module):
    """Logit k is k for every image; remembers what came in."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        return torch.arange(1000.0).expand(len(images), -1)


@pytest.fixture
def counting(monkeypatch) -> Counting:
    network = Counting()
    monkeypatch.setattr(models, "get_model", lambda *_, **__: network)
    return network


@pytest.mark.smoke
def test_a_torchvision_scorer_is_restricted_to_the_classes_of_the_set_by_name(counting):
    scorer = torchvision_scorer("resnet18", class_names=["n03888257", "tench", "chain saw"])
    assert scorer(torch.zeros(2, 3, 8, 8)).tolist() == [[701, 0, 491]] * 2


def test_a_torchvision_scorer_of_all_classes_is_not_restricted(counting):
    scorer = torchvision_scorer("resnet18", class_names=wordnet_ids())
    assert scorer.columns is None
    assert scorer(torch.zeros(1, 3, 8, 8)).tolist() == [list(range(1000))]
    turned = torchvision_scorer("resnet18", class_names=wordnet_ids()[::-1])
    assert turned(torch.zeros(1, 3, 8, 8)).tolist() == [list(range(1000))[::-1]]


@pytest.mark.parametrize("subset", ["imagewoof", "a", "alyosha"])
def test_a_torchvision_scorer_has_the_classes_of_a_named_subset_in_its_order(counting, subset):
    published = ResNet18_Weights.DEFAULT.meta["categories"]  # names, as a Hub data set has them
    for names in (list(wordnet_ids()), published):
        scorer = torchvision_scorer("resnet18", class_names=subset_names(names, subset, "it"))
        assert scorer(torch.zeros(1, 3, 8, 8)).tolist() == [list(subset_indices(subset))]


def test_a_torchvision_scorer_prepares_images_as_its_weights_expect(counting):
    scorer = torchvision_scorer("resnet18", class_names=["tench", "goldfish"])
    scorer(torch.zeros(1, 3, 64, 64))
    grey = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert counting.seen.shape == (1, 3, 224, 224)
    torch.testing.assert_close(counting.seen[0, :, 9, 9], grey)


def test_a_recipe_may_change_what_the_weights_expect(counting):
    scorer = torchvision_scorer(
        "resnet18",
        class_names=["tench", "goldfish"],
        resolution=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    scorer(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(counting.seen, torch.full((1, 3, 32, 32), 2.0))


def test_an_unknown_torchvision_model_and_class_are_named(counting):
    with pytest.raises(InputError, match="no classifier 'resnet19'; did you mean 'resnet1"):
        torchvision_scorer("resnet19", class_names=["tench", "goldfish"])
    with pytest.raises(InputError, match="no class 'airplane'"):
        torchvision_scorer("resnet18", class_names=["airplane", "tench"])


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ("torchvision", ResNet50_Weights.IMAGENET1K_V2),
        ("torchvision/IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V1),
    ],
)
def test_a_recipe_chooses_among_torchvisions_weights(monkeypatch, weights, found):
    asked = []
    monkeypatch.setattr(models, "get_model", lambda _, weights: asked.append(weights) or Counting())
    spec = Scorer(network="resnet50", weights=weights)
    fish = Dataset(
        images=torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        labels=torch.arange(2),
        class_names=("tench", "goldfish"),
        hashes=torch.arange(2),
        name="fish",
    )
    given_scorer(spec, fish, Normalization())
    assert asked == [found]


def test_unknown_weights_of_torchvision_are_refused_with_those_there_are(counting):
    with pytest.raises(InputError, match="no weights 'IMAGENET1K_V3' of resnet50; did you mean"):
        torchvision_scorer("resnet50", "IMAGENET1K_V3", class_names=["tench", "goldfish"])


def test_a_file_in_a_folder_named_torchvision_is_a_file():
    assert pretrained("torchvision/mine.safetensors") is None
    assert pretrained("torchvision/IMAGENET1K_V1") == "IMAGENET1K_V1"
    assert pretrained(None) is None


def test_weights_that_cannot_be_had_say_what_to_download_and_where_to_put_it(monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(InputError, match=r"download https://.*resnet18.*\.pth .*checkpoints"):
        torchvision_scorer("resnet18", class_names=["tench", "goldfish"])
