import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from latentdc.prune.classifier import Classifier
from latentdc.prune.loss import accuracy, cross_entropy, cross_entropy_scores
from tests.prune.toys import Means, colours, means


def test_scores_are_the_cross_entropy_written_out():
    dataset = colours()
    scores = cross_entropy_scores(means(gain=3), dataset, batch=5, accelerator=Accelerator())
    red, blue = (dataset.images[:, channel].float().mean(dim=(1, 2)) / 255 for channel in (0, 2))
    probabilities = (3 * torch.stack([red, blue], dim=1)).softmax(dim=1)
    torch.testing.assert_close(scores, -probabilities[torch.arange(12), dataset.labels].log())


def test_cross_entropy_agrees_with_torch():
    logits = 5 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 7
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, labels), expected)


def test_tiny_losses_are_still_ranked():
    logits = torch.tensor([[40.0, 0.0, -9.0], [41.0, 0.0, -9.0]])
    labels = torch.zeros(2, dtype=torch.int64)
    assert F.cross_entropy(logits, labels, reduction="none").tolist() == [0, 0]
    exact = logits.double().softmax(dim=1)[:, 1:].sum(dim=1)  # -log(1 - x) = x for tiny x
    torch.testing.assert_close(cross_entropy(logits, labels), exact.float(), atol=0, rtol=1e-5)


def test_the_batch_size_changes_no_score():
    one, all_ = (
        cross_entropy_scores(means(), colours(), batch=batch, accelerator=Accelerator())
        for batch in (1, 100)
    )
    torch.testing.assert_close(one, all_)


def test_scoring_is_in_eval_mode_and_without_gradients():
    model = nn.Sequential(nn.BatchNorm2d(3), Means())
    classifier = Classifier(model, nn.Identity()).train()
    scores = cross_entropy_scores(classifier, colours(), batch=4, accelerator=Accelerator())
    assert not scores.requires_grad
    assert model[0].num_batches_tracked == 0


def test_accuracy_counts_every_sample_once():
    dataset = colours()
    assert accuracy(means(), dataset, batch=5, accelerator=Accelerator()) == 1
    dataset.labels[:3] = 1 - dataset.labels[:3]
    assert accuracy(means(), dataset, batch=5, accelerator=Accelerator()) == 9 / 12


def test_two_processes_share_the_samples_and_agree():
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
        cross_entropy_scores(means(), dataset, batch=3, accelerator=Rank(rank))
    whole = cross_entropy_scores(means(), dataset, batch=3, accelerator=Accelerator())
    torch.testing.assert_close(parts[0] + parts[1], whole)
    assert [int((part != 0).sum()) for part in parts] == [6, 5]
