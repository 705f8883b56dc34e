import torch

from latentdc.evaluate.class_numbers import beyond_chance, clearly_better, exchanged

TEN = torch.arange(10)
TURNED = TEN.roll(-1)  # the class that another reading gives to each
SWAPPED = torch.tensor([1, 0, *range(2, 10)])


def test_seven_classes_to_none_settle_it_and_six_do_not():
    for right, settled in ((7, True), (6, False)):  # 1 / 128 and 1 / 64, against 1 / 100
        named = torch.where(TEN < right, TURNED, (TEN + 5) % 10)
        assert clearly_better(named, TEN, TURNED) is settled


def test_images_of_one_class_vote_together():
    labels = TEN.repeat_interleave(50)
    one_class = torch.where(labels == 3, TURNED[labels], (labels + 5) % 10)
    assert not clearly_better(one_class, labels, TURNED)  # 50 images to none, and one class
    assert clearly_better(TURNED[labels], labels, TURNED)
    assert not clearly_better(labels, labels, TURNED)


def test_readings_that_differ_in_two_classes_need_both_of_them_and_enough_images():
    for count, settled in ((4, True), (1, False)):  # 8 images to none: 1 / 256; 2: 1 / 4
        labels = TEN.repeat_interleave(count)
        assert clearly_better(SWAPPED[labels], labels, SWAPPED) is settled
    labels = TEN.repeat_interleave(50)
    one_way = torch.where(labels == 0, torch.tensor(1), labels)  # all of class 0 named 1
    assert not clearly_better(one_way, labels, SWAPPED)


def test_chance_is_the_largest_class_and_a_few_classes_that_happen_to_stay():
    labels = TEN.repeat_interleave(20)
    assert beyond_chance(labels, labels, 10)
    assert not beyond_chance(torch.zeros_like(labels), labels, 10)
    three_stay = torch.where(TEN < 3, TEN, 3 + (TEN - 2) % 7)
    assert not beyond_chance(three_stay[labels], labels, 10)  # 30 % of the images, 3 classes
    half = torch.where(torch.arange(200) % 2 == 0, labels, (labels + 3) % 10)
    assert beyond_chance(half, labels, 10)
    uneven = torch.tensor([0] * 90 + [1] * 5 + [2] * 5)  # 50 % named rightly, below the largest
    named = torch.tensor([0] * 44 + [1, 2] * 23 + [1, 1, 1, 0, 0] + [2, 2, 2, 0, 0])
    assert not beyond_chance(named, uneven, 3)
    few = torch.tensor([0, 1, 1])
    assert beyond_chance(few, few, 2) and not beyond_chance(torch.tensor([0, 0, 0]), few, 2)


def test_a_whole_exchange_of_classes_is_found_and_junk_is_none():
    labels = TEN.repeat_interleave(20)
    found = exchanged(TURNED[labels], labels, 10)
    assert found is not None and found.tolist() == TURNED.tolist()
    assert exchanged(SWAPPED[labels], labels, 10) is not None
    assert exchanged(labels, labels, 10) is None
    junk = torch.randint(0, 10, (200,), generator=torch.Generator().manual_seed(0))
    assert exchanged(junk, labels, 10) is None
