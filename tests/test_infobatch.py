import torch

from latentdc.infobatch import InfoBatch


def sampler(**keys):
    made = InfoBatch(1000, 8, seed=0, **keys)
    made.update(torch.arange(1000), torch.arange(1000.0))
    return made


def test_the_first_epoch_sees_everything():
    rows, weights = InfoBatch(10, 8).epoch(0)
    assert rows.tolist() == list(range(10)) and (weights == 1).all()


def test_only_images_below_the_mean_loss_are_left_out_and_the_rest_of_them_count_more():
    rows, weights = sampler(rho=0.75).epoch(3)
    assert set(range(500, 1000)) <= set(rows.tolist())
    easy = rows < 500
    assert (weights[easy] == 4).all() and (weights[~easy] == 1).all()
    assert 90 < int(easy.sum()) < 160  # 125 expected


def test_the_weighted_sum_of_gradients_has_the_mean_of_the_whole():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    made = InfoBatch(1000, 10**6, rho=0.5, delta=1, seed=0)
    made.update(torch.arange(1000), values)
    sums = []
    for epoch in range(400):
        rows, weights = made.epoch(epoch)
        sums.append(float((weights * values[rows]).sum()))
    assert abs(sum(sums) / 400 / float(values.sum()) - 1) < 0.005


def test_the_last_epochs_see_everything_with_weight_one_for_any_number_of_epochs():
    for epochs in (8, 9, 90, 100):
        made = InfoBatch(20, epochs, delta=0.875)
        made.update(torch.arange(20), torch.arange(20.0))
        rows, weights = made.epoch(epochs - 1)
        assert len(rows) == 20 and (weights == 1).all()
        assert len(made.epoch(epochs // 2)[0]) < 20


def test_draws_follow_from_seed_and_epoch():
    one = sampler()
    assert torch.equal(one.epoch(2)[0], sampler().epoch(2)[0])
    assert not torch.equal(one.epoch(2)[0], one.epoch(3)[0])
