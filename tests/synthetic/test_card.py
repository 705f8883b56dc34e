import re

import pytest
import torch
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
    assert data["tags"] == ["dataset-distillation", "latentdc", "ipc-2"]
    assert "source_datasets" not in data, "noise is no name of the Hub"
    names = data["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert list(names.values()) == list(NAMES)


def test_the_size_category_follows_the_number_of_images():
    data = DatasetCard(card_of(random_set(ipc=250, side=1, z=None, c=None, noise=None))).data
    assert data.size_categories == ["1K<n<10K"]


def test_the_card_tells_how_the_set_was_made_and_how_to_load_it():
    card = card_of(random_set(), recipe="ipc: 2\n")
    assert "# noise, 2 images per class" in card
    assert "- steps: 10" in card
    folded = "<details>\n<summary>Recipe</summary>\n\n```yaml\nipc: 2\n```\n\n</details>"
    assert folded in card
    assert "Not measured." in card
    assert 'load_dataset("NAME", split="train")' in card
    assert 'SyntheticSet.from_pretrained("NAME")' in card


def test_results_become_a_table_beside_their_plain_values():
    rows = table(**{"distilled": ((0.5, 0.75),), "full|all": ((0.75, 0.75),)})
    card = card_of(random_set(), results={"note": "mine", **to_json(rows)})
    assert "| set | convnet3@4 |\n| --- | ---: |\n| distilled | 62.5 ± 17.7 |\n" in card
    assert "| full\\|all | 75.0 ± 0.0 |" in card and "Test accuracy in %, mean" in card
    assert "- note: mine" in card and "version: " not in card.partition("## How")[0]


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


LD3M = {"method": "matching", "prior": "diffusion", "objective": "dm"}
MGD3 = {"mode": {"scale": 0.1}, "features": {"scale": 0.0}, "anchors": {"kind": "centres"}}
D3HR = {"start": "noise", "anchors": {"kind": "gaussian"}}


@pytest.mark.parametrize(
    ("provenance", "papers"),
    [
        (LD3M, ["2403.03881", "2110.04181"]),
        ({**LD3M, "prior": "pixel", "objective": "dc"}, ["2006.05929"]),
        ({"method": "rded"}, ["2312.03526"]),
        ({"method": "sampling", "settings": MGD3}, ["2505.18963"]),
        (
            {"method": "sampling", "settings": {**D3HR, "start": "anchors"}},
            ["2407.15138", "2505.18399"],
        ),
        ({"method": "package.module:mine#123456789012", "settings": {"a": "1"}}, []),
        ({}, []),
    ],
)
def test_the_papers_of_a_method_are_linked_and_are_tags(provenance, papers):
    card = card_of(random_set(provenance={"dataset": "uoft-cs/cifar10", **provenance}))
    data = DatasetCard(card).data
    assert [tag for tag in data.tags if tag.startswith("arxiv")] == [f"arxiv:{p}" for p in papers]
    assert data.to_dict()["source_datasets"] == ["uoft-cs/cifar10"]
    assert all(f"- paper: https://arxiv.org/abs/{paper}\n" in card for paper in papers)


def test_a_set_of_unequal_classes_has_no_tag_of_its_ipc():
    made = random_set().rows(torch.arange(7))
    assert DatasetCard(card_of(made)).data.tags == ["dataset-distillation", "latentdc"]


def test_the_card_tells_how_to_repeat_it():
    made = {"date": "2026-01-02", "data_hash": "0123456789abcdef", "latentdc": "0.1", "torch": "3"}
    provenance = {"dataset": "noise", "made": {**made, "commit": None, "threads": 1}}
    card = card_of(random_set(provenance=provenance), recipe="ipc: 2\n")
    part = card.partition("## How to repeat it\n\n")[2].partition("\n## ")[0]
    assert part.startswith(
        "- Date: 2026-01-02\n- Fingerprint of the training split: 0123456789abcdef\n"
        "- latentdc: 0.1\n- torch: 3\n\n```bash\nhf download NAME recipe.yaml "
    )
    assert "latentdc distill repeat/recipe.yaml\n" in part
    assert "Its recipe was not recorded." in card_of(random_set())


TRAPS = (
    "</details><script>alert(1)</script>",
    "<!-- latentdc: end. -->",
    "[a](javascript:b)",
    "`*_|$",
)


def test_text_of_others_stays_text_in_the_card():
    names = tuple(f"{trap}\n# {n}" for n, trap in enumerate(TRAPS))
    provenance = {"dataset": TRAPS[0], TRAPS[1]: TRAPS[2], "made": {"device": TRAPS[0]}}
    recipe = "data: {source: '```\n</details><script>alert(1)</script>'}\n"
    made = random_set(class_names=names, provenance=provenance)
    card = DatasetCard(card_of(made, recipe=recipe, results={"note": TRAPS[3]}))
    labels = card.data.to_dict()["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert list(labels.values()) == list(names)
    markdown_it = pytest.importorskip("markdown_it")
    page = markdown_it.MarkdownIt("commonmark").render(card.text)
    assert page.count("<script>") == 0 and page.count("</details>") == 1
    assert "javascript:" not in re.sub(r"\[a\]\(javascript:b\)", "", page)
