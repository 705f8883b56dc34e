import yaml

from latentdc.priors.training import prior_card
from latentdc.recipe import Data
from latentdc.recipe.prior_training import PriorRecipe

FACTS = {
    "parameters": [1, 2, 3],
    "seconds": [60, 120],
    "held_out_images": 5,
    "psnr_db": 20.0,
    "steps": [4, 6],
    "machine": "cpu",
    "threads": 1,
    "torch": "2",
}


def test_what_people_write_stays_in_its_cell_of_the_card():
    recipe = PriorRecipe(
        data=Data(source="`a`|<b>"), licence="mine | yours\n---\n<script>x</script> `y`"
    )
    card = prior_card(recipe, "small", {**FACTS, "command": "train x [a|b]\n| y | z |"})
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["license"] == recipe.licence
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [3] * 7
    assert "<script>" not in body and "<b>" not in body.replace(r"\<b\>", "")
    assert r"| command | `train x [a\|b] \| y \| z \|` |" in body
