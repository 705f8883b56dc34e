from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from latentdc.augment.dsa import augment, draw_augmentation
from latentdc.augment.geometry import central_part
from latentdc.augment.views import draw_views, view
from latentdc.draws import generator
from latentdc.errors import RunError
from latentdc.evaluate.setting import accuracy
from latentdc.evaluate.steps import TrainingStep, training_steps
from latentdc.evaluate.training import label_loss, new_optimizer, train_student
from latentdc.images import from_uint8
from latentdc.networks import build_network, new_network
from latentdc.preprocessing import Normalization
from latentdc.recipe.labels import Labels, Teacher, Views
from latentdc.synthetic import SyntheticSet
from latentdc.training import Batch
from tests.evaluate.toys import protocol, setting, stripes

NORMALIZATION = Normalization()


def train(dataset, *, network="convnet3@4", seed=0, **changes):
    if not isinstance(dataset, SyntheticSet):
        dataset = SyntheticSet(dataset.images, dataset.labels, dataset.class_names)
    return train_student(dataset, network, protocol(**changes), setting(), seed=seed)


def assert_same(one, other):
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def by_hand(dataset, *, steps, batch, lr, augmentation=None, momentum=0.9, decay=5e-4):
    """SGD written out, with its batches and augmentations; the weights after each step."""
    student = new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=0)
    parameters = list(student.parameters())
    speed = [torch.zeros_like(p) for p in parameters]
    history, epoch, queue = [], 0, []
    for step in range(steps):
        if not queue:
            source = generator(0, "epoch", epoch)
            queue = list(torch.randperm(len(dataset), generator=source).split(batch))
            epoch += 1
        rows = queue.pop(0)
        images = NORMALIZATION(from_uint8(dataset.images[rows]))
        images = augment(images, draw_augmentation(augmentation, source, samples=len(rows)))
        loss = F.cross_entropy(student(images), dataset.labels[rows])
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, speed, gradients, strict=True):
                v.mul_(momentum).add_(g + decay * p)
                p.sub_(lr(step) * v)
        history.append([p.detach().clone() for p in parameters])
    return history


def test_training_is_sgd_over_shuffled_epochs_with_a_short_last_batch():
    data = stripes(21)
    trained = train(data, steps=7, batch=8, lr=0.05, schedule="constant", augment="crop_flip")
    expected = by_hand(data, steps=7, batch=8, lr=lambda step: 0.05, augmentation="crop_flip")
    for p, value in zip(trained.parameters(), expected[-1], strict=True):
        torch.testing.assert_close(p, value, rtol=1e-4, atol=1e-5)


def test_an_epoch_of_a_part_sees_other_images_until_all_were_seen():
    chosen = protocol(steps=24, batch=4, subset=0.3)  # 6 of 21, in 2 steps
    steps = list(training_steps(stripes(21), chosen, 0))
    assert [step.number for step in steps] == list(range(24))
    assert [len(step.batch.rows) for step in steps] == [4, 2] * 12
    epochs = [
        torch.cat([a.batch.rows, b.batch.rows])
        for a, b in zip(steps[::2], steps[1::2], strict=True)
    ]
    assert all(len(rows.unique()) == 6 for rows in epochs)
    rounds = [
        torch.cat(epochs[start : start + 4]) for start in (0, 4, 8)
    ]  # 24 places for 21 images
    for rows in rounds:
        assert rows.unique().tolist() == list(range(21))
    assert len({tuple(rows.tolist()) for rows in rounds}) == 3


