import pytest
import torch
from torch.nn import functional as F

from latentdc.evaluate.soft_labels import mix_logits
from latentdc.evaluate.training import hard_loss, soft_loss

SOURCE = torch.Generator().manual_seed(0)
LOGITS, OTHERS = torch.randn(6, 4, generator=SOURCE), torch.randn(6, 4, generator=SOURCE)
LABELS, PARTNERS = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 2])
KEPT = torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0, 0.9])


def test_the_mixed_loss_is_the_weighted_sum_of_both_classes_losses():
    own = F.cross_entropy(LOGITS, LABELS, reduction="none")
    other = F.cross_entropy(LOGITS, PARTNERS, reduction="none")
    loss = hard_loss(LOGITS, LABELS, PARTNERS, KEPT)
    torch.testing.assert_close(loss, (KEPT * own + (1 - KEPT) * other).mean())


def test_smoothing_spreads_its_share_over_all_classes():
    logs = LOGITS.log_softmax(dim=1)
    smooth = 0.8 * F.one_hot(LABELS, 4) + 0.2 / 4
    loss = hard_loss(LOGITS, LABELS, smoothing=0.2)
    torch.testing.assert_close(loss, -(smooth * logs).sum(dim=1).mean())


def test_the_divergence_is_the_published_one_without_the_squared_temperature():
    t, s = (OTHERS / 20).softmax(dim=1), (LOGITS / 20).softmax(dim=1)
    expected = (t * (t.log() - s.log())).sum(dim=1).mean()
    torch.testing.assert_close(soft_loss(LOGITS, OTHERS, "kl", 20.0), expected)


def test_other_soft_losses_are_their_formulas():
    squares = ((LOGITS - OTHERS) ** 2).mean()
    torch.testing.assert_close(soft_loss(LOGITS, OTHERS, "mse", 20.0), squares)
    cross = -((OTHERS / 2).softmax(dim=1) * LOGITS.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(soft_loss(LOGITS, OTHERS, "ce", 2.0), cross)


@pytest.mark.parametrize("kind", ["kl", "ce", "mse"])
def test_the_loss_of_each_image_is_multiplied_by_its_weight(kind):
    weights, rows = torch.tensor([0.0, 2.0, 1.0, 1.0, 1.0, 1.0]), torch.tensor([1, 1, 2, 3, 4, 5])
    weighed = hard_loss(LOGITS, LABELS, PARTNERS, KEPT, 0.1, weights)
    plain = hard_loss(LOGITS[rows], LABELS[rows], PARTNERS[rows], KEPT[rows], 0.1)
    torch.testing.assert_close(weighed, plain)
    weighed = soft_loss(LOGITS, OTHERS, kind, 2.0, weights)
    torch.testing.assert_close(weighed, soft_loss(LOGITS[rows], OTHERS[rows], kind, 2.0))


def test_mixed_logits_have_the_mixed_probabilities():
    mixed = mix_logits(LOGITS, OTHERS, KEPT, "kl", 4.0)
    kept, parts = KEPT[:, None], [(x / 4).softmax(dim=1) for x in (LOGITS, OTHERS)]
    torch.testing.assert_close((mixed / 4).softmax(1), kept * parts[0] + (1 - kept) * parts[1])
    squares = mix_logits(LOGITS, OTHERS, KEPT, "mse", 4.0)
    torch.testing.assert_close(squares, kept * LOGITS + (1 - kept) * OTHERS)
