"""Students at the learning rate that was learned with a set."""

import pytest

from latentdc.errors import InputError
from latentdc.evaluate import load_protocol
from latentdc.recipe.protocol import EvalProtocol
from tests.evaluate.toys import protocol


def test_a_learned_rate_is_that_of_all_students_and_makes_another_protocol():
    ld3m = load_protocol("ld3m")
    learned = ld3m.with_learned_lr(0.02)
    assert {learned.lr_for(student) for student in learned.students} == {0.02}
    assert learned.name == "ld3m with learned lr"
    assert len({ld3m.hash, learned.hash, ld3m.with_learned_lr(0.03).hash}) == 3


def test_a_learned_rate_settles_what_the_sources_leave_open_of_rates_alone():
    assert load_protocol("mtt").unsettled == ["lr"]
    open_one = load_protocol("mtt", changes=["unsettled=[lr,lr_of.vgg11,batch]"])
    assert open_one.with_learned_lr(0.02).unsettled == ["batch"]


def test_a_rate_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="a rate of SGD, and its optimizer is adamw"):
        load_protocol("quick").with_learned_lr(0.02)
    sgd: EvalProtocol = protocol()
    with pytest.raises(InputError, match="the set has no learned lr"):
        sgd.with_learned_lr(None)