def test_a_step_on_a_set_with_weights_goes_along_the_weighed_gradient():
    weights = torch.arange(1.0, 13.0)
    data = replace(SyntheticSet.from_real(stripes(12)), weights=weights)
    settings = {"steps": 1, "batch": 12, "lr": 0.05, "weight_decay": 0, "schedule": "constant"}
    trained = train(data, **settings)
    student = new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=0)
    logits = student(NORMALIZATION(from_uint8(data.images)))
    losses = F.cross_entropy(logits, data.labels, reduction="none")
    gradients = torch.autograd.grad((weights * losses).sum() / weights.sum(), student.parameters())
    for new, old, gradient in zip(
        trained.parameters(), student.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(new, old - 0.05 * gradient)
    assert_same(train(replace(data, weights=7 * weights), **settings), trained)


def test_a_mixed_image_weighs_as_its_two_images_do_by_their_shares():
    weights, seen = torch.arange(1.0, 13.0), Views(mix="mixup")
    data = replace(SyntheticSet.from_real(stripes(12)), weights=weights)
    settings = {"steps": 1, "batch": 12, "lr": 0.05, "weight_decay": 0, "schedule": "constant"}
    trained = train(data, seed=5, views=seen, **settings)
    student = new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=5)
    draws = draw_views(seen, count=12, size=8, seed=5, epoch=0)
    kept, partner = draws["kept"], draws["partner"]
    own, classes = weights / weights.mean(), F.one_hot(data.labels).float()
    mixed = kept * own + (1 - kept) * own[partner]
    targets = kept[:, None] * classes + (1 - kept[:, None]) * classes[partner]
    shown = view(data.images, torch.arange(12), draws, torch.device("cpu"))
    losses = -(targets * student(NORMALIZATION(shown)).log_softmax(dim=1)).sum(dim=1)
    gradients = torch.autograd.grad((mixed * losses).mean(), student.parameters())
    for new, old, gradient in zip(
        trained.parameters(), student.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(new, old - 0.05 * gradient)


def test_the_learning_rate_follows_the_schedule_in_updates_of_several_steps():
    data = stripes(12)
    trained = train(data, steps=6, batch=6, lr=0.1, schedule="warmup-cosine", update_every=2)
    rates = [1e-8, 1e-8, 0.1, 0.1, 0.05, 0.05]  # updates 0, 1, 2: half = 1
    expected = by_hand(data, steps=6, batch=6, lr=lambda step: rates[step])
    for p, value in zip(trained.parameters(), expected[-1], strict=True):
        torch.testing.assert_close(p, value, rtol=1e-4, atol=1e-5)


def test_the_average_is_the_mean_of_the_last_steps_of_each_update():
    data = stripes(12)
    settings = {"steps": 6, "batch": 6, "lr": 0.05, "schedule": "constant", "update_every": 2}
    trained = train(data, ema=0.99, **settings)
    history = by_hand(data, steps=6, batch=6, lr=lambda step: 0.05)
    for index, p in enumerate(trained.parameters()):
        mean = (history[1][index] + history[3][index] + history[5][index]) / 3
        torch.testing.assert_close(p, mean, rtol=1e-4, atol=1e-5)


def test_the_average_takes_batch_statistics_as_they_are():
    plain = train(stripes(12), network="resnet20@2", steps=3)
    averaged = train(stripes(12), network="resnet20@2", steps=3, ema=0.9)
    torch.testing.assert_close(averaged.bn1.running_mean, plain.bn1.running_mean)
    assert not torch.equal(averaged.conv1.weight, plain.conv1.weight)


def test_a_student_follows_from_its_seed_alone():
    data = stripes(12)
    settings = {"network": "vit@8", "augment": "color_crop_cutout_flip_scale_rotate", "batch": 4}
    first = train(data, **settings)
    torch.rand(5)  # another state of the global stream, from which dropout draws
    assert_same(first, train(data, **settings))
    other = train(data, seed=1, **settings)
    assert not torch.equal(first.linear.weight, other.linear.weight)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.05), ("adamw", 0.01)])
def test_students_learn_stripes_and_floats_teach_what_levels_do(optimizer, lr):
    data, test = stripes(30), stripes(60, seed=1)
    settings = {"steps": 80, "optimizer": optimizer, "lr": lr, "batch": 30}
    trained = train(data, network="convnet3@8", **settings)
    share = accuracy(trained, setting(test))
    assert share.top1 > 0.9
    floats = SyntheticSet(from_uint8(data.images), data.labels, data.class_names)
    assert_same(trained, train(floats, network="convnet3@8", **settings))


def test_a_training_that_diverges_ends_with_a_word_about_the_learning_rate():
    with pytest.raises(RunError, match=r"convnet3@4 with seed 0 ended with a loss of nan"):
        train(stripes(12), steps=30, lr=1e30)


def test_accuracy_counts_every_image_once_and_in_eval_mode():
    data = stripes(23)
    network = build_network("resnet20@4", num_classes=3, resolution=8).train()
    shares = {accuracy(network, setting(data), batch=b) for b in (1, 7, 50)}
    with torch.no_grad():
        logits = network.eval()(NORMALIZATION(from_uint8(data.images)))
    assert shares == {(int((logits.argmax(1) == data.labels).sum()) / 23, None)}


def test_top_5_counts_the_right_class_among_the_five_largest_logits():
    data = stripes(23)
    labels = torch.randint(8, (23,), generator=torch.Generator().manual_seed(0))
    network = new_network("convnet3@4", num_classes=8, resolution=8, seed=0)
    data = replace(data, labels=labels, class_names=tuple("abcdefgh"))
    share = accuracy(network, setting(data), batch=7)
    with torch.no_grad():
        logits = network.eval()(NORMALIZATION(from_uint8(data.images)))
    better = (logits > logits.gather(1, labels[:, None])).sum(dim=1)  # classes before the right one
    assert share == (int((better < 1).sum()) / 23, int((better < 5).sum()) / 23)
    assert share.top1 < share.top5 < 1


