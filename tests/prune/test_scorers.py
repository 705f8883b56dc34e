import dataclasses
from itertools import pairwise
from urllib.error import URLError

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from latentdc.data.dataset import Dataset
from latentdc.data.open import open_dataset
from latentdc.errors import InputError
from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.prune.measures import scorer_accuracy
from latentdc.prune.scorer_training import ScorerTraining, real_classifier, trained_as_long
from latentdc.prune.scorers import given_scorer, refuse_chance
from latentdc.recipe import Data, Scorer
from latentdc.recipe.networks import pretrained
from latentdc.recipe.subsets import subset_indices, subset_names, wordnet_ids
from tests.prune.toys import colours
from tests.shared import shared_data


@pytest.fixture
def weights(tmp_path):
    network = new_network("convnet3@4", "a", num_classes=5, resolution=8, seed=0)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    return network, tmp_path / "model.safetensors"


HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # cancels the way to [0, 1]


def of_classes(names, size=8) -> Dataset:
    """A blank image of each class."""
    count, images = len(names), torch.zeros(len(names), 3, size, size, dtype=torch.uint8)
    return Dataset(images, torch.arange(count), tuple(names), torch.arange(count), "blank")


def load(path, network="convnet3@4", num_classes=5):
    data = of_classes([str(label) for label in range(num_classes)])
    return given_scorer(Scorer(network=network, weights=str(path)), data, HALF)


def published(names, network="resnet18", weights="torchvision", **keys):
    scorer = Scorer(network=network, weights=weights, **keys)
    return given_scorer(scorer, of_classes(names), Normalization())


@pytest.mark.smoke
def test_a_loaded_scorer_computes_what_its_network_did(weights):
    network, path = weights
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(
        load(path)(images), network(images), rtol=1e-4, atol=1e-4
    )  # mean and std of 0.5 cancel


