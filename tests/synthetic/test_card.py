import pytest
from huggingface_hub import DatasetCard

from latentdc.errors import InputError
from latentdc.results.result import to_json
from tests.results.toys import table
from tests.synthetic.sets import NAMES, card_of, float_images, random_set


def test_the_front_matter_is_what_the_hub_and_datasets_read():
    data = DatasetCard(card_of(random_set())).data.to_dict()
    assert data["license"] == "unknown"
    assert data["task_categories"] == ["image-classification"]
    assert data["size_categories"] == ["n<1K"]
    assert data["tags"] == ["dataset-distillation", "latentdc"]
    names = data["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert list(names.values()) == list(NAMES)


def test_the_size_category_follows_the_number_of_images():
    data = DatasetCard(card_of(random_set(ipc=250, side=1, z=None, c=None, noise=None))).data
    assert data.size_categories == ["1K<n<10K"]


def test_the_card_tells_how_the_set_was_made_and_how_to_load_it():
    card = card_of(random_set(), recipe="ipc: 2\n")
    assert "# noise, 2 images per class" in card
    assert "- steps: 10" in card
    assert "```yaml\nipc: 2\n```" in card
    assert "Not measured." in card
    assert 'load_dataset("NAME", split="train")' in card
    assert 'SyntheticSet.from_pretrained("NAME")' in card


def test_results_become_a_table_beside_their_plain_values():
    rows = table(**{"distilled": ((0.5, 0.75),), "full|all": ((0.75, 0.75),)})
    card = card_of(random_set(), results={"note": "mine", **to_json(rows)})
    assert "| set | convnet3@4 |\n| --- | ---: |\n| distilled | 62.5 ± 17.7 |\n" in card
    assert "| full\\|all | 75.0 ± 0.0 |" in card and "Test accuracy in %, mean" in card
    assert "- note: mine" in card


def test_results_without_a_plain_value_are_said_not_to_be_measured():
    assert "## Results\n\nNot measured.\n" in card_of(random_set(), results={"rows": []})


@pytest.mark.parametrize(
    "results", [{"results": [1]}, {"version": 5, "protocols": {}, "results": 1}]
)
def test_results_that_do_not_fit_together_are_refused_in_one_line(results, tmp_path):
    with pytest.raises(InputError, match=r"or what latentdc\.results\.result\.to_json gives"):
        random_set().save_pretrained(tmp_path / "set", results=results)
    assert not any(tmp_path.iterdir())


def test_the_card_says_when_pngs_do_not_hold_the_images():
    assert "rounded and clamped" in card_of(random_set(images=float_images()))
    assert "rounded and clamped" not in card_of(random_set())
