import pytest
import torch
from accelerate import Accelerator
from torch import nn

from latentdc.errors import InputError
from latentdc.prune.measures import measure, scorer_accuracy
from latentdc.prune.rules.predictions import cross_entropy
from latentdc.prune.scorers import Classifier
from tests.prune.toys import Means, colours, means


def losses(classifier, dataset, *, batch, accelerator=None, start=0):
    blocks = measure(
        classifier,
        dataset,
        lambda seen: cross_entropy(seen.logits, seen.labels).unsqueeze(1),
        width=1,
        batch=batch,
        accelerator=accelerator or Accelerator(),
        start=start,
    )
    return torch.cat([block[:, 0] for _, block in blocks])


def test_scores_are_the_cross_entropy_written_out():
    dataset = colours()
    red, blue = (dataset.images[:, channel].float().mean(dim=(1, 2)) / 255 for channel in (0, 2))
    probabilities = (3 * torch.stack([red, blue], dim=1)).softmax(dim=1)
    torch.testing.assert_close(
        losses(means(gain=3), dataset, batch=5),
        -probabilities[torch.arange(12), dataset.labels].log(),
    )


def test_the_batch_size_changes_no_score():
    torch.testing.assert_close(
        losses(means(), colours(), batch=1), losses(means(), colours(), batch=100)
    )


def test_a_later_start_gives_the_rest_bit_by_bit():
    whole = losses(means(), colours(), batch=4)
    assert torch.equal(losses(means(), colours(), batch=4, start=8), whole[8:])


def test_scoring_is_in_eval_mode_and_without_gradients():
    model = nn.Sequential(nn.BatchNorm2d(3), Means())
    scores = losses(Classifier(model, nn.Identity()).train(), colours(), batch=4)
    assert not scores.requires_grad
    assert model[0].num_batches_tracked == 0


def test_accuracy_counts_every_sample_once():
    dataset = colours()
    assert scorer_accuracy(means(), dataset, batch=5, accelerator=Accelerator()) == 1
    dataset.labels[:3] = 1 - dataset.labels[:3]
    assert scorer_accuracy(means(), dataset, batch=5, accelerator=Accelerator()) == 9 / 12


def test_two_processes_share_whole_batches_and_agree_bit_by_bit():
    dataset, parts = colours(11), []

    class Rank:
        device, num_processes, is_main_process = torch.device("cpu"), 2, False
        autocast = Accelerator().autocast

        def __init__(self, process_index: int) -> None:
            self.process_index = process_index

        def reduce(self, tensor: torch.Tensor, _: str) -> torch.Tensor:
            parts.append(tensor)
            return tensor

    for rank in (0, 1):
        losses(means(), dataset, batch=3, accelerator=Rank(rank))
    assert torch.equal((parts[0] + parts[1])[:, 0], losses(means(), dataset, batch=3))
    assert [part[:, 0].nonzero().squeeze(1).tolist() for part in parts] == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10],
    ]


def test_features_are_what_the_last_layer_sees():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2))
    classifier = Classifier(network, nn.Identity())
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    logits, features = classifier.embed(images)
    assert classifier.width == 5
    torch.testing.assert_close(logits, network[3](features), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, classifier(images), rtol=1e-4, atol=1e-4)


def test_a_network_without_a_linear_layer_has_no_features():
    with pytest.raises(InputError, match=r"no linear layer .* bring prune\.features"):
        means().embed(torch.zeros(1, 3, 8, 8))
