import math

import pytest
import torch
from torch.nn import functional as F

from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.evaluate.steps import training_steps
from latentdc.evaluate.training import train_student
from latentdc.images import from_uint8
from latentdc.networks import new_network
from latentdc.preprocessing import Normalization
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.synthetic import SyntheticSet
from latentdc.training import InfoBatch, epoch_batches
from tests.evaluate.toys import protocol, setting, stripes

RHO, BATCH, EPOCHS = 0.5, 4, 16
NORMALIZATION = Normalization()


def all_steps(losses=None):
    """Steps of a training on 24 images, 6 to a full epoch, whose losses never change."""
    chosen = protocol(steps=6 * EPOCHS, batch=BATCH)
    sampler = None if losses is None else InfoBatch(24, EPOCHS, rho=RHO, seed=0)
    steps = []
    for step in training_steps(stripes(24), chosen, 0, sampler=sampler):
        steps.append(step)
        if sampler is not None:
            sampler.update(step.batch.rows, losses[step.batch.rows])
    return steps


def test_without_infobatch_steps_are_counted_one_by_one_and_see_every_image():
    steps = all_steps()
    assert [step.number for step in steps] == list(range(6 * EPOCHS))
    for epoch in range(EPOCHS):
        rows = torch.cat([step.batch.rows for step in steps[6 * epoch : 6 * epoch + 6]])
        assert rows.sort().values.tolist() == list(range(24))


def test_infobatch_takes_fewer_steps_over_the_same_schedule():
    steps = all_steps(torch.arange(24.0))
    numbers = [step.number for step in steps]
    assert len(steps) < 0.85 * 6 * EPOCHS
    assert numbers == sorted(set(numbers)) and numbers[-1] == 6 * EPOCHS - 1
    ends = [max(n for n in numbers if n // 6 == epoch) for epoch in range(EPOCHS)]
    assert ends == [6 * epoch + 5 for epoch in range(EPOCHS)]  # each epoch reaches its own end


def test_the_first_epoch_and_the_last_eighth_see_everything():
    steps = all_steps(torch.arange(24.0))
    for epoch in (0, EPOCHS - 2, EPOCHS - 1):
        own = [step.batch for step in steps if step.number // 6 == epoch]
        assert sum(len(batch.rows) for batch in own) == 24
        assert all((batch.weights == 1).all() for batch in own)
    assert sum(len(s.batch.rows) for s in steps if s.number // 6 == EPOCHS - 3) < 24


def test_the_expected_weight_of_every_image_is_one():
    sampler, losses, total = InfoBatch(24, 4000, rho=RHO, seed=0), torch.arange(24.0), 0
    for epoch in range(4000):
        for batch in epoch_batches(24, BATCH, None, 0, "epoch", epoch, sampler=sampler):
            sampler.update(batch.rows, losses[batch.rows])
            total += torch.zeros(24).index_add(0, batch.rows, batch.weights)
    torch.testing.assert_close(total / 4000, torch.ones(24), atol=0.06, rtol=0)


def test_a_student_under_infobatch_is_trained_by_rescaled_gradients():
    data, epochs, lr = stripes(24), 8, 0.05
    trained = train_student(
        SyntheticSet.from_real(data),
        "convnet3@4",
        protocol(
            steps=6 * epochs,
            batch=BATCH,
            infobatch=RHO,
            lr=lr,
            weight_decay=0,
            labels=Labels(smoothing=0.2),
        ),
        setting(),
        seed=5,
    )
    student = new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=5)
    parameters = list(student.parameters())
    speed, seen_last = [torch.zeros_like(p) for p in parameters], torch.full((24,), torch.nan)
    left_out = 0
    for epoch in range(epochs):
        easy = torch.zeros(24, dtype=torch.bool)
        if 0 < epoch < 7:  # 7/8 of 8 epochs
            easy = seen_last < seen_last.mean()
        draws = torch.rand(24, generator=generator(5, "infobatch", epoch))
        rows = (~easy | (draws >= RHO)).nonzero().squeeze(1)
        left_out += 24 - len(rows)
        order = rows[torch.randperm(len(rows), generator=generator(5, "epoch", epoch))]
        parts = order.split(BATCH)
        for index, part in enumerate(parts):
            losses = F.cross_entropy(
                student(NORMALIZATION(from_uint8(data.images[part]))),
                data.labels[part],
                label_smoothing=0.2,
                reduction="none",
            )
            seen_last[part] = losses.detach()
            weights = torch.where(easy[part], 1 / (1 - RHO), 1.0)
            gradients = torch.autograd.grad((weights * losses).mean(), parameters)
            at = 6 * epoch + math.ceil((index + 1) * 6 / len(parts)) - 1
            rate = lr * (1 + math.cos(math.pi * at / (6 * epochs))) / 2
            with torch.no_grad():
                for p, v, g in zip(parameters, speed, gradients, strict=True):
                    v.mul_(0.9).add_(g)
                    p.sub_(rate * v)
    assert left_out > 10
    for p, value in zip(trained.parameters(), parameters, strict=True):
        torch.testing.assert_close(p, value, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"infobatch": 1.0}, r"infobatch is a probability in \(0, 1\), got 1.0"),
        ({"infobatch": 0.5, "ema": 0.9}, "its own loss; ema: averages count steps"),
        ({"infobatch": 0.5, "mix": "cutmix"}, "its own loss; views.mix: a mixed image"),
        ({"infobatch": 0.5, "source": "online"}, "its own loss; labels.source: soft labels"),
    ],
)
def test_infobatch_is_refused_with_what_hides_an_images_own_loss(changes, message):
    if mix := changes.pop("mix", None):
        changes["views"] = Views(mix=mix)
    if source := changes.pop("source", None):
        changes["labels"] = Labels(source=source, teachers=[Teacher()])
    with pytest.raises(InputError, match=message):
        protocol(**changes)


def test_infobatch_makes_another_protocol_and_none_the_same():
    assert protocol(infobatch=RHO).hash != protocol().hash == protocol(infobatch=None).hash
