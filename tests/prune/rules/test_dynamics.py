"""Rules that look at a whole training, by hand values and loops."""

from math import exp

import pytest
import torch

from latentdc.prune.rules.dynamics import (
    aum,
    aum_probability,
    change_of,
    held_out_parts,
    margin_of,
    tdds,
)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_logit_margin_and_aum_are_those_of_the_paper():
    logits, labels = draws(4, 6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    margins = torch.stack([margin_of(epoch, labels) for epoch in logits])
    probabilities = logits.double().softmax(dim=2)
    for image, label in enumerate(labels.tolist()):
        own, others = logits[:, image, label], logits[:, image].clone()
        others[:, label] = -torch.inf
        torch.testing.assert_close(aum(margins)[image], (own - others.amax(dim=1)).mean())
        p, rest = probabilities[:, image, label], probabilities[:, image].clone()
        rest[:, label] = -torch.inf
        losses = -probabilities.gather(2, labels.view(1, 6, 1).expand(4, 6, 1))[..., 0].log()
        torch.testing.assert_close(
            aum_probability(losses.float(), margins)[image].double(),
            (p - rest.amax(dim=1)).mean(),
        )


def test_tdds_is_the_sum_over_windows_written_as_loops():
    epochs, images, classes, span, decay = 7, 3, 4, 4, 0.8
    log_p = draws(epochs, images, classes).log_softmax(dim=2)
    changes = torch.zeros(epochs, images)
    for t in range(1, epochs):
        changes[t] = change_of(log_p[t - 1], log_p[t])
    for image in range(images):
        k = []
        for t in range(epochs - 1):
            after, before = log_p[t + 1, image].tolist(), log_p[t, image].tolist()
            k.append(sum(abs(exp(after[c]) * (after[c] - before[c])) for c in range(classes)))
        expected = 0.0
        for window in range(epochs - span + 1):
            inside = torch.tensor(k[window : window + span - 1], dtype=torch.float64)
            spread = float((inside - inside.mean()).norm())
            expected += spread * decay * (1 - decay) ** (epochs - span - window)
        assert float(tdds(changes, span, decay)[image]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("subsets", "left_out"), [(2, 1), (4, 1), (10, 3)])
def test_every_image_is_held_out_equally_often_and_balanced_by_class(subsets, left_out):
    labels = torch.arange(60) % 3
    held_out = held_out_parts(labels, torch.randperm(60), subsets, seed=0)
    assert (held_out.sum(dim=0) == left_out).all()
    for training in held_out:
        counts = labels[training].bincount(minlength=3)
        assert counts.max() - counts.min() <= left_out


def test_the_same_image_is_held_out_in_every_copy_of_the_set():
    labels, hashes = torch.arange(20) % 2, torch.randperm(20)
    order = torch.randperm(20)
    one = held_out_parts(labels, hashes, 4, seed=1)
    assert torch.equal(held_out_parts(labels[order], hashes[order], 4, seed=1), one[:, order])