def parts(optimizer):
    """Weight decay by the dimensions of what it decays."""
    return {
        p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decay_of_matrices_spares_norms_and_biases(name):
    student = build_network("convnet3@4", num_classes=3, resolution=8)
    settings = {"optimizer": name, "weight_decay": 0.3}
    every = new_optimizer(student, "convnet3@4", protocol(**settings))
    assert parts(every) == {1: 0.3, 2: 0.3, 4: 0.3}
    some = new_optimizer(student, "convnet3@4", protocol(decay="matrices", **settings))
    assert parts(some) == {1: 0.0, 2: 0.3, 4: 0.3}
    assert sum(len(group["params"]) for group in some.param_groups) == len([*student.parameters()])


def test_nesterovs_momentum_looks_ahead():
    data = stripes(8)
    trained = train(data, steps=3, batch=8, lr=0.05, schedule="constant", nesterov=True)
    student = new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=0)
    theirs = torch.optim.SGD(
        student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    for _ in range(3):
        theirs.zero_grad()
        F.cross_entropy(student(NORMALIZATION(from_uint8(data.images))), data.labels).backward()
        theirs.step()
    torch.testing.assert_close(trained.linear.weight, student.linear.weight)


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("torchvision/swin_t", "relative_position_bias_table"),
        ("torchvision/convnext_tiny", "layer_scale"),
        ("torchvision/vit_b_16", "class_token"),
        ("vit@8", "position"),
    ],
)
def test_decay_of_matrices_is_of_those_named_weight(name, spared):
    """The rule of SRe2L's code, and of RDED's, EDC's, LPLD's and rethinkdc's."""
    with torch.device("meta"):
        student = build_network(name, num_classes=10, resolution=32)
    some = new_optimizer(student, name, protocol(decay="matrices", weight_decay=0.3))
    decayed = {id(p) for p in some.param_groups[0]["params"]}
    for key, parameter in student.named_parameters():
        assert (id(parameter) in decayed) == ("weight" in key and parameter.ndim > 1)
    assert any(spared in key and p.ndim > 1 for key, p in student.named_parameters())
    assert [group.get("weight_decay") for group in some.param_groups] == [0.3, 0.0]


def test_a_soft_weight_multiplies_the_soft_loss_alone():
    logits = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    taught = torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1])

    def loss(**settings):
        own = Labels(source="fixed", loss="kl", temperature=2, teachers=[Teacher()], **settings)
        step = TrainingStep(0, Batch(torch.arange(2), None), {})
        return label_loss(logits, labels, step, own, taught)

    p, q = (taught / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum() / 2
    hard = F.cross_entropy(logits, labels)
    torch.testing.assert_close(loss(), divergence)
    for weight in (4.0, 0.5):
        torch.testing.assert_close(loss(soft_weight=weight), weight * divergence)
    weighted = loss(soft_weight=4.0, hard_weight=0.5)
    torch.testing.assert_close(weighted, 4 * divergence + 0.5 * hard)


def test_an_average_per_step_has_a_constant_decay():
    data = stripes(12)
    settings = {"steps": 4, "batch": 6, "lr": 0.05, "schedule": "constant", "update_every": 2}
    trained = train(data, ema=0.7, ema_every="step", **settings)
    expected = list(
        new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=0).parameters()
    )
    for weights in by_hand(data, steps=4, batch=6, lr=lambda step: 0.05):
        expected = [0.7 * e + 0.3 * w for e, w in zip(expected, weights, strict=True)]
    for p, value in zip(trained.parameters(), expected, strict=True):
        torch.testing.assert_close(p, value, rtol=1e-4, atol=1e-5)


def test_students_see_the_views_of_their_seed_and_epoch_with_mixed_targets():
    data, seen = stripes(10), Views(pad=1, flip=True, mix="mixup")
    trained = train(data, steps=4, batch=5, lr=0.05, schedule="constant", views=seen, seed=5)
    student = new_network("convnet3@4", "student", num_classes=3, resolution=8, seed=5)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    classes = F.one_hot(data.labels).float()
    for epoch in range(2):
        draws = draw_views(seen, count=10, size=8, seed=5, epoch=epoch)
        order = torch.randperm(10, generator=generator(5, "epoch", epoch))
        for rows in order.split(5):
            kept = draws["kept"][rows, None]
            target = kept * classes[rows] + (1 - kept) * classes[draws["partner"][rows]]
            shown = view(data.images, rows, draws, torch.device("cpu"))
            optimizer.zero_grad()
            logs = student(NORMALIZATION(shown)).log_softmax(dim=1)
            (-(target * logs).sum(dim=1).mean()).backward()
            optimizer.step()
    torch.testing.assert_close(trained.linear.weight, student.linear.weight)


def test_only_the_central_part_of_test_images_is_scored_where_the_protocol_says_so():
    data = stripes(30)
    network = new_network("convnet3@4", num_classes=3, resolution=8, seed=0)
    part = central_part(from_uint8(data.images), 0.5)
    with torch.no_grad():
        right = (network.eval()(NORMALIZATION(part)).argmax(1) == data.labels).float().mean()
    share = accuracy(network, setting(data), crop=0.5)
    assert share.top1 == pytest.approx(float(right))
