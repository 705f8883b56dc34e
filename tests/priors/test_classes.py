"""Whether a data set and a prior mean the same classes, whatever they call them."""

from types import SimpleNamespace

import pytest

from latentdc.errors import InputError
from latentdc.priors.classes import class_prompts, match_classes, spoken_name, warn_of_alike
from latentdc.priors.load import load_prior
from latentdc.recipe import PriorSettings
from latentdc.recipe.subsets import imagenet_synonyms, wordnet_ids

HUMAN = tuple(str(imagenet_synonyms(name)) for name in wordnet_ids())  # as DiT names its classes
FIRST = tuple(name.split(",")[0] for name in HUMAN)


def match(names, known):
    return match_classes(tuple(names), SimpleNamespace(class_names=tuple(known))).tolist()


def test_names_match_in_whichever_form_unicode_writes_them():
    assert match(["caf\xe9", "a"], ["a", "cafe\u0301"]) == [1, 0]


@pytest.mark.parametrize("known", [wordnet_ids(), HUMAN, FIRST], ids=["wnid", "all", "first"])
@pytest.mark.parametrize("data", [wordnet_ids(), HUMAN, FIRST], ids=["wnid", "all", "first"])
def test_the_whole_of_imagenet_matches_by_any_of_its_names(data, known):
    assert match(data, known) == list(range(1000))


@pytest.mark.parametrize("known", [wordnet_ids(), HUMAN], ids=["wnid", "human"])
def test_a_few_classes_are_found_by_id_and_by_name(known):
    names = ("n02979186", "golf_ball", "tench, Tinca tinca", "church")
    assert match(names, known) == [482, 574, 0, 497]


def test_order_follows_the_names_of_the_prior_and_not_their_position():
    assert match(wordnet_ids(), HUMAN[::-1])[:3] == [999, 998, 997]
    assert match(("n01443537", "tench"), ("goldfish", "n01440764")) == [0, 1]


def test_names_that_imagenet_has_not_match_when_they_are_equal():
    assert match(("dog", "cat"), ("bird", "cat", "dog")) == [2, 1]


def test_a_name_that_two_classes_share_is_refused_with_their_ids():
    with pytest.raises(InputError, match=r"those of ImageNet: .*'crane'.*n02012849, n03126707"):
        match(("tench", "crane"), HUMAN)


def test_a_class_that_is_not_among_a_few_is_refused():
    with pytest.raises(InputError, match=r"knows 2 classes \(tench, n01443537, ...\), but not"):
        match(("n01440764", "church"), ("tench", "n01443537"))


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("n01440764", "tench"),
        ("tench, Tinca tinca", "tench"),
        ("English_springer", "English springer"),
        ("n99999999", "n99999999"),
        ("7", "7"),
    ],
)
def test_a_class_is_called_by_its_first_synonym_in_words(name, spoken):
    assert spoken_name(name) == spoken


def test_the_template_takes_the_name_or_what_is_written_for_it():
    made = class_prompts(
        ["n01440764", "crane"], "a {} from above", {"crane": "crane {lifting machine}"}
    )
    assert made == {
        "n01440764": "a tench from above",
        "crane": "a crane {lifting machine} from above",
    }


def test_a_name_for_a_class_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"prior\.names: .* no class 'cran'; did you mean 'crane'"):
        load_prior(
            PriorSettings(kind="pixel", names={"cran": "x"}),
            resolution=8,
            class_names=["crane", "tench"],
        )


def test_imagenets_classes_with_one_name_are_told(capsys):
    warn_of_alike(class_prompts(wordnet_ids(), "a photo of a {}", {}))
    told = capsys.readouterr().err
    assert "classes n02012849, n03126707 have the prompt 'a photo of a crane'" in told
    assert 'prior.names={n02012849: "..."}' in told
