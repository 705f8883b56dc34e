from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator

from latentdc.images import Normalization
from latentdc.prune.measures import accuracy
from latentdc.prune.scorers import ScorerTraining
from latentdc.recipe import Scorer
from tests.prune.toys import colours


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
    accuracy(run.classifier, colours(8), batch=8, accelerator=Accelerator())
    assert not run.classifier.training
    next(epochs)
    assert run.classifier.training


def test_the_last_step_of_the_cosine_hardly_moves():
    moves = [float((b - a).norm()) for a, b in pairwise(weights_after(epochs=12))]
    assert moves[-1] < 0.2 * moves[0]


def test_a_trained_scorer_tells_the_classes_apart():
    run = training(network="convnet3@16", epochs=5, lr=0.1)
    assert list(run.run()) == [0, 1, 2, 3, 4]
    right = accuracy(run.classifier, colours(64, seed=1), batch=64, accelerator=Accelerator())
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
        "latentdc.prune.scorers.fetch",
        lambda images, rows, device: seen.append(rows) or images[rows].float(),
    )
    list(training(rows=torch.tensor([3, 9, 20])).run(1))
    assert torch.cat(seen).sort().values.tolist() == [3, 9, 20]


@pytest.mark.parametrize(
    ("batch", "sizes"), [(31, [32]), (8, [8] * 4), (30, [30, 2]), (1, [1] * 32)]
)
def test_a_single_image_left_over_joins_the_last_batch(batch, sizes):
    run = training(batch=batch)
    batches = run._batches(0)
    assert [len(batch.rows) for batch in batches] == sizes
    assert torch.cat([batch.rows for batch in batches]).sort().values.tolist() == list(range(32))


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
