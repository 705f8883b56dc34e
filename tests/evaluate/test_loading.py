import pytest

from latentdc.errors import InputError
from latentdc.evaluate.loading import check_names, protocol_words


def test_protocols_their_changes_and_the_recipes_keys_are_told_apart():
    for text in ("[\"quick\", 'rdc-hard']", "quick, rdc-hard", "[quick,rdc-hard]"):
        assert protocol_words([f"protocol={text}"])[0] == ["quick", "rdc-hard"]
    words = ["protocol=[quick, rdc-hard]", "protocol.epochs=3", "evaluate.seeds=1", "protocol=pca"]
    names, changes, others = protocol_words(words)
    assert names == ["quick", "rdc-hard", "pca"]
    assert (changes, others) == (["epochs=3"], ["evaluate.seeds=1"])
    for wrong in ([""], ["quick", "quick"]):
        with pytest.raises(InputError, match=r"takes different names, .* latentdc brings ccs-"):
            check_names(wrong)
