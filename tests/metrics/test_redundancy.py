"""What students of one increment of a set know of another."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from latentdc.errors import InputError
from latentdc.metrics.redundancy import increments, redundancy
from latentdc.preprocessing import Normalization
from latentdc.synthetic.synthetic_set import SyntheticSet
from tests.evaluate.toys import protocol, setting, stripes

SET = SyntheticSet.from_real(stripes(33))  # 11 of each class
QUICK = protocol(students=["convnet3@8"], steps=40, batch=12, optimizer="adamw", lr=0.01)


def test_increments_are_the_next_images_of_every_class():
    parts = increments(SET, 5)
    assert [len(part) for part in parts] == [15, 15]
    for label in range(3):
        members = SET.images[SET.labels == label]
        for k, part in enumerate(parts):
            own = part.images[part.labels == label]
            assert torch.equal(own, members[5 * k : 5 * k + 5])


def test_increments_alike_are_redundant_and_those_of_other_labels_are_not():
    normal = setting(normalization=Normalization(), accelerator=Accelerator())
    alike = redundancy(SET, 4, QUICK, normal)
    assert alike["each"] == 4 and alike["mean"] > 0.9
    rows = torch.tensor(alike["matrix"])
    assert rows.shape == (2, 2)
    torch.testing.assert_close(alike["mean"], float(rows.fliplr().diagonal().mean()))
    first, second = increments(SET, 4)
    turned = replace(second, labels=(second.labels + 1) % 3)
    both = SyntheticSet(
        torch.cat([first.images, turned.images]),
        torch.cat([first.labels, turned.labels]),
        SET.class_names,
    )
    assert redundancy(both, 4, QUICK, normal)["mean"] < 0.5


def test_the_matrix_has_a_row_for_each_increment_that_was_trained_on(monkeypatch):
    images = [part.images for part in increments(SET, 3)]

    def number(some):
        return next(k for k, one in enumerate(images) if torch.equal(one, some))

    module = "latentdc.metrics.redundancy"
    monkeypatch.setattr(f"{module}.train_student", lambda part, *_, **__: number(part.images))
    monkeypatch.setattr(
        f"{module}.accuracy",
        lambda trained, there: SimpleNamespace(top1=10 * trained + number(there.test.images)),
    )
    normal = setting(normalization=Normalization(), accelerator=Accelerator())
    found = redundancy(SET, 3, QUICK, normal)
    assert found["matrix"] == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert found["mean"] == (1 + 2 + 10 + 12 + 20 + 21) / 6


@pytest.mark.parametrize(("each", "told"), [(6, "take 1 to 5"), (0, "take 1 to 5")])
def test_a_set_without_two_increments_is_refused(each, told):
    with pytest.raises(InputError, match=rf"increments of {each} images .* has 11; .* {told}"):
        increments(SET, each)


def test_a_set_of_one_image_of_each_class_has_no_increments_to_take():
    with pytest.raises(
        InputError, match=r"class of the set has 1; leave out --redundancy"
    ) as refused:
        increments(SET.first_of_each(1), 1)
    assert "take 1 to 0" not in str(refused.value)
