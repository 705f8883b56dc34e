import pytest

from latentdc.errors import InputError
from latentdc.priors.classes import class_prompts, spoken_name, warn_of_alike
from latentdc.recipe.subsets import wordnet_ids


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
        class_prompts(["crane", "tench"], "a {}", {"cran": "x"})


def test_imagenets_classes_with_one_name_are_told(capsys):
    warn_of_alike(class_prompts(wordnet_ids(), "a photo of a {}", {}))
    told = capsys.readouterr().err
    assert "classes n02012849, n03126707 have the prompt 'a photo of a crane'" in told
    assert 'prior.names={n02012849: "..."}' in told