def test_images_are_resized_to_the_resolution_of_the_weights(weights):
    network, path = weights
    flat = torch.full((1, 3, 20, 20), 0.3)
    torch.testing.assert_close(load(path)(flat), network(flat[..., :8, :8]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"num_classes": 7},
            r"with 7 classes; .*: size mismatch for linear\.weight.*\[5, 4\]",
        ),
        ({"network": "convnet3@8"}, r"does not fit convnet3@8.*name the network of these weights"),
        ({"network": "alexnet@4"}, r"does not fit alexnet@4 .*: Missing key"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_difference(weights, keys, message):
    with pytest.raises(InputError, match=message):
        load(weights[1], **keys)


def test_quantised_weights_are_refused_and_not_taken_for_floats(tmp_path):
    state = new_network("convnet3@4", num_classes=5, resolution=8, seed=0).state_dict()
    state["linear.weight"] = (state["linear.weight"] * 127).to(torch.int8)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(
        InputError, match=r"linear\.weight in .* is of torch\.int8, and weights are"
    ):
        load(tmp_path / "model.safetensors")


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
    scorer = Scorer(network="torchvision/shufflenet_v2_x0_5", weights=str(path), resolution=32)
    three = of_classes(["n03888257", "tench", "chain saw"])
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        found = given_scorer(scorer, three, HALF).eval()(images)
        torch.testing.assert_close(found, network(images)[:, [701, 0, 491]])
    with pytest.raises(InputError, match="ImageNet-1k has no class 'airplane'"):
        given_scorer(scorer, of_classes(["airplane", "tench"]), HALF)
    whole = given_scorer(scorer, of_classes(wordnet_ids()), Normalization())
    assert whole.columns is None
    assert torch.equal(whole.network.linear.weight, network.fc.weight)


@pytest.mark.slow
def test_a_public_resnet20_scores_cifar10_and_a_wrong_class_order_is_refused():
    data = Data(
        source=str(shared_data("cifar10")),
        config="plain_text",
        resolution=32,
    )
    test = open_dataset(data, "test").select(torch.arange(300))
    path = str(shared_data("cifar10_resnet20") / "model.safetensors")
    scorer = given_scorer(Scorer(network="resnet20", weights=path), test, Normalization())
    assert scorer_accuracy(scorer, test, batch=100, accelerator=Accelerator()) > 0.88
    shifted = dataclasses.replace(test, labels=(test.labels + 1) % 10)
    right = scorer_accuracy(scorer, shifted, batch=100, accelerator=Accelerator())
    with pytest.raises(InputError, match="its losses say nothing"):
        refuse_chance(right, shifted.counts, "")


def test_a_file_that_holds_no_weights_is_named(tmp_path):
    (tmp_path / "text.safetensors").write_text("none")
    for name in ("absent", "text"):
        with pytest.raises(InputError, match=rf"cannot read .*{name}\.safetensors"):
            load(tmp_path / f"{name}.safetensors")


FISH = ["tench", "goldfish"]


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
def test_a_torchvision_scorer_has_the_classes_of_the_set_in_its_order(counting):
    whole, blank = list(wordnet_ids()), torch.zeros(1, 3, 8, 8)
    categories = ResNet18_Weights.DEFAULT.meta["categories"]  # names, as a Hub data set has them
    wanted = [(["n03888257", "tench", "chain saw"], [701, 0, 491])]
    wanted += [(whole, list(range(1000))), (whole[::-1], list(range(1000))[::-1])]
    for subset in ("imagewoof", "a", "alyosha"):
        for names in (whole, categories):
            wanted.append((subset_names(names, subset, "it"), list(subset_indices(subset))))
    for names, logits in wanted:
        assert published(names)(blank).tolist() == [logits]
    assert published(whole).columns is None


def test_a_torchvision_scorer_prepares_images_as_its_weights_expect(counting):
    scorer = published(FISH)
    scorer(torch.zeros(1, 3, 64, 64))
    grey = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert counting.seen.shape == (1, 3, 224, 224)
    torch.testing.assert_close(counting.seen[0, :, 9, 9], grey)


def test_a_recipe_may_change_what_the_weights_expect(counting):
    scorer = published(FISH, resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    scorer(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(counting.seen, torch.full((1, 3, 32, 32), 2.0))


def test_an_unknown_torchvision_model_class_and_weights_are_named(counting):
    with pytest.raises(InputError, match="no classifier 'resnet19'; did you mean 'resnet1"):
        published(FISH, "resnet19")
    with pytest.raises(InputError, match="no class 'airplane'"):
        published(["airplane", "tench"])
    with pytest.raises(InputError, match="no weights 'IMAGENET1K_V3' of resnet50; did you mean"):
        published(FISH, "resnet50", "torchvision/IMAGENET1K_V3")


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
    published(FISH, "resnet50", weights)
    assert asked == [found]


def test_a_file_in_a_folder_named_torchvision_is_a_file():
    assert pretrained("torchvision/mine.safetensors") is None
    assert pretrained("torchvision/IMAGENET1K_V1") == "IMAGENET1K_V1"
    assert pretrained(None) is None


def test_weights_that_cannot_be_had_say_what_to_download_and_where_to_put_it(monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(InputError, match=r"download https://.*resnet18.*\.pth .*checkpoints"):
        published(FISH)


@pytest.mark.parametrize(
    ("counts", "chance", "enough"),
    [([100] * 10, 0.18, 0.20), ([5, 5], 0.5, 0.56), ([1] * 1000, 0.0019, 0.0021)],
)
def test_a_scorer_near_chance_is_refused(counts, chance, enough):
    refuse_chance(enough, counts, "")
    with pytest.raises(InputError, match="its losses say nothing"):
        refuse_chance(chance, counts, "")


def test_always_naming_the_largest_class_is_chance():
    with pytest.raises(InputError, match=r"90\.00% of the images and chance is 90\.00%"):
        refuse_chance(0.9, [90, 10], "")


# ---- Trained on the spot ----


def training(**keys) -> ScorerTraining:
    given = {"network": "convnet3@4", "epochs": 3, "lr": 0.05, "batch": 8, **keys}
    own = {"seed": given.pop("seed", 0), "rows": given.pop("rows", None)}
    return ScorerTraining(
        colours(32),
        Scorer(**given),
        normalization=Normalization(),
        accelerator=Accelerator(),
        **own,
    )


def first_layer(run: ScorerTraining) -> torch.Tensor:
    return next(run.classifier.parameters()).detach().clone()


def weights_after(**keys) -> list[torch.Tensor]:
    """The first convolution after each epoch."""
    run = training(**keys)
    return [first_layer(run) for _ in run.run()]


def test_training_follows_from_the_seed_and_not_from_the_global_stream():
    torch.manual_seed(1)
    first = weights_after()
    torch.manual_seed(2)
    again, other = weights_after(), weights_after(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_scoring_between_epochs_does_not_change_the_training():
    run = training(network="resnet20@2", epochs=2)
    epochs = run.run()
    next(epochs)
    scorer_accuracy(run.classifier, colours(8), batch=8, accelerator=Accelerator())
    assert not run.classifier.training
    next(epochs)
    assert run.classifier.training


def test_the_last_step_of_the_cosine_hardly_moves():
    moves = [float((b - a).norm()) for a, b in pairwise(weights_after(epochs=12))]
    assert moves[-1] < 0.2 * moves[0]


def test_a_trained_scorer_tells_the_classes_apart():
    run = training(network="convnet3@16", epochs=5, lr=0.1)
    assert list(run.run()) == [0, 1, 2, 3, 4]
    right = scorer_accuracy(
        run.classifier, colours(64, seed=1), batch=64, accelerator=Accelerator()
    )
    assert right == 1


@pytest.mark.parametrize("keys", [{}, {"network": "resnet20@2"}, {"infobatch": 0.5, "epochs": 5}])
def test_a_training_that_was_put_away_goes_on_bit_by_bit(keys):
    whole = training(**keys)
    list(whole.run())
    begun, other = training(**keys), training(**keys)
    assert list(begun.run(2)) == [0, 1]
    other.restore({key: value.clone() for key, value in begun.state().items()})
    assert next(other.run()) == 2
    list(other.run())
    ended = other.classifier.state_dict()
    assert all(torch.equal(v, ended[key]) for key, v in whole.classifier.state_dict().items())


def test_only_the_given_rows_are_trained_on(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "latentdc.prune.scorer_training.fetch",
        lambda images, rows, device: seen.append(rows) or images[rows].float(),
    )
    list(training(rows=torch.tensor([3, 9, 20])).run(1))
    assert torch.cat(seen).sort().values.tolist() == [3, 9, 20]


@pytest.mark.parametrize(
    ("batch", "sizes"), [(31, [32]), (8, [8] * 4), (30, [30, 2]), (1, [1] * 32)]
)
def test_a_single_image_left_over_joins_the_last_batch(monkeypatch, batch, sizes):
    seen = []
    monkeypatch.setattr(
        "latentdc.prune.scorer_training.fetch",
        lambda images, rows, device: seen.append(rows) or images[rows].float(),
    )
    list(training(batch=batch).run(1))
    assert [len(rows) for rows in seen] == sizes
    assert torch.cat(seen).sort().values.tolist() == list(range(32))


def test_infobatch_sees_fewer_images_in_the_middle_and_all_at_the_end(monkeypatch):
    run = training(infobatch=0.5, epochs=8)
    seen = []
    loss = ScorerTraining._loss
    monkeypatch.setattr(
        ScorerTraining,
        "_loss",
        lambda self, forward, step: (
            seen.append((self.done, len(step[1].rows))) or loss(self, forward, step)
        ),
    )
    list(run.run())
    counts = [sum(n for epoch, n in seen if epoch == e) for e in range(8)]
    assert counts[0] == counts[7] == 32 and max(counts[1:7]) < 32


def test_a_classifier_of_real_images_is_trained_where_a_sampler_wants_it(tmp_path):
    scorer = Scorer(network="convnet3@16", epochs=12, lr=0.1, batch=4)
    settings = {"normalization": HALF, "seed": 0, "accelerator": Accelerator()}
    with torch.no_grad():  # as guided sampling runs
        found, share = real_classifier(
            scorer, colours(32), lambda: colours(32, seed=1), folder=tmp_path, **settings
        )
        student = trained_as_long(scorer, colours(8), images=32, **settings)
    assert share > 0.7 and not found.training and not student.training


def test_a_student_of_few_images_takes_as_many_steps_as_one_of_all(monkeypatch):
    taken, loss = [], ScorerTraining._loss

    def noting(self, forward, step):
        taken.append(step)
        return loss(self, forward, step)

    monkeypatch.setattr(ScorerTraining, "_loss", noting)
    scorer = Scorer(network="convnet3@4", epochs=3, lr=0.1, batch=4, infobatch=0.5)
    settings = {"normalization": HALF, "seed": 0, "accelerator": Accelerator()}
    trained_as_long(scorer, colours(6), images=30, **settings)
    assert len(taken) == 3 * 8  # of 2 in an epoch on the few
