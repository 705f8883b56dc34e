import pytest
import torch
from torch.nn import functional as F

from latentdc.evaluate.soft_labels import mix_logits
from latentdc.evaluate.steps import TrainingStep
from latentdc.evaluate.training import hard_loss, label_loss, mean_one, soft_loss
from latentdc.recipe.labels import Labels, Teacher
from latentdc.training import Batch

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


def test_mixed_logits_have_the_mixed_probabilities():
    mixed = mix_logits(LOGITS, OTHERS, KEPT, "kl", 4.0)
    kept, parts = KEPT[:, None], [(x / 4).softmax(dim=1) for x in (LOGITS, OTHERS)]
    torch.testing.assert_close((mixed / 4).softmax(1), kept * parts[0] + (1 - kept) * parts[1])
    squares = mix_logits(LOGITS, OTHERS, KEPT, "mse", 4.0)
    torch.testing.assert_close(squares, kept * LOGITS + (1 - kept) * OTHERS)


@pytest.mark.parametrize("kind", ["ce", "kl", "mse"])
def test_the_losses_of_single_images_have_the_mean_of_all(kind):
    each = soft_loss(LOGITS, OTHERS, kind, 4.0, "none")
    assert each.shape == (6,)
    torch.testing.assert_close(each.mean(), soft_loss(LOGITS, OTHERS, kind, 4.0))
    one = soft_loss(LOGITS[2:3], OTHERS[2:3], kind, 4.0)
    torch.testing.assert_close(each[2], one)


SOFT = {"source": "fixed", "teachers": [Teacher()], "soft_weight": 2.0, "hard_weight": 0.5}


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_weights_multiply_the_loss_of_each_image_and_have_a_mean_of_one(mixed, soft):
    weights = mean_one(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 2, 3, 4, 5, 9]) / 4)
    rows, partners = torch.tensor([4, 1, 5]), torch.tensor([1, 2, 0, 5, 3, 4])
    draws = {"partner": partners, "kept": KEPT} if mixed else {}
    step = TrainingStep(0, Batch(rows, None), draws)
    settings = Labels(**SOFT) if soft else Labels()
    targets = OTHERS[rows] if soft else None
    found = label_loss(LOGITS[rows], LABELS, step, settings, targets, step.mixed(weights))
    single, counted = [], []
    for row in rows.tolist():
        one = TrainingStep(0, Batch(torch.tensor([row]), None), draws)
        target = OTHERS[[row]] if soft else None
        single.append(label_loss(LOGITS[[row]], LABELS, one, settings, target))
        kept = float(KEPT[row]) if mixed else 1.0
        counted.append(kept * weights[row] + (1 - kept) * weights[partners[row]])
    written = sum(w * loss for w, loss in zip(counted, single, strict=True)) / 3
    torch.testing.assert_close(found, written)
