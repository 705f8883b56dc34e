"""What a recipe may name is what the tables of priors and objectives hold."""

from typing import get_args, get_type_hints

import pytest

from latentdc.objectives.build import OBJECTIVES
from latentdc.priors.load import LOADERS
from latentdc.recipe import ObjectiveSettings, PriorSettings
from latentdc.recipe.own import resolve


@pytest.mark.parametrize(
    ("settings", "table"), [(PriorSettings, LOADERS), (ObjectiveSettings, OBJECTIVES)]
)
def test_every_kind_has_its_line_in_a_table(settings, table):
    named, _ = get_args(get_type_hints(settings)["kind"])  # kinds, or a name of one's own
    assert {*get_args(named)} == {*table}
    for made in table.values():
        assert callable(resolve(made, "kind") if isinstance(made, str) else made)
